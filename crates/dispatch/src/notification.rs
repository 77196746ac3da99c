//! Notifications: what stands in a record of `hooks.outbox` or of a topic of events.
//!
//! A record of `hooks.outbox` is a JSON object with exactly the six fields of hooks-backend. An event of Dovecot is a
//! notification of the application `dovecot`: its kind is the event type, it has no level, and its JSON is the message.

use std::fmt;

use bytes::Bytes;
use dovecast_event::{EventKind, brief, header_name};
use dovecast_log::Record;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The application whose notifications are events.
pub const DOVECOT: &str = "dovecot";

/// Names a notification: the same after a crash, on another node, and when its record is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotificationId(pub Uuid);

impl fmt::Display for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl NotificationId {
    /// The record's `dovecast-id`; without one it is made of the record's place, which never changes either.
    pub fn of(record: &Record) -> Self {
        let header = record.header(header_name::ID);
        let named = header.and_then(|value| Uuid::try_parse_ascii(value).ok());
        Self(named.unwrap_or_else(|| Self::of_place(record)))
    }

    fn of_place(record: &Record) -> Uuid {
        let mut hash = Sha256::new();
        hash.update(record.topic.as_bytes());
        hash.update([0]);
        hash.update(record.partition.to_be_bytes());
        hash.update(record.offset.to_be_bytes());
        hash.update(record.timestamp_ms.to_be_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

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

/// What the account of an event is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EventAccount {
    /// The user's name.
    #[default]
    User,
    /// What is behind the last `@` of it.
    Domain,
    /// Always the same one.
    Fixed(Box<str>),
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
type Text<'a> = std::borrow::Cow<'a, str>;

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

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Text<'de>, D::Error> {
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
    /// How long everything is together that a condition can name.
    pub fn bytes(&self) -> usize {
        self.message.len()
            + self.timestamp.len()
            + self.application.len()
            + self.event_type.len()
            + self.account.len()
            + self.level.as_deref().map_or(0, str::len)
    }

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

    /// Reads a record of a topic of events.
    pub fn from_event(record: &Record, account: &EventAccount) -> Result<Self, BadNotification> {
        /// All of the event that is needed; it is delivered as it is.
        #[derive(Deserialize)]
        struct Event<'a> {
            #[serde(borrow, deserialize_with = "text")]
            user: Text<'a>,
            #[serde(borrow, deserialize_with = "text")]
            event: Text<'a>,
        }
        let bad = |error: &dyn fmt::Display| BadNotification::Event(brief(&error.to_string()));
        // It is delivered as a part of JSON. The reader of JSON would not look at the texts of fields that it passes over.
        let value = std::str::from_utf8(&record.value).map_err(|error| bad(&error))?;
        let event: Event<'_> = serde_json::from_str(value).map_err(|error| bad(&error))?;
        let kind = EventKind::from_name(&event.event)
            .ok_or_else(|| bad(&format_args!("unknown event `{}`", event.event)))?;
        let account = match account {
            EventAccount::User => event.user.into(),
            EventAccount::Domain => match event.user.rsplit_once('@') {
                Some((_, domain)) if !domain.is_empty() => domain.into(),
                _ => return Err(BadNotification::NoDomain(brief(&event.user))),
            },
            EventAccount::Fixed(account) => account.clone(),
        };
        Ok(Self {
            id: NotificationId::of(record),
            application: DOVECOT.into(),
            event_type: kind.name().into(),
            level: None,
            account,
            timestamp: event_time(record),
            message: record.value.clone(),
        })
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

/// As JSON: the header's time, or the record's.
fn event_time(record: &Record) -> Bytes {
    let header = record.header(header_name::TIME);
    let is_plain = |value: &&[u8]| {
        let legal = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        value.iter().all(legal)
    };
    let mut out = vec![b'"'];
    if let Some(time) = header.filter(is_plain) {
        out.extend_from_slice(time);
    } else {
        let ms = u64::try_from(record.timestamp_ms).unwrap_or(0);
        dovecast_event::UnixMillis(ms).write_rfc3339(&mut out);
    }
    out.push(b'"');
    out.into()
}

#[cfg(test)]
mod tests;
