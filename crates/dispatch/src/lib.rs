//! The dispatcher: reads the log, has drivers deliver what endpoints want, keeps what is owed.
//!
//! Which endpoints a notification is for is decided in `dovecast-notification`; how a delivery
//! reaches a receiver is behind the port `driver`, what is kept behind the port `work::ledger`.

#![forbid(unsafe_code)]

pub mod driver;
pub mod work;
