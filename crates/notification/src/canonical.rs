//! The canonical JSON of a notification, in which what is owed is kept: `notification` (the six
//! fields of `hooks.outbox`), `key` and `headers` of its record.
//!
//! Timestamp and message stand in it byte for byte. A key, or the value of a header, is a text, or
//! an object with `base64` where it is none.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use dovecast_event::{Header, brief};
use serde::{Deserialize, Serialize};

use crate::outbox::{Outbox, write_json};
use crate::{BadNotification, Notification, NotificationId};

#[derive(Deserialize)]
struct Canonical<'a> {
    #[serde(borrow)]
    notification: Outbox<'a>,
    #[serde(default, borrow)]
    key: Option<Octets<'a>>,
    #[serde(default, borrow)]
    headers: Vec<(Cow<'a, str>, Octets<'a>)>,
}

/// Bytes, as a text where they are one.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Octets<'a> {
    Text(Cow<'a, str>),
    Base64 { base64: Cow<'a, str> },
}

impl<'a> Octets<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(Cow::Borrowed(text)),
            Err(_) => Self::Base64 {
                base64: BASE64_STANDARD.encode(bytes).into(),
            },
        }
    }

    fn bytes(self) -> Result<Bytes, BadNotification> {
        match self {
            Self::Text(text) => Ok(Bytes::from(text.into_owned())),
            Self::Base64 { base64 } => match BASE64_STANDARD.decode(&*base64) {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => Err(BadNotification::Canonical(error.to_string())),
            },
        }
    }
}

fn pair(header: &Header) -> (&str, Octets<'_>) {
    (&header.name, Octets::new(&header.value))
}

impl Notification {
    /// Canonical JSON of the notification.
    pub fn canonical(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes() + 256);
        out.extend_from_slice(b"{\"notification\":");
        self.write_outbox(&mut out);
        if let Some(key) = &self.key {
            out.extend_from_slice(b",\"key\":");
            write_json(&mut out, &Octets::new(key));
        }
        if !self.headers.is_empty() {
            out.extend_from_slice(b",\"headers\":");
            let headers: Vec<_> = self.headers.iter().map(pair).collect();
            write_json(&mut out, &headers);
        }
        out.push(b'}');
        out.into()
    }

    /// Reads canonical JSON. Unknown fields are passed over: a later version may have written them.
    pub fn from_canonical(id: NotificationId, json: &Bytes) -> Result<Self, BadNotification> {
        let read: Canonical<'_> = serde_json::from_slice(json)
            .map_err(|error| BadNotification::Canonical(brief(&error.to_string())))?;
        let header = |(name, value): (Cow<'_, str>, Octets<'_>)| {
            Ok(Header {
                name: Arc::from(name),
                value: value.bytes()?,
            })
        };
        Ok(Self {
            key: read.key.map(Octets::bytes).transpose()?,
            headers: read
                .headers
                .into_iter()
                .map(header)
                .collect::<Result<_, _>>()?,
            ..read.notification.read(id, json)
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn notification(key: Option<&'static [u8]>, headers: &[(&str, &'static [u8])]) -> Notification {
        let header = |(name, value): &(&str, &'static [u8])| Header {
            name: Arc::from(*name),
            value: Bytes::from_static(value),
        };
        Notification {
            id: NotificationId(Uuid::from_u128(1)),
            application: "a\"".into(),
            event_type: "e".into(),
            level: None,
            account: "4\\2".into(),
            timestamp: Bytes::from_static(b"1.50"),
            message: Bytes::from_static(br#"{"b" : [1.0, "\u00e9"]}"#),
            key: key.map(Bytes::from_static),
            headers: headers.iter().map(header).collect(),
        }
    }

    #[test]
    fn canonical_json_keeps_all_there_is_byte_for_byte() {
        let fields = r#"{"application":"a\"","event_type":"e","level":null,"timestamp":1.50,"message":{"b" : [1.0, "\u00e9"]},"account_id":"4\\2"}"#;
        for (notification, rest) in [
            (notification(None, &[]), ""),
            (
                notification(
                    Some(b"u@\xc3\xa4"),
                    &[("x", b"1"), ("x", b""), ("y", b"\xff\0")],
                ),
                r#","key":"u@ä","headers":[["x","1"],["x",""],["y",{"base64":"/wA="}]]"#,
            ),
            (
                notification(Some(b"\xff"), &[]),
                r#","key":{"base64":"/w=="}"#,
            ),
        ] {
            let json = notification.canonical();
            let expected = format!(r#"{{"notification":{fields}{rest}}}"#);
            assert_eq!(std::str::from_utf8(&json), Ok(&*expected));
            let read = Notification::from_canonical(notification.id, &json);
            assert_eq!(read, Ok(notification));
        }
    }

    #[test]
    fn what_is_not_canonical_is_refused_with_the_reason() {
        let fields = r#"{"application":"a","event_type":"e","level":null,"timestamp":1,"message":1,"account_id":"1"}"#;
        for (json, expected) in [
            ("{}".to_owned(), "missing field `notification`"),
            (
                r#"{"notification":{}}"#.to_owned(),
                "missing field `application`",
            ),
            (
                format!(r#"{{"notification":{fields},"key":{{"base64":"!"}}}}"#),
                "Invalid symbol",
            ),
        ] {
            let read =
                Notification::from_canonical(NotificationId(Uuid::nil()), &json.clone().into());
            let error = read.expect_err(&json).to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
        let later = format!(r#"{{"notification":{fields},"later":1}}"#);
        let read = Notification::from_canonical(NotificationId(Uuid::nil()), &later.into());
        assert_eq!(read.expect("a notification").key, None);
    }
}
