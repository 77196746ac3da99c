//! What an endpoint may see of a mail: some fields of an event, or all of them.
//!
//! It is a list of what may be seen, so a field that a later plugin adds is left out until somebody
//! decides about it. Notifications of other applications are no mail, and are handed on whole.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::outbox::write_json;
use crate::{DOVECOT, Notification};

/// Which mail, where it is and what is set on it.
const IDS: [&str; 19] = [
    "event",
    "flags",
    "keywords",
    "mailbox",
    "mailboxID",
    "messages",
    "modseq",
    "oldFlags",
    "oldKeywords",
    "oldMailbox",
    "recent",
    "service",
    "timestamp",
    "uid",
    "uidnext",
    "uidvalidity",
    "unseen",
    "user",
    "userdb",
];

/// What stands on its envelope.
const ENVELOPE: [&str; 12] = [
    "date",
    "from",
    "fromAddress",
    "fromDisplayName",
    "messageID",
    "messageSize",
    "subject",
    "subjectDecoded",
    "to",
    "toAddress",
    "toDisplayName",
    "tz",
];

/// Longest list of fields.
pub const MAX_FIELDS: usize = 64;

/// What may be seen of a mail; each but the list has all of the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub enum Content {
    /// Which mail it is, where it is, and what is set on it.
    Ids,
    /// From whom, to whom, and what about.
    Envelope,
    /// The first words of its text.
    Snippet,
    /// Everything there is.
    #[default]
    All,
    /// These fields.
    Fields(Box<[Box<str>]>),
}

/// As it is written in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Word(Box<str>),
    Fields(Box<[Box<str>]>),
}

impl From<Content> for Written {
    fn from(content: Content) -> Self {
        let word = match content {
            Content::Ids => "ids",
            Content::Envelope => "envelope",
            Content::Snippet => "snippet",
            Content::All => "all",
            Content::Fields(fields) => return Self::Fields(fields),
        };
        Self::Word(word.into())
    }
}

impl TryFrom<Written> for Content {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Fields(fields) => Ok(Self::Fields(fields)),
            Written::Word(word) => match &*word {
                "ids" => Ok(Self::Ids),
                "envelope" => Ok(Self::Envelope),
                "snippet" => Ok(Self::Snippet),
                "all" => Ok(Self::All),
                _ => Err(format!(
                    "`{word}` is none of ids, envelope, snippet and all"
                )),
            },
        }
    }
}

impl Content {
    /// Whether a field may be seen.
    fn has(&self, field: &str) -> bool {
        let is_id = || IDS.contains(&field);
        let is_on_envelope = || is_id() || ENVELOPE.contains(&field);
        match self {
            Self::Ids => is_id(),
            Self::Envelope => is_on_envelope(),
            Self::Snippet => is_on_envelope() || field == "snippet",
            Self::All => true,
            Self::Fields(fields) => fields.iter().any(|one| **one == *field),
        }
    }

    /// The notification without what may not be seen of it; `None`: all of it may be seen.
    pub fn cut(&self, notification: &Notification) -> Option<Notification> {
        if *self == Self::All || *notification.application != *DOVECOT {
            return None;
        }
        // What is no object has no field that may be seen.
        let fields: Fields<'_> = serde_json::from_slice(&notification.message).unwrap_or_default();
        if fields.0.iter().all(|(name, _)| self.has(name)) && !fields.0.is_empty() {
            return None;
        }
        let mut message = Vec::with_capacity(notification.message.len());
        message.push(b'{');
        for (name, value) in fields.0.iter().filter(|(name, _)| self.has(name)) {
            if message.len() > 1 {
                message.push(b',');
            }
            write_json(&mut message, name);
            message.push(b':');
            message.extend_from_slice(value.get().as_bytes());
        }
        message.push(b'}');
        Some(Notification {
            message: message.into(),
            ..notification.clone()
        })
    }
}

