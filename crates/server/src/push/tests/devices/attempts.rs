//! When a push is sent again, and when it is given up: its service takes nothing or finds it too
//! large, or the clock is set meanwhile.

use dovecast_mail_push::{Person, PushVerdict};
use dovecast_store::Clock;
use serde_json::{Value, json};

use super::{Running, World, claimed, said, sender, write};
use crate::config::Config;
use crate::push::counters::Count;

const HOUR_MS: i64 = 60 * 60 * 1_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Where a clock stands at first, in milliseconds since 1970.
const START_MS: i64 = 1_000 * DAY_MS;
/// Seconds from each failed attempt to the next one.
const WAITS: [i64; 10] = [10, 30, 60, 300, 900, 1_800, 3_600, 3_600, 3_600, 3_600];

#[tokio::test]
async fn a_push_is_retried_less_and_less_often_and_dropped_after_five_hours() {
    let clock = Clock::standing(START_MS);
    let world = World::with_clock(clock.clone()).await;
    let mut door = world.door(&Config::default());
    door.log_in("11@3").await;
    let body = json!({ "client": "phone", "transport": "fcm", "fcm": { "token": "joe" }, "topics": ["mail:new"] });
    let (_, made) = door
        .ask("POST", "/api/push/v1/subscriptions", Some(&body))
        .await;
    assert!(made["subscription"]["id"].is_string(), "{made}");
    world.answer((0..20).map(|_| said(PushVerdict::Later(None), 503)));
    write(&world, "Work", START_MS, true).await;
    let sender = sender(&world);
    let attempt = async |failures: u32| {
        let push = claimed(&world.store).await.pop();
        let push = push.expect("a push that is due");
        assert_eq!(push.failures, failures);
        sender.send(push).await;
    };
    attempt(0).await;
    for (failures, seconds) in (1..).zip(WAITS) {
        clock.pass(seconds * 1_000 - 1);
        assert!(claimed(&world.store).await.is_empty(), "after {failures}");
        clock.pass(1);
        attempt(failures).await;
    }
    assert_eq!(sender.counters.get(Count::Retried), 11);
    let waiting = async || world.store.waiting_pushes().await.expect("a number");
    let passed_ms = WAITS.iter().sum::<i64>() * 1_000;
    clock.pass(5 * HOUR_MS - passed_ms - 1);
    sender.drop_old().await;
    assert_eq!(waiting().await, 1, "a millisecond is left");
    clock.pass(1);
    sender.drop_old().await;
    assert_eq!(waiting().await, 0);
    assert_eq!(sender.counters.get(Count::Overdue), 1);
}

#[tokio::test]
async fn what_is_too_large_with_ids_alone_is_refused() {
    let mut running = Running::start(json!({})).await;
    let too_large = || said(PushVerdict::TooLarge, 413);
    running.world.answer([too_large(), too_large()]);
    running
        .tell("11@3", "MessageNew", 1, r#","subject":"s""#)
        .await;
    assert_eq!(running.next().await.message["subject"], "s");
    assert_eq!(running.next().await.message["subject"], Value::Null);
    running.until(Count::Refused, 1).await;
    let waiting = running.world.store.waiting_pushes().await;
    assert_eq!(waiting.expect("a number"), 0);
    // The device stays, and what comes next is not the same once more.
    running.tell("11@3", "MessageNew", 2, "").await;
    assert_eq!(running.next().await.message["uid"], 2);
    running.until(Count::Accepted, 1).await;
    assert_eq!(running.pushing.counters().get(Count::Refused), 1);
}

#[tokio::test]
async fn a_mail_rings_once_though_the_clock_is_set_a_day_forward_and_back() {
    // An hour ahead of the engine's: what comes is due at once, however slow the machine is.
    let clock = Clock::standing(dovecast_log::now_ms() + HOUR_MS);
    let mut running = Running::with_clock(clock.clone(), json!({})).await;
    let store = running.world.store.clone();
    let person = Person::new("3", "11", "11@3").expect("a person");
    running.world.answer([said(PushVerdict::Later(None), 503)]);
    running.tell("11@3", "MessageNew", 1, "").await;
    running.next().await;
    running.until(Count::Retried, 1).await;
    for set_by_ms in [DAY_MS, -DAY_MS] {
        clock.set(set_by_ms);
        let dropped = store.drop_old_pushes().await.expect("an answer");
        assert_eq!(dropped.overdue, 0, "{set_by_ms}");
        let traces = store.push_traces(&person).await.expect("traces");
        let waiting = &traces.waiting[0];
        let waits_ms = waiting.due_ms - traces.now_ms;
        assert_eq!((waiting.failures, waits_ms), (1, 10_000), "{set_by_ms}");
    }
    clock.pass(10_000);
    assert_eq!(running.next().await.message["uid"], 1);
    running.until(Count::Accepted, 1).await;
    for set_by_ms in [DAY_MS, -DAY_MS] {
        clock.set(set_by_ms);
        let dropped = store.drop_old_pushes().await.expect("an answer");
        assert_eq!(dropped.forgotten, 0, "{set_by_ms}");
    }
    // The log is read again, as after a crash: the device was told of the first mail.
    for uid in [1, 2] {
        running.tell("11@3", "MessageNew", uid, "").await;
    }
    assert_eq!(running.next().await.message["uid"], 2);
    running.until(Count::Accepted, 2).await;
    assert_eq!(store.waiting_pushes().await.expect("a number"), 0);
    assert!(running.world.sent.try_recv().is_err());
}
