//! Reading the JSON of an event back.
//!
//! Tolerant where the contract allows it (unknown fields, any order), strict where a consumer would
//! go wrong: a known field of the wrong type, an unknown event, a field that its kind always has
//! and that is missing.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::{EventKind, brief};

/// Why a record's value is not an event.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// JSON is UTF-8, in fields that nobody knows, too.
    #[error("not UTF-8")]
    Encoding(#[from] std::str::Utf8Error),
    /// JSON may begin otherwise than an object: an event is one.
    #[error("not a JSON object")]
    NoObject,
    /// Not JSON, or a known field has another type.
    #[error("not the JSON of an event")]
    Json(#[from] JsonError),
    /// `event` is none of the twelve kinds; a long one is not shown in full.
    #[error("unknown event `{0}`")]
    UnknownEvent(String),
    /// A field that this kind always has is missing.
    #[error("field `{field}` of {kind} is missing")]
    MissingField {
        /// The event's kind.
        kind: EventKind,
        /// The field's name in the JSON.
        field: &'static str,
    },
}

/// Whether JSON is an object, if it is JSON: readers of a struct take an array of its fields, too.
pub fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

/// What is wrong, and where. It may cite what was read, but never all of it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self(brief(&error.to_string()))
    }
}

/// An event as its JSON tells it. Fields that a kind does not have, or that the plugin was told to
/// leave out, are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each field is the JSON field of the same name, see docs/events.md"
)]
pub struct ParsedEvent {
    pub user: String,
    pub userdb: Vec<(String, String)>,
    pub mailbox: String,
    pub kind: EventKind,
    pub uidvalidity: Option<u32>,
    pub uid: Option<u32>,
    pub old_mailbox: Option<String>,
    pub date: Option<String>,
    pub from: Option<String>,
    pub snippet: Option<String>,
    pub subject: Option<String>,
    pub to: Option<String>,
    pub flags: Option<Vec<String>>,
    pub keywords: Option<Vec<String>>,
    pub timestamp: Option<String>,
    pub service: Option<String>,
    pub session: Option<String>,
    pub client_ip: Option<String>,
    pub mailbox_id: Option<String>,
    pub modseq: Option<u64>,
    pub messages: Option<u32>,
    pub unseen: Option<u32>,
    pub recent: Option<u32>,
    pub uidnext: Option<u32>,
    pub message_id: Option<String>,
    pub message_size: Option<u64>,
    pub from_address: Option<String>,
    pub from_display_name: Option<String>,
    pub to_address: Option<String>,
    pub to_display_name: Option<String>,
    pub subject_decoded: Option<String>,
    pub tz: Option<i32>,
    pub old_flags: Option<Vec<String>>,
    pub old_keywords: Option<Vec<String>>,
    pub metadata: Vec<(String, String)>,
}

/// The JSON as it stands on the wire.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    user: String,
    #[serde(default, deserialize_with = "ordered_map")]
    userdb: Vec<(String, String)>,
    mailbox: String,
    event: String,
    uidvalidity: Option<u32>,
    uid: Option<u32>,
    old_mailbox: Option<String>,
    date: Option<String>,
    from: Option<String>,
    snippet: Option<String>,
    subject: Option<String>,
    to: Option<String>,
    flags: Option<Vec<String>>,
    keywords: Option<Vec<String>>,
    timestamp: Option<String>,
    service: Option<String>,
    session: Option<String>,
    #[serde(rename = "clientIP")]
    client_ip: Option<String>,
    #[serde(rename = "mailboxID")]
    mailbox_id: Option<String>,
    modseq: Option<u64>,
    messages: Option<u32>,
    unseen: Option<u32>,
    recent: Option<u32>,
    uidnext: Option<u32>,
    #[serde(rename = "messageID")]
    message_id: Option<String>,
    message_size: Option<u64>,
    from_address: Option<String>,
    from_display_name: Option<String>,
    to_address: Option<String>,
    to_display_name: Option<String>,
    subject_decoded: Option<String>,
    tz: Option<i32>,
    old_flags: Option<Vec<String>>,
    old_keywords: Option<Vec<String>>,
    #[serde(default, deserialize_with = "ordered_map")]
    metadata: Vec<(String, String)>,
}