/// The fields of an object, in their order, each value as it is written.
#[derive(Default)]
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    fields.push((name, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// The name of a field.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::outbox::text(deserializer).map(Name)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::NotificationId;

    const MAIL: &str = r#"{"user":"u","userdb":{"a":"b"},"mailbox":"INBOX","event":"MessageNew","uidvalidity":7,"uid": 1.0,"date":"d","from":"f","snippet":"s","subject":"é\u00e9","to":"t","clientIP":"::1","flags":[],"metadata":{"k":"v"},"later":1}"#;

    fn notification(application: &str, message: &str) -> Notification {
        Notification {
            id: NotificationId(Uuid::nil()),
            application: application.into(),
            event_type: "MessageNew".into(),
            level: None,
            account: "1".into(),
            timestamp: Bytes::from_static(b"1"),
            message: Bytes::copy_from_slice(message.as_bytes()),
            key: Some(Bytes::from_static(b"u")),
            headers: Vec::new(),
        }
    }

    #[track_caller]
    fn check(content: &str, application: &str, message: &str, expected: &str) {
        let content: Content = serde_json::from_str(content).expect(content);
        let whole = notification(application, message);
        let seen = content.cut(&whole).unwrap_or_else(|| whole.clone());
        assert_eq!(
            std::str::from_utf8(&seen.message),
            Ok(expected),
            "{content:?}"
        );
        assert_eq!((seen.id, seen.key), (whole.id, whole.key));
    }

    #[test]
    fn each_level_shows_what_the_one_before_it_shows_and_more() {
        let ids = r#"{"user":"u","userdb":{"a":"b"},"mailbox":"INBOX","event":"MessageNew","uidvalidity":7,"uid":1.0,"flags":[]}"#;
        let envelope = r#"{"user":"u","userdb":{"a":"b"},"mailbox":"INBOX","event":"MessageNew","uidvalidity":7,"uid":1.0,"date":"d","from":"f","subject":"é\u00e9","to":"t","flags":[]}"#;
        let snippet = r#"{"user":"u","userdb":{"a":"b"},"mailbox":"INBOX","event":"MessageNew","uidvalidity":7,"uid":1.0,"date":"d","from":"f","snippet":"s","subject":"é\u00e9","to":"t","flags":[]}"#;
        for (content, expected) in [
            (r#""ids""#, ids),
            (r#""envelope""#, envelope),
            (r#""snippet""#, snippet),
            (r#""all""#, MAIL),
            (
                r#"["subject","snippet","later"]"#,
                r#"{"snippet":"s","subject":"é\u00e9","later":1}"#,
            ),
            ("[]", "{}"),
        ] {
            check(content, "dovecot", MAIL, expected);
        }
    }

    #[test]
    fn what_is_no_mail_is_whole_and_what_is_no_object_shows_nothing() {
        check(r#""ids""#, "billing", r#"{"from":"f"}"#, r#"{"from":"f"}"#);
        for message in ["\"a mail\"", "[1]", "null", "{}"] {
            check(r#""ids""#, "dovecot", message, "{}");
        }
        // Of a name that stands there twice, and of one that is written with escapes.
        check(
            r#""ids""#,
            "dovecot",
            r#"{"from":1,"\u0066rom":2,"uid":3,"u\u0069d":4}"#,
            r#"{"uid":3,"uid":4}"#,
        );
    }

    #[test]
    fn contents_are_read_and_written() {
        for text in [
            r#""all""#,
            r#""ids""#,
            r#""envelope""#,
            r#""snippet""#,
            r#"["a","b"]"#,
        ] {
            let content: Content = serde_json::from_str(text).expect(text);
            assert_eq!(serde_json::to_string(&content).expect("JSON"), text);
        }
        for text in [r#""some""#, "1", r#"{"a":1}"#, "[1]", "null"] {
            serde_json::from_str::<Content>(text).expect_err(text);
        }
    }
}
