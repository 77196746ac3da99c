//! The dispatcher: reads the log, has drivers deliver what endpoints want, keeps what is owed.
//!
//! Which endpoints a notification is for is decided in `dovecast-notification`; how a delivery reaches an endpoint is in the drivers,
//! all SQL is in the store.

#![forbid(unsafe_code)]

pub mod work;
