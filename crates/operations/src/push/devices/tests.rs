//! What is said of devices that did not ring.

use dovecast_mail_push::{Subscription, SubscriptionId, TransportKind, Wishes};
use dovecast_store::AcceptedPushes;
use serde_json::{Value, json};

use super::*;

/// The first of January 2026, twelve o'clock.
const NOON_MS: i64 = 1_767_268_800_000;

fn device(more: &Value) -> SubscriptionRecord {
    let mut wishes = json!({ "topics": ["mail:new"], "content": "envelope", "urgency": "normal" });
    for (name, value) in more.as_object().expect("an object") {
        wishes[name] = value.clone();
    }
    SubscriptionRecord {
        subscription: Subscription {
            id: SubscriptionId::generate(),
            person: Person::new("3", "11", "11@3").expect("a person"),
            client: "phone".to_owned(),
            transport: TransportKind::Fcm,
            wishes: Wishes::from_json(&wishes).expect("wishes"),
            expires_ms: None,
        },
        last_four: "abcd".to_owned(),
        created_ms: 0,
        answer: None,
    }
}

fn traces() -> PushTraces {
    PushTraces {
        now_ms: NOON_MS,
        ..PushTraces::default()
    }
}

fn says(record: &SubscriptionRecord, traces: &PushTraces, expected: &str) {
    let hops = hops(record, traces, 2);
    let is_said = hops.iter().any(|hop| hop.trim() == expected);
    assert!(is_said, "`{expected}` is not in {hops:#?}");
}

#[test]
fn what_a_device_asks_for_is_said() {
    let plain = device(&json!({}));
    for expected in [
        "subscription: is there",
        "topics: mail:new: new mail rings",
        "filter: none: each mail rings",
        "quiet hours: none",
        "waiting: 0",
        "pushes_per_minute: 0 of 2 in the last minute",
        "accepted within a day: none",
        "last answer of the service: none yet",
    ] {
        says(&plain, &traces(), expected);
    }
    let narrow = device(&json!({
        "topics": ["mail:flags"],
        "filter": {"mailboxes": ["INBOX", "Lists/*"], "condition": "uid > 1"},
        "quiet_hours": {"timezone": "UTC", "from": "11:00", "to": "13:00"},
    }));
    for expected in [
        "topics: mail:flags: new mail does not ring",
        "filter: only mailboxes INBOX, Lists/*; condition uid > 1",
        "quiet hours: until 2026-01-01T13:00:00Z: what comes waits",
    ] {
        says(&narrow, &traces(), expected);
    }
    let mut over = device(&json!({}));
    over.subscription.expires_ms = Some(NOON_MS);
    let expected = "subscription: its time was over at 2026-01-01T12:00:00Z: nothing is pushed";
    says(&over, &traces(), expected);
}

#[test]
fn what_waits_is_said_with_its_reason_and_what_others_have_is_not() {
    let mut record = device(&json!({}));
    record.answer = Some(LastAnswer {
        time_ms: NOON_MS,
        status: Some(503),
        reason: "busy".to_owned(),
    });
    let push = WaitingPush {
        subscription: record.subscription.id,
        topic: "mail:new".to_owned(),
        created_ms: NOON_MS - 1000,
        due_ms: NOON_MS,
        deadline_ms: NOON_MS + 60_000,
        failures: 0,
        is_claimed: false,
    };
    let mut found = traces();
    for (push, within_minute, expected) in [
        (
            push.clone(),
            0,
            "is sent as soon as there is a place for it",
        ),
        (
            push.clone(),
            2,
            "waits: the person has had `pushes_per_minute`",
        ),
        (
            WaitingPush {
                is_claimed: true,
                ..push.clone()
            },
            2,
            "is being sent",
        ),
        (
            WaitingPush {
                failures: 3,
                due_ms: NOON_MS + 30_000,
                ..push.clone()
            },
            0,
            "has failed 3 times, is tried again at 2026-01-01T12:00:30Z, dropped at 2026-01-01T12:01:00Z",
        ),
        (
            WaitingPush {
                due_ms: NOON_MS + 30_000,
                ..push.clone()
            },
            0,
            "waits until 2026-01-01T12:00:30Z: for quiet hours, for others to come with it, or as its host has asked for time",
        ),
    ] {
        found.waiting = vec![push];
        found.within_minute = within_minute;
        let expected = format!("mail:new of 2026-01-01T11:59:59Z: {expected}");
        says(&record, &found, &expected);
        says(&device(&json!({})), &found, "waiting: 0");
    }
    found.accepted = vec![AcceptedPushes {
        subscription: record.subscription.id,
        count: 4,
        last_ms: NOON_MS,
    }];
    let accepted = "accepted within a day: 4, the last one at 2026-01-01T12:00:00Z";
    says(&record, &found, accepted);
    let answer = "last answer of the service: 503 busy, at 2026-01-01T12:00:00Z";
    says(&record, &found, answer);
}
