//! What drivers of the configuration file read of an event. Fields that are not there are `None`:
//! the plugin was told to leave them out, or the mail has none.

use std::collections::BTreeMap;

use dovecast_notification::Notification;
use serde::Deserialize;

/// An event, as `docs/events.md` describes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    pub(super) user: String,
    pub(super) mailbox: String,
    #[serde(rename = "event")]
    pub(super) kind: String,
    pub(super) uidvalidity: u32,
    pub(super) uid: u32,
    #[serde(rename = "oldMailbox")]
    pub(super) old_mailbox: String,
    pub(super) date: Option<String>,
    pub(super) from: Option<String>,
    pub(super) snippet: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) to: Option<String>,
    pub(super) flags: Vec<String>,
    pub(super) keywords: Vec<String>,
    /// With `detail=full` only.
    pub(super) timestamp: Option<String>,
    pub(super) unseen: Option<u32>,
    pub(super) metadata: BTreeMap<String, String>,
}

impl Event {
    /// Reads the event of a notification; an error cites nothing of it.
    pub(super) fn of(notification: &Notification) -> Result<Self, String> {
        serde_json::from_slice(&notification.message)
            .map_err(|error| format!("the event cannot be read, at column {}", error.column()))
    }

    /// Whether it tells of a mail.
    pub(super) fn is_message(&self) -> bool {
        !self.kind.starts_with("Mailbox")
    }
}
