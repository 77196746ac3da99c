//! Events and subscriptions, and what becomes of them.

use dovecast_notification::EventAccount;
use serde_json::json;

use super::*;
use crate::{TransportKind, Wishes};

const NEW: &str = r#"{"user":"11@3","mailbox":"INBOX","event":"MessageNew","uidvalidity":7,"uid":9,
    "from":"a@example.org","subject":"s","unseen":4}"#;
/// 2026-01-10T21:30:00Z, half past ten in Berlin.
const NIGHT_MS: i64 = 1_768_080_600_000;

/// Answers that were given beforehand; what is asked is noted.
struct Said(bool, Vec<String>);

impl Conditions for Said {
    fn pays(&mut self, steps: u64) -> bool {
        steps <= 100_000
    }

    fn holds(&mut self, condition: &str) -> bool {
        self.1.push(condition.to_owned());
        self.0
    }
}

fn event(json: &str) -> MailEvent {
    MailEvent::parse(json.as_bytes(), &EventAccount::User).expect(json)
}

fn subscription(wishes: &Value) -> Subscription {
    let mut all = json!({ "topics": ["mail:new"], "content": "envelope", "urgency": "normal" });
    for (name, value) in wishes.as_object().expect("an object") {
        all[name] = value.clone();
    }
    Subscription {
        id: SubscriptionId::generate(),
        person: Person::new("3", "11", "11@3").expect("a person"),
        client: "phone".to_owned(),
        transport: TransportKind::Fcm,
        wishes: Wishes::from_json(&all).expect("wishes"),
        expires_ms: None,
    }
}

fn planned(json: &str, wishes: &Value, said: &mut Said) -> EventPlan {
    plan(&event(json), &[subscription(wishes)], said, NIGHT_MS)
}

#[test]
fn a_new_mail_is_due_at_once_and_replaces_itself() {
    let plan = planned(NEW, &json!({}), &mut Said(true, Vec::new()));
    let [push] = &*plan.pushes else {
        panic!("{plan:?}");
    };
    assert_eq!((push.topic, push.badge), (Topic::MailNew, Some(4)));
    assert_eq!(push.tag, event(NEW).tag());
    assert_eq!(
        (push.due_ms, push.deadline_ms),
        (NIGHT_MS, NIGHT_MS + 5 * 3_600_000)
    );
    assert_eq!(push.message["subject"], "s");
    assert_eq!(push.short.get("subject"), None);
    assert_eq!(plan.take_back, None);
}

#[test]
fn others_than_new_mail_are_gathered_and_what_was_read_is_taken_back() {
    let read = NEW
        .replace("MessageNew", "FlagsSet")
        .replace("\"unseen\"", "\"flags\":[\"\\\\Seen\"],\"unseen\"");
    let plan = planned(
        &read,
        &json!({ "topics": ["*"] }),
        &mut Said(true, Vec::new()),
    );
    let [push] = &*plan.pushes else {
        panic!("{plan:?}");
    };
    assert_eq!((push.topic, push.tag.as_ref()), (Topic::MailFlags, None));
    assert_eq!(push.due_ms, NIGHT_MS + GATHER_MS);
    assert_eq!(push.message["topic"], "mail:flags");
    assert_eq!(plan.take_back, event(NEW).tag().map(|tag| (tag, Some(4))));
    // Who asks for new mail alone has it taken back, too.
    let plan = planned(&read, &json!({}), &mut Said(true, Vec::new()));
    assert!(plan.pushes.is_empty() && plan.take_back.is_some());
}

#[test]
fn quiet_hours_put_off_what_is_not_critical() {
    let night = json!({ "quiet_hours": { "timezone": "Europe/Berlin", "from": "22:00", "to": "07:00" },
        "critical": "c" });
    let mut said = Said(false, Vec::new());
    let plan = planned(NEW, &night, &mut said);
    let morning_ms = NIGHT_MS + 8 * 3_600_000 + 30 * 60_000;
    assert_eq!(plan.pushes[0].due_ms, morning_ms);
    assert_eq!(plan.pushes[0].deadline_ms, morning_ms + 5 * 3_600_000);
    assert_eq!(plan.pushes[0].quiet_until_ms, Some(morning_ms));
    assert_eq!(said.1, ["c"]);
    let plan = planned(NEW, &night, &mut Said(true, Vec::new()));
    assert_eq!(plan.pushes[0].due_ms, NIGHT_MS);
    assert_eq!(plan.pushes[0].quiet_until_ms, None);
    assert!(plan.pushes[0].passes_quiet_hours);
    let mut said = Said(true, Vec::new());
    planned(NEW, &json!({ "critical": "c" }), &mut said);
    assert!(said.1.is_empty(), "nothing is quiet, so nothing is asked");
}

#[test]
fn what_is_critical_is_known_before_quiet_hours_begin() {
    let night = json!({ "quiet_hours": { "timezone": "Europe/Berlin", "from": "22:00", "to": "07:00" },
        "critical": "c" });
    let evening_ms = NIGHT_MS - 3_600_000;
    for is_critical in [true, false] {
        let mut said = Said(is_critical, Vec::new());
        let plan = plan(&event(NEW), &[subscription(&night)], &mut said, evening_ms);
        let push = &plan.pushes[0];
        assert_eq!((push.due_ms, push.quiet_until_ms), (evening_ms, None));
        assert_eq!(push.passes_quiet_hours, is_critical);
    }
}

#[test]
fn a_filter_and_its_condition_let_pass_what_they_name() {
    for (filter, said, expected) in [
        (json!({ "mailboxes": ["Lists"] }), true, 0),
        (json!({ "senders": ["*@example.org"] }), true, 1),
        (json!({ "condition": "c" }), true, 1),
        (json!({ "condition": "c" }), false, 0),
    ] {
        let plan = planned(
            NEW,
            &json!({ "filter": filter }),
            &mut Said(said, Vec::new()),
        );
        assert_eq!(plan.pushes.len(), expected, "{filter}");
    }
}

#[test]
fn nobody_is_rung_for_anothers_mail() {
    let mut others = subscription(&json!({}));
    others.person = Person::new("3", "12", "11@3").expect("a person");
    let mut said = Said(true, Vec::new());
    let plan = plan(&event(NEW), &[others], &mut said, NIGHT_MS);
    assert!(plan.pushes.is_empty(), "{plan:?}");
    assert_eq!(plan.others, 1);
}
