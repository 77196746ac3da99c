//! What requests may say of a subscription, and what is answered to what they may not.

use serde_json::json;

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;
/// A point of P-256, that of its generator.
const POINT: &str =
    "BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU";

fn whole() -> Value {
    json!({
        "client": "phone", "transport": "fcm", "topics": ["mail:new", "mail:*"], "content": "snippet",
        "expires_at": "2030-01-01T00:00:00Z",
        "filter": { "mailboxes": ["INBOX"], "senders": ["*@example.org"], "condition": "message.uid > 1" },
        "urgency": "high", "quiet_hours": { "timezone": "Europe/Berlin", "from": "22:00", "to": "07:00" },
        "critical": "message.mailbox == \"Alarm\"", "fcm": { "token": "abcdef" },
    })
}

/// The faults of a body in which some fields are others.
fn faults(fields: &Value) -> Vec<String> {
    let mut body = whole();
    for (name, value) in fields.as_object().expect("an object").clone() {
        body[name] = value;
    }
    let refused = SubscriptionFields::read(&body, NOW_MS, true).expect_err("refused");
    refused
        .into_iter()
        .map(|fault| format!("{} {}", fault.pointer, fault.detail))
        .collect()
}

#[test]
fn all_that_can_be_said_is_read() {
    let fields = SubscriptionFields::read(&whole(), NOW_MS, true).expect("fields");
    let wishes = fields.wishes();
    assert_eq!(
        wishes.topics.names().collect::<Vec<_>>(),
        ["mail:new", "mail:*"]
    );
    assert_eq!(wishes.content, PushContent::Snippet);
    assert_eq!(wishes.urgency, Urgency::High);
    assert!(wishes.quiet_hours.is_some() && wishes.critical.is_some());
    let address = fields.address.expect("an address");
    assert_eq!(
        (address.kind(), address.token()),
        (TransportKind::Fcm, "abcdef")
    );
}

#[test]
fn a_change_is_what_it_names_and_nothing_else() {
    let before = SubscriptionFields::read(&whole(), NOW_MS, true)
        .expect("fields")
        .wishes();
    let change = json!({ "content": "ids", "quiet_hours": null });
    let change = SubscriptionFields::read(&change, NOW_MS, false).expect("a change");
    let after = change.changed(before.clone());
    assert_eq!(
        after,
        Wishes {
            content: PushContent::Ids,
            quiet_hours: None,
            ..before
        }
    );
    assert_eq!(change.expires_ms, None);
    let forever = SubscriptionFields::read(&json!({ "expires_at": null }), NOW_MS, false);
    assert_eq!(forever.expect("a change").expires_ms, Some(None));
}

#[test]
fn each_fault_names_its_field() {
    for (fields, expected) in [
        (json!({ "client": " " }), "/client is blank"),
        (json!({ "client": 7 }), "/client is not a string"),
        (
            json!({ "topics": [] }),
            "/topics is empty: name at least one topic, `*` for all",
        ),
        (json!({ "topics": "mail:new" }), "/topics is not an array"),
        (
            json!({ "topics": [7] }),
            "/topics has an item that is not a string",
        ),
        (
            json!({ "transport": "smoke" }),
            "/transport is `smoke`, which is none of webpush, fcm, apns, webhook",
        ),
        (
            json!({ "content": "all" }),
            "/content is `all`, which is none of ids, envelope, snippet",
        ),
        (
            json!({ "expires_at": "2001-01-01T00:00:00Z" }),
            "/expires_at is not in the future",
        ),
        (
            json!({ "expires_at": "soon" }),
            "/expires_at is not a time as RFC 3339 writes it",
        ),
        (
            json!({ "filter": { "sender": [] } }),
            "/filter/sender is not a field of a filter",
        ),
        (
            json!({ "filter": { "senders": [""] } }),
            "/filter/senders has an item that is empty or longer than 255 bytes",
        ),
        (
            json!({ "quiet_hours": { "timezone": "UTC", "from": "1", "to": "07:00" } }),
            "/quiet_hours is wrong: `from` is no time of the day such as `22:00`",
        ),
        (
            json!({ "quiet_hours": [] }),
            "/quiet_hours is not an object with the strings `timezone`, `from` and `to`",
        ),
        (json!({ "fcm": {} }), "/fcm/token is missing"),
        (
            json!({ "fcm": { "token": "a b" } }),
            "/fcm/token has blanks or control characters in it",
        ),
        (
            json!({ "apns": { "token": "ab" } }),
            "/apns does not go with the transport `fcm`",
        ),
        (
            json!({ "transport": "apns", "fcm": null, "apns": { "token": "xyz" } }),
            "/apns/token is not hexadecimal",
        ),
        (
            json!({ "colour": "red" }),
            "/colour is not a field of a subscription",
        ),
    ] {
        let faults = faults(&fields);
        assert!(
            faults.iter().any(|fault| fault == expected),
            "{faults:?} lacks {expected}"
        );
    }
    let faults = faults(&json!({ "critical": "size(message)" }));
    assert!(
        faults[0].starts_with("/critical is not a condition: "),
        "{faults:?}"
    );
}

#[test]
fn keys_of_web_push_are_looked_at() {
    let body = |endpoint: &str, p256dh: &str, auth: &str| {
        json!({ "client": "c", "transport": "webpush", "topics": ["*"],
            "webpush": { "endpoint": endpoint, "keys": { "p256dh": p256dh, "auth": auth } } })
    };
    let (url, auth) = ("https://push.example.org/x", "AAAAAAAAAAAAAAAAAAAAAA");
    let good = body(url, POINT, auth);
    SubscriptionFields::read(&good, NOW_MS, true).expect("a subscription");
    for (bad, pointer) in [
        (
            body("ftp://push.example.org/x", POINT, auth),
            "/webpush/endpoint",
        ),
        (body("push", POINT, auth), "/webpush/endpoint"),
        (body(url, "AAAA", auth), "/webpush/keys/p256dh"),
        (
            body(url, &POINT.replacen("BG", "AG", 1), auth),
            "/webpush/keys/p256dh",
        ),
        (body(url, POINT, "AAAA"), "/webpush/keys/auth"),
        (body(url, POINT, "!"), "/webpush/keys/auth"),
    ] {
        let faults = SubscriptionFields::read(&bad, NOW_MS, true).expect_err("refused");
        assert_eq!(faults[0].pointer, pointer, "{faults:?}");
    }
}

#[test]
fn what_is_huge_is_answered_in_short() {
    let long = "x".repeat(1024 * 1024);
    for fields in [
        json!({ "topics": [long] }),
        json!({ "topics": vec!["mail:nwe"; 100_000] }),
        json!({ "client": long }),
        json!({ "fcm": { "token": long } }),
        json!({ "filter": { "mailboxes": vec!["a"; 10_000] } }),
        json!({ long.clone(): 1 }),
    ] {
        let length: usize = faults(&fields).iter().map(String::len).sum();
        assert!(length < 2000, "{length}");
    }
    let nothing = SubscriptionFields::read(&json!([]), NOW_MS, true).expect_err("refused");
    assert_eq!(nothing[0].detail, "is not an object");
    let missing = SubscriptionFields::read(&json!({}), NOW_MS, true).expect_err("refused");
    let pointers: Vec<&str> = missing.iter().map(|fault| &*fault.pointer).collect();
    assert_eq!(pointers, ["/client", "/transport", "/topics"]);
}
