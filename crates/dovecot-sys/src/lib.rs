//! Dovecot's push-notification driver interface, made safe.
//!
//! The C shim in `shim/` is compiled against the installed headers and flattens Dovecot's
//! structures; this crate turns the result into the trait [`Driver`] and a few functions in
//! [`host`]. No decision about events is made here.
//!
//! Invariants, each kept in one place:
//! - No panic crosses `extern "C"`: every callback runs behind [`boundary`]. After the first panic
//!   the driver is off for the rest of the process and Dovecot goes on.
//! - Dovecot is called from its main thread only: what calls it needs a value that exists only
//!   there ([`User`], [`Transaction`]) or is documented so in [`host`] and checked at run time.
//! - Nothing borrowed from Dovecot outlives the callback: lifetimes say so.

mod adapter;
mod boundary;
mod event;
pub mod host;
mod raw;
pub mod version;

pub use adapter::{Driver, Transaction, User, UserHandle, Wanted, register, unregister};
pub use event::{Content, FlagChange, MailboxEvent, MailboxStatus, Message, Strings};
