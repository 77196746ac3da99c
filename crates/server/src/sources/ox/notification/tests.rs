//! What is read of a body, what is refused, and what the event looks like.

use dovecast_event::{Details, Event, MessageId, NewMessage, parse, render};
use serde_json::json;

use super::*;

/// As Dovecot 2.3.19's driver has sent it.
const SENT: &str = r#"{"user":"alice@example.com","event":"messageNew","folder":"INBOX","imap-uidvalidity":1795210528,"imap-uid":1,"from":"Bob Sender <bob@sender.example>","subject":"Hello","snippet":"Hello Alice, second line.","unseen":1}"#;

fn read(json: &str) -> Notification {
    Notification::read(json.as_bytes()).expect(json)
}

fn event(json: &str) -> String {
    String::from_utf8(read(json).event().expect("JSON")).expect("text")
}

#[test]
fn the_event_is_that_of_the_plugin_with_what_is_known_besides() {
    let expected = r#"{"user":"alice@example.com","mailbox":"INBOX","event":"MessageNew","uidvalidity":1795210528,"uid":1,"from":"Bob Sender <bob@sender.example>","snippet":"Hello Alice, second line.","subject":"Hello","unseen":1,"fromAddress":"bob@sender.example","fromDisplayName":"Bob Sender","subjectDecoded":"Hello"}"#;
    assert_eq!(event(SENT), expected);
    let parsed = parse(expected.as_bytes()).expect("an event");
    assert_eq!(
        (parsed.kind, parsed.unseen),
        (EventKind::MessageNew, Some(1))
    );
    assert_eq!(parsed.from_address.as_deref(), Some("bob@sender.example"));
}

#[test]
fn without_what_is_known_besides_the_bytes_are_those_of_the_plugin() {
    let least = r#"{"snippet":"s","imap-uid":2,"imap-uidvalidity":1,"folder":"a/b","event":"MessageNew","user":"u","new":[]}"#;
    let message = NewMessage {
        id: MessageId {
            uidvalidity: 1,
            uid: 2,
        },
        date: None,
        from: None,
        snippet: Some(b"s"),
        subject: None,
        to: None,
        full: None,
    };
    let mut rendered = Vec::new();
    let of_plugin = Event {
        user: b"u",
        userdb: &[],
        mailbox: b"a/b",
        details: Details::MessageNew(message),
        context: None,
    };
    render(&of_plugin, &mut rendered);
    assert_eq!(event(least).as_bytes(), rendered);
}

#[test]
fn encoded_words_stay_and_are_decoded_under_other_names() {
    let mut body: Value = serde_json::from_str(SENT).expect("JSON");
    body["from"] = json!("=?utf-8?q?B=C3=B6b?= <bob@sender.example>, eve@sender.example");
    body["subject"] = json!("=?utf-8?b?w7w=?=\n =?utf-8?b?w7Y=?=");
    let parsed = parse(event(&body.to_string()).as_bytes()).expect("an event");
    assert_eq!(parsed.from, body["from"].as_str().map(str::to_owned));
    assert_eq!(parsed.subject, body["subject"].as_str().map(str::to_owned));
    assert_eq!(parsed.from_display_name.as_deref(), Some("Böb"));
    assert_eq!(parsed.subject_decoded.as_deref(), Some("üö"));
}

#[test]
fn a_wrong_body_is_refused_with_its_field() {
    let check = |field: &str, value: Option<Value>, expected: &str| {
        let mut body: Value = serde_json::from_str(SENT).expect("JSON");
        let fields = body.as_object_mut().expect("an object");
        match value {
            Some(value) => fields.insert(field.to_owned(), value),
            None => fields.remove(field),
        };
        let error = Notification::read(body.to_string().as_bytes()).expect_err(field);
        let shown = error.to_string();
        assert!(
            shown.contains(&format!("`{field}`")) && shown.contains(expected),
            "{shown}"
        );
    };
    for field in ["user", "folder"] {
        for value in [None, Some(json!("")), Some(json!(7)), Some(Value::Null)] {
            check(field, value, "a text");
        }
    }
    for field in ["imap-uid", "imap-uidvalidity"] {
        for value in [
            None,
            Some(json!(0)),
            Some(json!(-1)),
            Some(json!("1")),
            Some(json!(4_294_967_296_u64)),
        ] {
            check(field, value, "a number from 1 to 4294967295");
        }
    }
    for value in [None, Some(json!("MessageRead")), Some(json!(1))] {
        check("event", value, "`messageNew`");
    }
    for field in ["from", "subject", "snippet"] {
        check(field, Some(json!([])), "a text");
    }
    check("unseen", Some(json!("1")), "a number from 0");
    for (body, expected) in [
        ("", "not JSON: EOF"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
    ] {
        let error = Notification::read(body.as_bytes()).expect_err(body);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn what_no_text_holds_is_replaced() {
    let body = SENT.replace("Hello Alice", "\\u0000");
    let mut body = body.into_bytes();
    let at = body
        .windows(3)
        .position(|three| three == b"Bob")
        .expect("Bob");
    body[at] = 0xff;
    let read = Notification::read(&body).expect("readable");
    assert!(read.from.is_some_and(|from| from.starts_with("\u{fffd}ob")));
    assert!(
        read.snippet
            .is_some_and(|snippet| snippet.starts_with('\u{fffd}'))
    );
}

#[test]
fn the_id_is_that_of_the_mail() {
    let key = IdKey::of(&[0; 32]);
    let id = |from: &str, to: &str| read(&SENT.replacen(from, to, 1)).id(&key, None);
    let first = read(SENT).id(&key, None);
    assert_eq!(first.to_string(), "e0ac1788-a2dc-85cd-93fd-f6667732ad56");
    assert_eq!(id("Hello", "Other"), first);
    assert_eq!(id("\"unseen\":1", "\"unseen\":2"), first);
    for (from, to) in [
        ("alice@", "bob@"),
        ("INBOX", "Other"),
        ("1795210528", "2"),
        ("uid\":1", "uid\":3"),
    ] {
        assert_ne!(id(from, to), first, "{from}");
    }
}

#[test]
fn mails_of_two_owners_have_two_ids_whatever_name_they_give() {
    let key = IdKey::of(&[0; 32]);
    let owners = [
        None,
        Some(""),
        Some("carol@example.com"),
        Some("eve@example.com"),
    ];
    let ids: std::collections::BTreeSet<Uuid> =
        owners.map(|owner| read(SENT).id(&key, owner)).into();
    assert_eq!(ids.len(), owners.len());
    let again = read(SENT).id(&key, owners[3]);
    assert!(ids.contains(&again));
    // The user's own, whoever tells of it.
    let own = read(SENT).id(&key, Some("alice@example.com"));
    assert_eq!(own, read(SENT).id(&key, None));
}
