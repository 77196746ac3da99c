//! What the dispatcher decides: what a notification is, which endpoints get it, how it is written for them.
//!
//! No I/O, no clock, no async: records of the log go in, decisions come out. The workers that act on them are in
//! the server; how a delivery reaches an endpoint is in the drivers.

#![forbid(unsafe_code)]

pub mod condition;
pub mod filter;
pub mod index;
pub mod notification;

pub use condition::{Condition, ConditionError};
pub use filter::{Choice, EndpointId, Filter};
pub use index::Index;
pub use notification::{BadNotification, Notification, NotificationId};
