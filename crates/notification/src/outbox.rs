//! The six fields of a record of `hooks.outbox`, read and written: a JSON object with exactly these.

use std::fmt;

use dovecast_event::{Record, brief};
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{BadNotification, Notification, NotificationId};

/// Names of the fields.
pub const FIELDS: [&str; 6] = [
    "application",
    "event_type",
    "level",
    "timestamp",
    "message",
    "account_id",
];

/// A notification to be written: texts, borrowed or not, and a message.
#[derive(Debug, Serialize)]
pub struct NewNotification<T, M> {
    /// External name of the application.
    pub application: T,
    /// External id of the event type.
    pub event_type: T,
    /// External id of the level.
    pub level: Option<T>,
    /// Number of the account.
    pub account_id: T,
    /// RFC 3339.
    pub timestamp: String,
    /// Anything that is JSON.
    pub message: M,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outbox<'a> {
    #[serde(borrow, deserialize_with = "text")]
    application: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    event_type: Text<'a>,
    // A missing field is an error, null is not.
    #[serde(borrow, deserialize_with = "level")]
    level: Option<Text<'a>>,
    #[serde(borrow)]
    timestamp: &'a RawValue,
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(borrow, deserialize_with = "account")]
    account_id: Text<'a>,
}

/// A string of the JSON, borrowed where it has no escapes.
pub(crate) type Text<'a> = std::borrow::Cow<'a, str>;

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text::Owned(text.to_owned()))
    }
}

pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Text<'de>, D::Error> {
    deserializer.deserialize_str(TextVisitor)
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Text<'de>>, D::Error> {
    let raw: &RawValue = Deserialize::deserialize(deserializer)?;
    if raw.get() == "null" {
        return Ok(None);
    }
    let level = serde_json::Deserializer::from_str(raw.get()).deserialize_str(TextVisitor);
    level.map(Some).map_err(D::Error::custom)
}

/// Numbers of accounts come as strings and, from some senders, as JSON numbers.
fn account<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Text<'de>, D::Error> {
    let raw: &RawValue = Deserialize::deserialize(deserializer)?;
    let json = raw.get();
    let is_number = json.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        return Ok(Text::Borrowed(json));
    }
    let text = serde_json::Deserializer::from_str(json).deserialize_str(TextVisitor);
    text.map_err(D::Error::custom)
}

impl Notification {
    /// Reads a record of `hooks.outbox`.
    pub fn from_outbox(record: &Record) -> Result<Self, BadNotification> {
        let outbox: Outbox<'_> = serde_json::from_slice(&record.value)
            .map_err(|error| BadNotification::Outbox(brief(&error.to_string())))?;
        let part = |raw: &RawValue| record.value.slice_ref(raw.get().as_bytes());
        Ok(Self {
            id: NotificationId::of(record),
            timestamp: part(outbox.timestamp),
            message: part(outbox.message),
            application: outbox.application.into(),
            event_type: outbox.event_type.into(),
            level: outbox.level.map(Into::into),
            account: outbox.account_id.into(),
        })
    }
}
