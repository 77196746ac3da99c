//! What answers of mail push hold. No token is ever shown whole.

use dovecast_operations::push::{BegunSession, PushTest, ShownSubscription};
use dovecast_store::{LastAnswer, SubscriptionRecord};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) fn session(begun: &BegunSession) -> Value {
    let person = &begun.person;
    json!({
        "session": begun.secret,
        "expires_at": time(begun.expires_ms),
        "person": { "context": &*person.context, "user": &*person.user, "login": &*person.login },
    })
}

pub(super) fn made(shown: &ShownSubscription) -> Value {
    let mut document = one(&shown.record);
    if let Some(secret) = &shown.signing_secret {
        document["meta"] = json!({ "signing_secret": secret });
    }
    document
}

pub(super) fn one(record: &SubscriptionRecord) -> Value {
    json!({ "subscription": subscription(record) })
}

pub(super) fn list(records: &[SubscriptionRecord]) -> Value {
    let all: Vec<Value> = records.iter().map(subscription).collect();
    json!({ "subscriptions": all })
}

pub(super) fn test(test: &PushTest) -> Value {
    let answer = json!({ "status": test.answer.status, "reason": test.answer.reason });
    json!({ "accepted": test.is_accepted, "answer": answer })
}

fn subscription(record: &SubscriptionRecord) -> Value {
    let one = &record.subscription;
    let mut out = one.wishes.to_json();
    out.insert("id".to_owned(), json!(one.id.to_string()));
    out.insert("client".to_owned(), json!(one.client));
    out.insert("transport".to_owned(), json!(one.transport.name()));
    out.insert("created_at".to_owned(), json!(time(record.created_ms)));
    out.insert(
        "expires_at".to_owned(),
        json!(one.expires_ms.and_then(time)),
    );
    out.insert("last_four".to_owned(), json!(record.last_four));
    out.insert(
        "last_answer".to_owned(),
        json!(record.answer.as_ref().map(answer)),
    );
    Value::Object(out)
}

fn answer(answer: &LastAnswer) -> Value {
    json!({ "time": time(answer.time_ms), "status": answer.status, "reason": answer.reason })
}

fn time(ms: i64) -> Option<String> {
    Timestamp::from_millisecond(ms)
        .ok()
        .map(|time| time.to_string())
}
