//! Notifications, and the decision which endpoints get them.
//!
//! No I/O, no clock, no async: everything here is a function of its input. Records come in as they
//! stand in the log; what becomes of a notification that an endpoint gets is the dispatcher's.

#![forbid(unsafe_code)]

mod canonical;
pub mod condition;
pub mod content;
mod event;
pub mod filter;
pub mod id;
pub mod index;
pub mod notification;
pub mod outbox;
pub mod transactions;

pub use condition::{Condition, ConditionError};
pub use content::Content;
pub use event::{DOVECOT, EventAccount};
pub use filter::{Choice, Filter};
pub use id::{EndpointId, NotificationId, OrderKey};
pub use index::Index;
pub use notification::{BadNotification, Notification, Transaction};
pub use transactions::Part;
