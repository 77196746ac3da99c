//! Events of Dovecot as notifications: the kind is the event type, there is no level, the JSON of
//! the event is the message.

use std::fmt;

use bytes::Bytes;
use dovecast_event::{EventKind, Record, brief, header_name};
use serde::Deserialize;

use crate::outbox::{Text, text};
use crate::{BadNotification, Notification, NotificationId};

/// The application whose notifications are events.
pub const DOVECOT: &str = "dovecot";

/// What the account of an event is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EventAccount {
    /// The user's name.
    #[default]
    User,
    /// What is behind the last `@` of it, in lower case.
    Domain,
    /// Always the same one.
    Fixed(Box<str>),
}

impl EventAccount {
    /// The account of this user's events; `None` if there is no domain to take it from.
    pub fn of_user(&self, user: &str) -> Option<Box<str>> {
        match self {
            Self::User => Some(user.into()),
            Self::Domain => match user.rsplit_once('@') {
                Some((_, domain)) if !domain.is_empty() => Some(domain.to_lowercase().into()),
                _ => None,
            },
            Self::Fixed(account) => Some(account.clone()),
        }
    }
}

impl Notification {
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
        // It is delivered as a part of JSON. The reader of JSON would not look at the texts of
        // fields that it passes over.
        let value = std::str::from_utf8(&record.value).map_err(|error| bad(&error))?;
        let event: Event<'_> = serde_json::from_str(value).map_err(|error| bad(&error))?;
        let kind = EventKind::from_name(&event.event)
            .ok_or_else(|| bad(&format_args!("unknown event `{}`", event.event)))?;
        let account = account
            .of_user(&event.user)
            .ok_or_else(|| BadNotification::NoDomain(brief(&event.user)))?;
        Ok(Self {
            id: NotificationId::of(record),
            application: DOVECOT.into(),
            event_type: kind.name().into(),
            level: None,
            account,
            timestamp: event_time(record),
            message: record.value.clone(),
            key: record.key.clone(),
            headers: record.headers.clone(),
        })
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
