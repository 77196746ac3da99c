//! The dispatcher: what a notification is, which endpoints get it, and that they do.
//!
//! `notification`, `filter`, `index` and `condition` decide, without I/O, clock or async. `work` acts: reads the log, has drivers
//! deliver, keeps what is owed. How a delivery reaches an endpoint is in the drivers, all SQL is in the store.

#![forbid(unsafe_code)]

pub mod condition;
pub mod filter;
pub mod index;
pub mod notification;
pub mod work;

pub use condition::{Condition, ConditionError};
pub use filter::{Choice, EndpointId, Filter};
pub use index::Index;
pub use notification::{BadNotification, Notification, NotificationId};
