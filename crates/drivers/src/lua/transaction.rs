//! Transactions as the driver takes them: made of notifications of one transaction, in order.

use std::sync::Arc;

use bytes::Bytes;
use dovecast_lua_host::wire::Part;
use dovecast_notification::Notification;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A mailbox transaction, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Names the transaction; all parts have the same name.
    pub id: String,
    /// The user whose mailbox it is.
    pub user: String,
    /// The events, JSON of the plugin; none where nothing but its end is told.
    pub events: Vec<Bytes>,
    /// Whether the transaction begins with this.
    pub is_first: bool,
    /// Whether the transaction ends with this.
    pub is_last: bool,
    /// Whether the transaction has succeeded, as far as is known.
    pub success: bool,
}

/// Why notifications are no transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTransaction {
    /// There is nothing that could say whose it is.
    #[error("a transaction without notifications")]
    Empty,
    /// A notification that is no event of Dovecot.
    #[error("a notification that is no event of Dovecot: {0}")]
    NoEvent(String),
}

impl Transaction {
    /// A transaction of these notifications, which belong to one and are in order. What has no
    /// headers of a transaction is one of its own.
    pub fn of(
        notifications: &[Arc<Notification>],
        is_first: bool,
        is_last: bool,
        success: bool,
    ) -> Result<Self, BadTransaction> {
        #[derive(Deserialize)]
        struct Event {
            user: String,
        }
        let first = notifications.first().ok_or(BadTransaction::Empty)?;
        let event: Result<Event, _> = serde_json::from_slice(&first.message);
        // The error would cite what was read.
        let event = event.map_err(|_| BadTransaction::NoEvent("it has no user".to_owned()))?;
        let id = match first.transaction() {
            Some(transaction) => transaction.id.to_string(),
            None => first.id.to_string(),
        };
        Ok(Self {
            id,
            user: event.user,
            events: notifications.iter().map(|it| it.message.clone()).collect(),
            is_first,
            is_last,
            success,
        })
    }

    /// What the process is asked.
    pub(super) fn request(&self) -> Result<Part, BadTransaction> {
        let bad = |error: &dyn std::fmt::Display| BadTransaction::NoEvent(error.to_string());
        let event = |bytes: &Bytes| {
            let text = std::str::from_utf8(bytes).map_err(|error| bad(&error))?;
            RawValue::from_string(text.to_owned()).map_err(|error| bad(&error))
        };
        Ok(Part {
            transaction: self.id.clone(),
            user: self.user.clone(),
            is_first: self.is_first,
            is_last: self.is_last,
            success: self.success,
            events: self.events.iter().map(event).collect::<Result<_, _>>()?,
        })
    }
}
