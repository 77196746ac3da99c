//! A record of `hooks.outbox`: the notification that is read from it, and the body that endpoints
//! get.

use std::sync::Arc;

use bytes::Bytes;
use dovecast_log::Record;
use dovecast_notification::Notification;
use serde_json::Value;

use crate::expect::{readable_error, within};
use crate::{Outcome, Target, json};

/// See the module.
pub const TARGET: Target = Target {
    name: "outbox",
    run,
};

const FIELDS: [&str; 6] = [
    "account_id",
    "application",
    "event_type",
    "level",
    "message",
    "timestamp",
];

fn run(bytes: &[u8]) -> Outcome {
    let record = record(bytes);
    match within(bytes.len() * 4 + 8192, || {
        Notification::from_outbox(&record)
    }) {
        Ok(notification) => {
            let body = notification.body();
            assert!(json::is_json(&body), "{}", body.escape_ascii());
            is_the_same_again(&notification);
            agrees_with_a_second_reader(&notification, bytes, &body);
            Outcome::Read
        }
        Err(error) => {
            readable_error(&error);
            let text = error.to_string();
            assert!(text.contains(" at line "), "it does not say where: {text}");
            Outcome::Refused
        }
    }
}

/// Written as hooks-backend writes it and read again it is the same.
fn is_the_same_again(notification: &Notification) {
    let text = |text: &str| serde_json::to_string(text).expect("a text");
    let written = format!(
        r#"{{"application":{},"event_type":{},"level":{},"timestamp":{},"message":{},"account_id":{}}}"#,
        text(&notification.application),
        text(&notification.event_type),
        notification.level.as_deref().map_or("null".into(), text),
        raw(&notification.timestamp),
        raw(&notification.message),
        text(&notification.account),
    );
    let again = Notification::from_outbox(&record(written.as_bytes())).expect(&written);
    assert_eq!(&again, notification);
    assert_eq!(again.body(), notification.body());
}

/// As far as values can be made of it, it has the six fields and nothing else, and they say the
/// same.
fn agrees_with_a_second_reader(notification: &Notification, bytes: &[u8], body: &[u8]) {
    let Some(Value::Object(fields)) = json::value(bytes) else {
        return;
    };
    let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, FIELDS);
    let body = json::value(body).expect("as deep as the record");
    for name in ["application", "event_type", "level", "message", "timestamp"] {
        assert_eq!(body[name], fields[name], "{name}");
    }
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(5));
    match &fields["account_id"] {
        Value::String(account) => assert_eq!(**account, *notification.account),
        Value::Number(account) if account.is_u64() => {
            assert_eq!(account.to_string(), *notification.account);
        }
        // One that is too large for 64 bits is a float to the second reader.
        Value::Number(_) => {
            let is_digit = |char: char| char.is_ascii_digit();
            assert!(notification.account.chars().all(is_digit));
        }
        other => panic!("an account that is {other}"),
    }
}

fn raw(json: &[u8]) -> &str {
    std::str::from_utf8(json).expect("JSON is UTF-8")
}

/// The input as a record. Its place is always the same.
pub(crate) fn record(bytes: &[u8]) -> Record {
    Record {
        topic: Arc::from("topic"),
        partition: 0,
        offset: 0,
        key: None,
        value: Bytes::copy_from_slice(bytes),
        headers: Vec::new(),
        timestamp_ms: 1_795_210_528_120,
    }
}
