//! From an event in the log to a device, through the store.

mod attempts;

use std::sync::Arc;
use std::time::Duration;

use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Log, NewRecord};
use dovecast_mail_push::lanes::{LaneBounds, Lanes};
use dovecast_mail_push::plan::{Conditions, plan};
use dovecast_mail_push::{MailEvent, Person, Push, PushAnswer, PushVerdict, Topic};
use dovecast_store::{ClaimLimits, ClaimedPush, Clock, Store};
use futures_util::FutureExt;
use serde_json::{Value, json};

use super::{HANGING, World, said};
use crate::config::Config;
use crate::logs::Logs;
use crate::push::counters::Count;
use crate::push::sender::Sender;
use crate::push::wiring::Pushing;
use crate::serve::Stopping;

/// How long something that has to come is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running engine, and the log that it follows.
struct Running {
    world: World,
    log: Embedded,
    pushing: Pushing,
}

impl Running {
    /// Begins with a device of 11@3 that asks for these topics.
    async fn start(more: Value) -> Self {
        Self::with_clock(Clock::default(), more).await
    }

    /// Begins with a store that has this clock.
    async fn with_clock(clock: Clock, more: Value) -> Self {
        let world = World::with_clock(clock).await;
        let mut door = world.door(&Config::default());
        door.log_in("11@3").await;
        let mut body = json!({ "client": "phone", "transport": "fcm", "fcm": { "token": "joe" }, "topics": ["mail:new"] });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let (_, made) = door
            .ask("POST", "/api/push/v1/subscriptions", Some(&body))
            .await;
        assert!(made["subscription"]["id"].is_string(), "{made}");
        let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
        let log = log.expect("a log");
        let text = format!("data_dir = '{}'", world.dir.path().display());
        let config = Config::parse(&text).expect("a configuration");
        let logs = Logs::of(&config, &log).expect("logs");
        let pushing =
            Pushing::start(&config, &logs, &world.store, &world.ports).expect("mail push");
        Self {
            world,
            log,
            pushing,
        }
    }

    async fn tell(&self, user: &str, event: &str, uid: u32, more: &str) {
        let now_ms = dovecast_log::now_ms();
        self.tell_at(now_ms, user, (event, uid, more)).await;
    }

    async fn tell_at(&self, time_ms: i64, user: &str, (event, uid, more): (&str, u32, &str)) {
        let value = format!(
            r#"{{"user":"{user}","mailbox":"INBOX","event":"{event}","uidvalidity":7,"uid":{uid}{more}}}"#
        );
        let record = NewRecord {
            topic: "dovecot".into(),
            key: Some(user.as_bytes().to_vec().into()),
            headers: Vec::new(),
            value: value.into_bytes().into(),
            timestamp_ms: time_ms,
            id: None,
        };
        self.log.append(vec![record]).await.expect("appended");
    }

    async fn next(&mut self) -> Push {
        let sent = tokio::time::timeout(PATIENCE, self.world.sent.recv()).await;
        let (token, push) = sent.expect("a push in time").expect("a push");
        assert_eq!((&*token, &*push.person.user), ("joe", "11"));
        push
    }