/// Reads the value of a record.
pub fn parse(json: &[u8]) -> Result<ParsedEvent, ParseError> {
    let json = std::str::from_utf8(json)?;
    if !is_object(json.as_bytes()) {
        return Err(ParseError::NoObject);
    }
    let wire: Wire = serde_json::from_str(json).map_err(JsonError::from)?;
    let kind = EventKind::from_name(&wire.event)
        .ok_or_else(|| ParseError::UnknownEvent(brief(&wire.event)))?;
    let event = ParsedEvent {
        user: wire.user,
        userdb: wire.userdb,
        mailbox: wire.mailbox,
        kind,
        uidvalidity: wire.uidvalidity,
        uid: wire.uid,
        old_mailbox: wire.old_mailbox,
        date: wire.date,
        from: wire.from,
        snippet: wire.snippet,
        subject: wire.subject,
        to: wire.to,
        flags: wire.flags,
        keywords: wire.keywords,
        timestamp: wire.timestamp,
        service: wire.service,
        session: wire.session,
        client_ip: wire.client_ip,
        mailbox_id: wire.mailbox_id,
        modseq: wire.modseq,
        messages: wire.messages,
        unseen: wire.unseen,
        recent: wire.recent,
        uidnext: wire.uidnext,
        message_id: wire.message_id,
        message_size: wire.message_size,
        from_address: wire.from_address,
        from_display_name: wire.from_display_name,
        to_address: wire.to_address,
        to_display_name: wire.to_display_name,
        subject_decoded: wire.subject_decoded,
        tz: wire.tz,
        old_flags: wire.old_flags,
        old_keywords: wire.old_keywords,
        metadata: wire.metadata,
    };
    event.check_required()?;
    Ok(event)
}

impl ParsedEvent {
    fn check_required(&self) -> Result<(), ParseError> {
        let (of_message, uidvalidity, old_mailbox) = match self.kind {
            EventKind::MailboxCreate => (false, true, false),
            EventKind::MailboxRename => (false, false, true),
            EventKind::MailboxDelete
            | EventKind::MailboxSubscribe
            | EventKind::MailboxUnsubscribe => (false, false, false),
            _ => (true, true, false),
        };
        let missing = [
            ("uidvalidity", uidvalidity && self.uidvalidity.is_none()),
            ("uid", of_message && self.uid.is_none()),
            ("oldMailbox", old_mailbox && self.old_mailbox.is_none()),
        ];
        match missing.into_iter().find(|(_, is_missing)| *is_missing) {
            Some((field, _)) => Err(ParseError::MissingField {
                kind: self.kind,
                field,
            }),
            None => Ok(()),
        }
    }
}

/// An object of strings in the order it is written, which is the order the operator asked for.
fn ordered_map<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, String)>, D::Error> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }

    deserializer.deserialize_map(Pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        parse(json.as_bytes()).expect_err(json).to_string()
    }

    #[test]
    fn unknown_fields_are_ignored_and_order_does_not_matter() {
        let json = r#"{"new":[1],"event":"MessageRead","uid":7,"mailbox":"INBOX","uidvalidity":3,"userdb":{"z":"1","a":"2"},"user":"u"}"#;
        let event = parse(json.as_bytes()).expect("readable");
        assert_eq!(
            (event.kind, event.uid, event.uidvalidity),
            (EventKind::MessageRead, Some(7), Some(3))
        );
        assert_eq!(
            event.userdb,
            [("z".into(), "1".into()), ("a".into(), "2".into())]
        );
    }

    #[test]
    fn what_is_not_utf_8_is_refused_wherever_it_stands() {
        let json =
            b"{\"user\":\"u\",\"mailbox\":\"m\",\"event\":\"MailboxDelete\",\"new\":\"\xff\"}";
        let error = parse(json).expect_err("no UTF-8");
        assert_eq!(error.to_string(), "not UTF-8");
    }

    #[test]
    fn an_error_is_short_whatever_was_read() {
        let long = "x".repeat(100_000);
        let text = error(&format!(r#"{{"user":"u","mailbox":"m","event":"{long}"}}"#));
        assert!(text.len() < 400, "{}", text.len());
        let wrong = format!(r#"{{"user":"u","mailbox":"m","uid":"{long}"}}"#);
        let error = parse(wrong.as_bytes()).expect_err("a wrong type");
        let cause = std::error::Error::source(&error)
            .expect("its cause")
            .to_string();
        assert!(cause.len() < 400, "{}", cause.len());
        assert!(
            cause.contains("\", expected u32 at line 1 column "),
            "{cause}"
        );
    }

    #[test]
    fn what_is_no_event_is_an_error_that_says_why() {
        assert_eq!(error("{"), "not the JSON of an event");
        assert_eq!(
            error(r#"{"user":"u","mailbox":"m","event":"MessageGone"}"#),
            "unknown event `MessageGone`"
        );
        assert_eq!(
            error(r#"{"user":"u","mailbox":"m","event":"MessageNew","uidvalidity":1}"#),
            "field `uid` of MessageNew is missing"
        );
        assert_eq!(
            error(r#"{"user":"u","mailbox":"m","event":"MailboxRename"}"#),
            "field `oldMailbox` of MailboxRename is missing"
        );
    }
}
