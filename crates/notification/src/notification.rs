//! Notifications: what stands in a record of `hooks.outbox` or of a topic of events.
//!
//! A record of `hooks.outbox` is a JSON object with exactly the six fields of hooks-backend. An event of Dovecot is a
//! notification of the application `dovecot`: its kind is the event type, it has no level, and its JSON is the message.

use bytes::Bytes;

use crate::NotificationId;

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Id of the notification.
    pub id: NotificationId,
    /// External name of the application.
    pub application: Box<str>,
    /// External id of the event type.
    pub event_type: Box<str>,
    /// External id of the level.
    pub level: Option<Box<str>>,
    /// Number of the account whose filters are asked.
    pub account: Box<str>,
    /// JSON.
    pub timestamp: Bytes,
    /// JSON.
    pub message: Bytes,
}

/// Why a record is no notification. It goes to dead letters with this, so it never cites all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNotification {
    /// Not JSON, a field is missing or too many, or of another type.
    #[error("not a notification: {0}")]
    Outbox(String),
    /// Not an event of the plugin.
    #[error("not an event: {0}")]
    Event(String),
    /// The event has no user whose domain could be the account.
    #[error("the user `{0}` has no domain to be the account")]
    NoDomain(String),
}

impl Notification {
    /// How long everything is together that a condition can name.
    pub fn bytes(&self) -> usize {
        self.message.len()
            + self.timestamp.len()
            + self.application.len()
            + self.event_type.len()
            + self.account.len()
            + self.level.as_deref().map_or(0, str::len)
    }

    /// What is sent to endpoints: the body of hooks-backend.
    pub fn body(&self) -> Bytes {
        let text = |out: &mut Vec<u8>, text: &str| {
            // Writing a str into a Vec cannot fail.
            let _ = serde_json::to_writer(out, text);
        };
        let mut out = Vec::with_capacity(self.message.len() + 160);
        out.extend_from_slice(b"{\"timestamp\":");
        out.extend_from_slice(&self.timestamp);
        out.extend_from_slice(b",\"application\":");
        text(&mut out, &self.application);
        out.extend_from_slice(b",\"event_type\":");
        text(&mut out, &self.event_type);
        out.extend_from_slice(b",\"level\":");
        match &self.level {
            Some(level) => text(&mut out, level),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"message\":");
        out.extend_from_slice(&self.message);
        out.push(b'}');
        out.into()
    }
}

#[cfg(test)]
mod tests;