    async fn until(&self, what: Count, least: u64) {
        let counts = async {
            while self.pushing.counters().get(what) < least {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, counts)
            .await
            .expect("it is counted in time");
    }
}

#[tokio::test]
async fn services_that_were_asked_are_waited_for_when_the_server_stops() {
    let mut running = Running::start(json!({})).await;
    let devices = Arc::clone(&running.world.devices);
    let gate = devices.gate.lock().await;
    running.tell("11@3", "MessageNew", 1, "").await;
    running.next().await;
    let mut stop = Box::pin(running.pushing.stop());
    for _ in 0..100 {
        assert!(stop.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(gate);
    stop.await;
    let waiting = running.world.store.waiting_pushes().await;
    assert_eq!(waiting.expect("a number"), 0, "it would be sent again");
}

#[tokio::test]
async fn a_webhook_that_hangs_holds_up_nobody_else() {
    let mut running = Running::start(json!({})).await;
    let mut ann = running.world.door(&Config::default());
    ann.log_in("12@3").await;
    let webhook = json!({
        "client": "desk", "transport": "webhook", "topics": ["mail:new"], "webhook": { "url": HANGING },
    });
    let (_, made) = ann
        .ask("POST", "/api/push/v1/subscriptions", Some(&webhook))
        .await;
    assert!(made["subscription"]["id"].is_string(), "{made}");
    running.tell("12@3", "MessageNew", 1, "").await;
    let hanging = tokio::time::timeout(PATIENCE, running.world.sent.recv()).await;
    let (token, _) = hanging.expect("a push in time").expect("a push");
    assert_eq!(token, HANGING);
    for uid in 2..4 {
        running.tell("11@3", "MessageNew", uid, "").await;
        assert_eq!(running.next().await.message["uid"], uid);
    }
    // The attempt at the webhook is still the first one.
    assert_eq!(running.pushing.counters().get(Count::Retried), 0);
}

#[tokio::test]
async fn a_device_rings_for_its_persons_mail_and_stops_when_it_was_read() {
    let mut running = Running::start(json!({})).await;
    running.tell("12@3", "MessageNew", 1, "").await;
    running
        .tell("11@3", "MessageNew", 2, r#","subject":"s","unseen":1"#)
        .await;
    let push = running.next().await;
    assert_eq!((push.topic, push.badge), (Topic::MailNew, Some(1)));
    assert_eq!(push.message["subject"], "s");
    running.until(Count::Accepted, 1).await;
    running
        .tell("11@3", "MessageRead", 2, r#","unseen":0"#)
        .await;
    let closing = running.next().await;
    assert_eq!((closing.topic, closing.badge), (Topic::MailClose, Some(0)));
    assert_eq!(closing.tag, push.tag);
    running.until(Count::Accepted, 2).await;
    assert_eq!(running.pushing.counters().get(Count::WrongPerson), 0);
}

#[tokio::test]
async fn changes_come_gathered_and_conditions_choose_among_them() {
    let filter = json!({ "condition": "message.uid != 3" });
    let mut running = Running::start(json!({ "topics": ["*"], "filter": filter })).await;
    for uid in [1, 3, 4] {
        running
            .tell("11@3", "FlagsSet", uid, r#","flags":["\\Flagged"]"#)
            .await;
    }
    let mut uids = Vec::new();
    while uids.len() < 2 {
        let push = running.next().await;
        assert_eq!(push.topic, Topic::MailChanges);
        let changes = push.message["changes"].as_array().expect("changes").clone();
        uids.extend(
            changes
                .iter()
                .map(|change| change["message"]["uid"].clone()),
        );
    }
    assert_eq!(uids, [1, 4]);
}

#[tokio::test]
async fn what_is_too_large_is_sent_shorter_and_what_is_gone_is_removed() {
    let mut running = Running::start(json!({})).await;
    running.world.answer([
        said(PushVerdict::TooLarge, 413),
        said(PushVerdict::Gone, 410),
    ]);
    running
        .tell("11@3", "MessageNew", 1, r#","subject":"s""#)
        .await;
    assert_eq!(running.next().await.message["subject"], "s");
    assert_eq!(running.next().await.message["subject"], Value::Null);
    running.until(Count::Gone, 1).await;
    let person = running.world.store.push_clients().await.expect("clients");
    assert!(person.is_empty(), "{person:?}");
}

#[tokio::test]
async fn a_service_that_asks_for_time_is_given_it() {
    let mut running = Running::start(json!({})).await;
    let hour = Some(Duration::from_hours(1));
    running.world.answer([said(PushVerdict::Later(hour), 429)]);
    running.tell("11@3", "MessageNew", 1, "").await;
    running.next().await;
    running.until(Count::Retried, 1).await;
    running.tell("11@3", "MessageNew", 2, "").await;
    let store = running.world.store.clone();
    let waiting = async {
        while store.waiting_pushes().await.expect("a count") < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waiting = tokio::time::timeout(PATIENCE, waiting).await;
    waiting.expect("both wait");
    // No node sends anything to its host.
    assert!(claimed(&store.another_node()).await.is_empty());
    assert!(running.world.sent.try_recv().is_err());
}

#[tokio::test]
async fn a_subscription_hides_what_is_older_and_nothing_if_it_is_of_a_time_to_come() {
    let mut running = Running::start(json!({})).await;
    let old_ms = dovecast_log::now_ms() - 10 * 60_000;
    running.tell_at(old_ms, "11@3", ("MessageNew", 1, "")).await;
    running.until(Count::BeforeSubscription, 1).await;
    // The clock was an hour ahead when the device was subscribed, and was set back since.
    let ahead = "UPDATE push_subscription SET created_ms = created_ms + 3600000";
    assert_eq!(running.world.change(ahead).await, 1);
    running.tell("11@3", "MessageNew", 2, "").await;
    assert_eq!(running.next().await.message["uid"], 2);
    assert_eq!(running.pushing.counters().get(Count::BeforeSubscription), 1);
}

#[tokio::test]
async fn what_no_service_has_answered_is_closed_when_it_is_read() {
    let mut running = Running::start(json!({})).await;
    running.world.answer([PushAnswer::none("no answer")]);
    running.tell("11@3", "MessageNew", 1, "").await;
    let push = running.next().await;
    running.until(Count::Retried, 1).await;
    running.tell("11@3", "MessageRead", 1, "").await;
    let closing = running.next().await;
    assert_eq!((closing.topic, &closing.tag), (Topic::MailClose, &push.tag));
}

/// What is due, claimed by whoever asks.
async fn claimed(store: &Store) -> Vec<ClaimedPush> {
    let limits = ClaimLimits {
        most: 10,
        per_minute: 30,
    };
    let lanes = Lanes::new(LaneBounds {
        in_all: 10,
        of_host: 10,
        of_person: 10,
    });
    let claimed = store.claim_pushes(limits, &lanes).await;
    let (claimed, ..) = claimed.expect("an answer");
    claimed.into_iter().map(|(push, _)| push).collect()
}

#[tokio::test]
async fn a_push_whose_device_is_registered_anew_while_it_is_claimed_rings() {
    let mut world = World::new().await;
    let mut door = world.door(&Config::default());
    door.log_in("11@3").await;
    let body = json!({ "client": "phone", "transport": "fcm", "fcm": { "token": "joe" }, "topics": ["mail:new"] });
    let register = async || {
        door.ask("POST", "/api/push/v1/subscriptions", Some(&body))
            .await
    };
    register().await;
    write(&world, "Work", dovecast_log::now_ms(), false).await;
    let sender = sender(&world);
    let counters = Arc::clone(&sender.counters);
    let push = claimed(&world.store).await.remove(0);
    register().await;
    sender.send(push).await;
    assert!(world.sent.try_recv().is_err(), "the old address is asked");
    assert_eq!(counters.get(Count::Readdressed), 1);
    let push = claimed(&world.store).await.remove(0);
    sender.send(push).await;
    assert_eq!(world.sent.try_recv().expect("a push").0, "joe");
    assert_eq!(counters.get(Count::Accepted), 1);
}

#[tokio::test]
async fn what_becomes_due_in_quiet_hours_waits_for_their_end_unless_it_is_critical() {
    const MINUTE_MS: i64 = 60_000;
    let mut world = World::new().await;
    let mut door = world.door(&Config::default());
    door.log_in("11@3").await;
    let now_ms = dovecast_log::now_ms();
    let time = |ms: i64| format!("{:02}:{:02}", ms / MINUTE_MS / 60 % 24, ms / MINUTE_MS % 60);
    let (from, to) = (
        time(now_ms - 10 * MINUTE_MS),
        time(now_ms + 180 * MINUTE_MS),
    );
    let body = json!({ "client": "phone", "transport": "fcm", "fcm": { "token": "joe" }, "topics": ["mail:new"],
        "quiet_hours": { "timezone": "UTC", "from": from, "to": to }, "critical": "true" });
    let (_, made) = door
        .ask("POST", "/api/push/v1/subscriptions", Some(&body))
        .await;
    assert!(made["subscription"]["id"].is_string(), "{made}");
    let sender = sender(&world);
    // Planned before they began.
    let before_ms = now_ms - 20 * MINUTE_MS;
    write(&world, "Work", before_ms, false).await;
    sender.send(claimed(&world.store).await.remove(0)).await;
    assert!(world.sent.try_recv().is_err(), "it rings in quiet hours");
    assert_eq!(sender.counters.get(Count::Quiet), 1);
    let person = Person::new("3", "11", "11@3").expect("a person");
    let traces = world.store.push_traces(&person).await.expect("traces");
    let waiting = &traces.waiting[0];
    let waits_ms = waiting.due_ms - now_ms;
    assert!(
        (178 * MINUTE_MS..=180 * MINUTE_MS).contains(&waits_ms),
        "{waits_ms}"
    );
    assert_eq!(waiting.failures, 0);
    // What is left of its five hours begins when they are over.
    let left_ms = waiting.deadline_ms - waiting.due_ms;
    assert!(
        (278 * MINUTE_MS..=280 * MINUTE_MS).contains(&left_ms),
        "{left_ms}"
    );
    write(&world, "Alarms", before_ms, true).await;
    sender.send(claimed(&world.store).await.remove(0)).await;
    let (token, push) = world.sent.try_recv().expect("a push");
    assert_eq!(
        (&*token, &push.message["mailbox"]),
        ("joe", &json!("Alarms"))
    );
}

/// Plans at this time that something is new in a mailbox of 11@3, and writes it; all conditions
/// hold, or none.
async fn write(world: &World, mailbox: &str, now_ms: i64, holds: bool) {
    let person = Person::new("3", "11", "11@3").expect("a person");
    let subscriptions = world.store.subscriptions(&person).await;
    let subscriptions = subscriptions.expect("subscriptions").into_iter();
    let subscriptions: Vec<_> = subscriptions.map(|one| one.subscription).collect();
    let event = MailEvent::something_new(person.clone(), mailbox);
    let planned = plan(&event, &subscriptions, &mut Holding(holds), now_ms);
    let written = world.store.write_pushes(&[(person, planned)]).await;
    assert_eq!(written.expect("written").pushes, 1);
}

/// A sender whose attempts are made by the test.
fn sender(world: &World) -> Sender {
    Sender {
        store: world.store.clone(),
        transports: Arc::new(world.ports.transports.clone()),
        counters: Arc::default(),
        news: Arc::default(),
        per_minute: 30,
        held: Arc::default(),
        stopping: Stopping::default(),
    }
}

/// Conditions that all hold, or none.
struct Holding(bool);

impl Conditions for Holding {
    fn pays(&mut self, _: u64) -> bool {
        true
    }

    fn holds(&mut self, _: &str) -> bool {
        self.0
    }
}
