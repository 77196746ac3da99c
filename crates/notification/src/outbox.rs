//! The six fields of a record of `hooks.outbox`, read and written: a JSON object with exactly
//! these.

use std::fmt;

use bytes::Bytes;
use dovecast_event::{Header, Record, brief, header_name, is_object};
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

/// The fields as they are read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outbox<'a> {
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

impl Outbox<'_> {
    /// The notification, whose message and timestamp are parts of the JSON that was read.
    pub(crate) fn read(self, id: NotificationId, json: &Bytes) -> Notification {
        let part = |raw: &RawValue| json.slice_ref(raw.get().as_bytes());
        Notification {
            id,
            timestamp: part(self.timestamp),
            message: part(self.message),
            application: self.application.into(),
            event_type: self.event_type.into(),
            level: self.level.map(Into::into),
            account: self.account_id.into(),
            key: None,
            headers: Vec::new(),
        }
    }
}

impl Notification {
    /// Reads a record of `hooks.outbox`.
    pub fn from_outbox(record: &Record) -> Result<Self, BadNotification> {
        if !is_object(&record.value) {
            return Err(BadNotification::Outbox("not a JSON object".to_owned()));
        }
        let outbox: Outbox<'_> = serde_json::from_slice(&record.value)
            .map_err(|error| BadNotification::Outbox(brief(&error.to_string())))?;
        Ok(Self {
            key: record.key.clone(),
            headers: record.headers.clone(),
            ..outbox.read(NotificationId::of(record), &record.value)
        })
    }

    /// Writes the six fields.
    pub(crate) fn write_outbox(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"application\":");
        write_json(out, &self.application);
        out.extend_from_slice(b",\"event_type\":");
        write_json(out, &self.event_type);
        out.extend_from_slice(b",\"level\":");
        write_json(out, &self.level);
        out.extend_from_slice(b",\"timestamp\":");
        out.extend_from_slice(&self.timestamp);
        out.extend_from_slice(b",\"message\":");
        out.extend_from_slice(&self.message);
        out.extend_from_slice(b",\"account_id\":");
        write_json(out, &self.account);
        out.push(b'}');
    }

    /// Value of a record of `hooks.outbox`: the six fields.
    pub fn outbox(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes() + 128);
        self.write_outbox(&mut out);
        out.into()
    }

    /// Headers of such a record: those of the record that the notification was read from, and its
    /// id where they have none, so that whoever reads it de-duplicates by the same.
    pub fn outbox_headers(&self) -> Vec<Header> {
        let mut headers = self.headers.clone();
        if !headers
            .iter()
            .any(|header| &*header.name == header_name::ID)
        {
            headers.push(Header {
                name: header_name::ID.into(),
                value: self.id.to_string().into(),
            });
        }
        headers
    }

    /// Body that hooks-backend sends to webhooks: the fields but for the account, in its order.
    pub fn body(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.message.len() + 160);
        out.extend_from_slice(b"{\"timestamp\":");
        out.extend_from_slice(&self.timestamp);
        out.extend_from_slice(b",\"application\":");
        write_json(&mut out, &self.application);
        out.extend_from_slice(b",\"event_type\":");
        write_json(&mut out, &self.event_type);
        out.extend_from_slice(b",\"level\":");
        write_json(&mut out, &self.level);
        out.extend_from_slice(b",\"message\":");
        out.extend_from_slice(&self.message);
        out.push(b'}');
        out.into()
    }
}

/// Writes a value whose form cannot fail to be JSON.
pub(crate) fn write_json(out: &mut Vec<u8>, value: &impl Serialize) {
    // Writing into a Vec cannot fail, and neither do texts.
    let _ = serde_json::to_writer(out, value);
}
