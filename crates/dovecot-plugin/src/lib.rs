//! The Dovecot plugin `push_notification_kafka`: a driver for the push-notification framework that
//! renders mail-store events as JSON and publishes them to Kafka, from within the process or
//! through the relay of this host.
//!
//! Runs inside imap, lmtp, lda, doveadm and every other mail process, and must never delay or break
//! one:
//! - nothing waits in a callback; the only bounded wait is at process exit ([`transport`]);
//! - a panic turns the driver off, not the process (`dovecot-sys`, boundary);
//! - a wrong option turns one instance off and says so; its init does not fail, or Dovecot would
//!   skip every later driver.
//!
//! Unsafe code here is only the four symbols that Dovecot's module loader looks up.

mod error_log;
mod exports;
mod instance;
#[cfg(feature = "kafka")]
mod kafka;
mod losses;
mod record;
mod relay;
mod selection;
mod shorten;
mod transaction;
mod transport;
