//! A notification as it stands in the topic `hooks.outbox`: exactly six fields.

use serde::Serialize;

/// What is written: texts, borrowed or not, and a message.
#[derive(Debug, Serialize)]
pub(crate) struct Notification<T, M> {
    pub(crate) application: T,
    pub(crate) event_type: T,
    pub(crate) level: Option<T>,
    pub(crate) account_id: T,
    /// RFC 3339.
    pub(crate) timestamp: String,
    pub(crate) message: M,
}
