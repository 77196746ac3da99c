//! What is taken for a notification, what is refused with which words, and what endpoints get.

use std::sync::Arc;

use dovecast_event::{Header, Record};

use super::*;
use crate::EventAccount;

fn record(value: &str) -> Record {
    Record {
        topic: Arc::from("hooks.outbox"),
        partition: 3,
        offset: 7,
        key: None,
        value: Bytes::copy_from_slice(value.as_bytes()),
        headers: Vec::new(),
        timestamp_ms: 1_795_210_528_120,
    }
}

fn with_header(mut record: Record, name: &str, value: &str) -> Record {
    record.headers.push(Header {
        name: Arc::from(name),
        value: Bytes::copy_from_slice(value.as_bytes()),
    });
    record
}

fn body(notification: &Notification) -> String {
    String::from_utf8(notification.body().to_vec()).expect("UTF-8")
}

#[test]
fn a_record_of_the_outbox_becomes_the_body_of_hooks_backend() {
    for (value, account, expected) in [
        (
            r#"{"application":"a","event_type":"e","level":"l","timestamp":"2026-11-20","message":"Hi","account_id":"42"}"#,
            "42",
            r#"{"timestamp":"2026-11-20","application":"a","event_type":"e","level":"l","message":"Hi"}"#,
        ),
        // Any order, any message, a number as the account, no level, escapes.
        (
            r#" { "account_id":42, "message" : {"b": [1, 2.50, null]} ,"level":null,"timestamp":1,"event_type":"e\"\u00e9","application":"a\\"} "#,
            "42",
            r#"{"timestamp":1,"application":"a\\","event_type":"e\"é","level":null,"message":{"b": [1, 2.50, null]}}"#,
        ),
    ] {
        let notification = Notification::from_outbox(&record(value)).expect(value);
        assert_eq!(
            (&*notification.account, &*body(&notification)),
            (account, expected)
        );
    }
}

#[test]
fn what_is_no_notification_is_refused_with_the_reason() {
    for (value, expected) in [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        (r#"{"application":"a"}"#, "missing field `event_type`"),
        (
            r#"{"application":"a","event_type":"e","timestamp":"t","message":1,"account_id":"4"}"#,
            "missing field `level`",
        ),
        (
            r#"{"application":"a","event_type":"e","level":null,"timestamp":"t","message":1,"account_id":"4","severity":1}"#,
            "unknown field `severity`",
        ),
        (
            r#"{"application":1,"event_type":"e","level":null,"timestamp":"t","message":1,"account_id":"4"}"#,
            "invalid type: integer `1`, expected a string",
        ),
        (
            r#"{"application":"a","event_type":"e","level":3,"timestamp":"t","message":1,"account_id":"4"}"#,
            "invalid type: integer `3`, expected a string",
        ),
        (
            r#"{"application":"a","event_type":"e","level":null,"timestamp":"t","message":1,"account_id":-4}"#,
            "expected a string",
        ),
        (
            r#"{"application":"a","application":"a","event_type":"e","level":null,"timestamp":"t","message":1,"account_id":"4"}"#,
            "duplicate field `application`",
        ),
    ] {
        let error = Notification::from_outbox(&record(value)).expect_err(value);
        let text = error.to_string();
        assert!(text.contains(expected), "{value}: {text}");
    }
}

#[test]
fn an_event_is_a_notification_of_dovecot() {
    let value = r#"{"user":"alice@example.org","mailbox":"INBOX","event":"MessageNew","uidvalidity":1,"uid":2}"#;
    let event = with_header(record(value), "dovecast-time", "2026-11-20T21:35:28.120Z");
    for (account, expected) in [
        (EventAccount::User, "alice@example.org"),
        (EventAccount::Domain, "example.org"),
        (EventAccount::Fixed("all".into()), "all"),
    ] {
        let notification = Notification::from_event(&event, &account).expect("an event");
        assert_eq!(&*notification.account, expected);
        assert_eq!(
            body(&notification),
            format!(
                r#"{{"timestamp":"2026-11-20T21:35:28.120Z","application":"dovecot","event_type":"MessageNew","level":null,"message":{value}}}"#
            )
        );
    }
    // The domain is one, however it is written.
    let shouted = record(&value.replace("example.org", "Example.ORG"));
    let event = Notification::from_event(&shouted, &EventAccount::Domain).expect("an event");
    assert_eq!(&*event.account, "example.org");
    // Without the header it is the record's time.
    let event = Notification::from_event(&record(value), &EventAccount::User).expect("an event");
    assert_eq!(&event.timestamp[..], br#""2026-11-20T21:35:28.120Z""#);
}

#[test]
fn what_is_no_event_is_refused_with_the_reason() {
    for (value, account, expected) in [
        (
            r#"{"user":"a","event":"MessageGone"}"#,
            EventAccount::User,
            "unknown event `MessageGone`",
        ),
        (
            r#"{"event":"MessageNew"}"#,
            EventAccount::User,
            "missing field `user`",
        ),
        (
            r#"{"user":"alice","event":"MessageNew"}"#,
            EventAccount::Domain,
            "the user `alice` has no domain",
        ),
    ] {
        let error = Notification::from_event(&record(value), &account).expect_err(value);
        assert!(error.to_string().contains(expected), "{value}: {error}");
    }
}

#[test]
fn what_is_not_utf_8_never_becomes_a_body() {
    let mut event = record("");
    event.value = Bytes::from_static(b"{\"user\":\"a\",\"event\":\"MessageNew\",\"new\":\"\xff\"}");
    let error = Notification::from_event(&event, &EventAccount::User).expect_err("no UTF-8");
    let expected = "not an event: invalid utf-8 sequence of 1 bytes from index 40";
    assert_eq!(error.to_string(), expected);
    assert!(Notification::from_outbox(&event).is_err());
}

#[test]
fn a_reason_is_short_whatever_was_read() {
    let long = "x".repeat(100_000);
    for value in [
        format!(r#"{{"user":"{long}","event":"MessageNew"}}"#),
        format!(r#"{{"user":"a","event":"{long}"}}"#),
        format!(r#"{{"user":["{long}"],"event":"MessageNew"}}"#),
        format!(r#"{{"{long}":1}}"#),
    ] {
        let record = record(&value);
        let event = Notification::from_event(&record, &EventAccount::Domain);
        let outbox = Notification::from_outbox(&record);
        for error in [event.expect_err("no event"), outbox.expect_err("none")] {
            let length = error.to_string().len();
            assert!(length < 400, "{length}");
        }
    }
}

#[test]
fn the_id_is_the_header_or_else_the_place_and_always_the_same() {
    let plain = record("{}");
    let named = with_header(
        plain.clone(),
        "dovecast-id",
        "01900000-0000-7000-8000-000000000001",
    );
    assert_eq!(
        NotificationId::of(&named).to_string(),
        "01900000-0000-7000-8000-000000000001"
    );
    let id = NotificationId::of(&plain);
    assert_eq!(id, NotificationId::of(&plain));
    // Pinned: another value after an upgrade would be another webhook-id for the same notification.
    assert_eq!(id.to_string(), "60316de7-9da4-8d86-80b9-a47925853131");
    let next = Record { offset: 8, ..plain };
    assert_ne!(id, NotificationId::of(&next));
}
