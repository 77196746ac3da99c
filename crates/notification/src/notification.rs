//! Notifications: what stands in a record of `hooks.outbox` or of a topic of events.
//!
//! Key and headers of the record go with it, so that a driver can hand on all that is known.

use bytes::Bytes;
use dovecast_event::{Header, header_name};
use uuid::Uuid;

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
    /// Key of the record: the mail user, for an event.
    pub key: Option<Bytes>,
    /// Headers of the record.
    pub headers: Vec<Header>,
}

/// A place in a mailbox transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Names the transaction.
    pub id: Uuid,
    /// Place of the event, from 0.
    pub seq: u32,
    /// Whether the event is the last of its transaction.
    pub is_last: bool,
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
    /// Not what was kept of a notification.
    #[error("not the canonical form of a notification: {0}")]
    Canonical(String),
    /// The event has no user whose domain could be the account.
    #[error("the user `{0}` has no domain to be the account")]
    NoDomain(String),
}

impl Notification {
    /// Bytes of all that a condition can name.
    pub fn bytes(&self) -> usize {
        self.message.len()
            + self.timestamp.len()
            + self.application.len()
            + self.event_type.len()
            + self.account.len()
            + self.level.as_deref().map_or(0, str::len)
    }

    /// Bytes of what a notification keeps in memory.
    pub fn memory_bytes(&self) -> usize {
        let headers = self.headers.iter().map(|header| header.value.len());
        self.bytes() + self.key.as_ref().map_or(0, Bytes::len) + headers.sum::<usize>()
    }

    /// The notification with a buffer of its own: a part of what was read at once would keep all of
    /// that in memory.
    #[must_use]
    pub fn detached(mut self) -> Self {
        let headers = self.headers.iter_mut().map(|header| &mut header.value);
        let parts = [&mut self.timestamp, &mut self.message].into_iter();
        let mut parts: Vec<&mut Bytes> = parts.chain(&mut self.key).chain(headers).collect();
        let mut buffer = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        for part in &parts {
            buffer.extend_from_slice(part);
        }
        let mut buffer = Bytes::from(buffer);
        for part in &mut parts {
            **part = buffer.split_to(part.len());
        }
        self
    }

    /// The mailbox transaction that the notification is of; `None`: it is of none.
    pub fn transaction(&self) -> Option<Transaction> {
        let text = |name: &str| {
            let header = self.headers.iter().rfind(|header| &*header.name == name)?;
            std::str::from_utf8(&header.value).ok()
        };
        Some(Transaction {
            id: Uuid::try_parse(text(header_name::TXN)?).ok()?,
            seq: text(header_name::TXN_SEQ)?.parse().ok()?,
            is_last: text(header_name::TXN_LAST) == Some("1"),
        })
    }
}

#[cfg(test)]
mod tests;
