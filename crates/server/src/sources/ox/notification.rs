//! The body of a notification: what is read, how it is named, and the event that is made of it.
//!
//! Fields are taken by name; others than these mean nothing here. Text may be anything a mail
//! holds.

use dovecast_event::{EventKind, replace_invalid_utf8};
use dovecast_mail_header::{decode_text, first_mailbox};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::key::{IdKey, MailName};
use crate::api::body::without_mark;

/// A new mail, as the driver tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notification {
    pub(super) user: String,
    folder: String,
    uidvalidity: u32,
    uid: u32,
    from: Option<String>,
    subject: Option<String>,
    snippet: Option<String>,
    unseen: Option<u32>,
}

/// Why a body is not a notification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadBody {
    #[error("the body is not JSON: {0}")]
    Json(String),
    #[error("the body is not a JSON object")]
    NoObject,
    #[error("the field `{field}` is missing or wrong, expected {expected}")]
    Field {
        field: &'static str,
        expected: &'static str,
    },
}

/// The event, its fields in the order of `docs/events.md`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewMail<'a> {
    user: &'a str,
    mailbox: &'a str,
    event: &'static str,
    uidvalidity: u32,
    uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snippet: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unseen: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_decoded: Option<String>,
}

impl Notification {
    /// Reads a body. What is not UTF-8 in it is replaced.
    pub(super) fn read(body: &[u8]) -> Result<Self, BadBody> {
        let value = serde_json::from_str(&replace_invalid_utf8(without_mark(body)));
        let Value::Object(fields) = value.map_err(|error| BadBody::Json(error.to_string()))? else {
            return Err(BadBody::NoObject);
        };
        let event = fields.get("event").and_then(Value::as_str);
        if event.and_then(EventKind::from_name) != Some(EventKind::MessageNew) {
            return Err(wrong("event", "`messageNew`"));
        }
        Ok(Self {
            user: filled(&fields, "user")?,
            folder: filled(&fields, "folder")?,
            uidvalidity: number(&fields, "imap-uidvalidity")?,
            uid: number(&fields, "imap-uid")?,
            from: text(&fields, "from")?,
            subject: text(&fields, "subject")?,
            snippet: text(&fields, "snippet")?,
            unseen: match fields.get("unseen") {
                None | Some(Value::Null) => None,
                Some(_) => Some(any_number(&fields, "unseen")?),
            },
        })
    }

    /// Id of the event, for a mail of this `owner`.
    pub(super) fn id(&self, key: &IdKey, owner: Option<&str>) -> Uuid {
        let mail = MailName {
            user: &self.user,
            owner,
            mailbox: &self.folder,
            uidvalidity: self.uidvalidity,
            uid: self.uid,
        };
        key.of_mail(&mail, None)
    }

    /// JSON of the event, as our plugin writes that of a `MessageNew`.
    pub(super) fn event(&self) -> serde_json::Result<Vec<u8>> {
        let from = self.from.as_deref().map(str::as_bytes);
        let from = from.map(first_mailbox).unwrap_or_default();
        let subject = self.subject.as_deref();
        serde_json::to_vec(&NewMail {
            user: &self.user,
            mailbox: &self.folder,
            event: EventKind::MessageNew.name(),
            uidvalidity: self.uidvalidity,
            uid: self.uid,
            from: self.from.as_deref(),
            snippet: self.snippet.as_deref(),
            subject,
            unseen: self.unseen,
            from_address: from.address,
            from_display_name: from.display_name,
            subject_decoded: subject.map(|subject| decode_text(subject.as_bytes())),
        })
    }
}

const fn wrong(field: &'static str, expected: &'static str) -> BadBody {
    BadBody::Field { field, expected }
}

/// What may be left out. PostgreSQL has no NUL in text; so nobody has one.
fn text(fields: &Map<String, Value>, name: &'static str) -> Result<Option<String>, BadBody> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.replace('\0', "\u{fffd}"))),
        Some(_) => Err(wrong(name, "a text")),
    }
}

fn filled(fields: &Map<String, Value>, name: &'static str) -> Result<String, BadBody> {
    let text = text(fields, name)?.filter(|text| !text.is_empty());
    text.ok_or(wrong(name, "a text that is not empty"))
}

fn any_number(fields: &Map<String, Value>, name: &'static str) -> Result<u32, BadBody> {
    let number = fields.get(name).and_then(Value::as_u64);
    let number = number.and_then(|number| u32::try_from(number).ok());
    number.ok_or(wrong(name, "a number from 0 to 4294967295"))
}

/// Neither a UID nor a UIDVALIDITY is 0 (RFC 9051 section 9, nz-number).
fn number(fields: &Map<String, Value>, name: &'static str) -> Result<u32, BadBody> {
    let number = any_number(fields, name).ok().filter(|number| *number > 0);
    number.ok_or(wrong(name, "a number from 1 to 4294967295"))
}

#[cfg(test)]
mod tests;
