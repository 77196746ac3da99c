//! The workers with a real log and real endpoints: what arrives is counted against what was notified, whatever an endpoint, the
//! ledger or the process does meanwhile.

mod ledger;
mod sink;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dovecast_dispatch::work::schedule::Schedule;
use dovecast_dispatch::work::{Directory, DispatchOptions, Dispatcher, Endpoint, Source};
use dovecast_dispatch::{Choice, EndpointId, Filter};
use dovecast_drivers::guard::Guard;
use dovecast_drivers::webhook::{Webhook, WebhookOptions};
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Log, NewRecord};
use tempfile::TempDir;
use uuid::Uuid;

use ledger::Memory;
use sink::{Answer, OK, Sink};

const OUTBOX: &str = "hooks.outbox";
const READERS: usize = 2;
const PATIENCE: Duration = Duration::from_mins(1);

/// A log, a ledger and endpoints, and perhaps a dispatcher.
struct World {
    _dir: TempDir,
    log: Embedded,
    ledger: Memory,
    directory: Arc<Directory>,
    dispatcher: Option<Dispatcher>,
    in_flight: u64,
    sent: u32,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Embedded::open(dir.path(), &EmbeddedOptions::default()).expect("a log");
        Self {
            _dir: dir,
            log,
            ledger: Memory::default(),
            directory: Arc::default(),
            dispatcher: None,
            in_flight: 5_000,
            sent: 0,
        }
    }

    fn start(&mut self) {
        let options = DispatchOptions {
            group: "dispatch".to_owned(),
            sources: BTreeMap::from([(OUTBOX.to_owned(), Source::Outbox)]),
            in_flight: self.in_flight,
            readers: READERS,
        };
        self.dispatcher = Some(Dispatcher::start(
            self.log.clone(),
            self.ledger.clone(),
            Arc::clone(&self.directory),
            Guard::new(&["127.0.0.0/8".parse().expect("a network")]),
            options,
        ));
    }

    fn put(&self, number: u128, sink: &Sink, change: impl FnOnce(&mut Endpoint)) {
        let mut endpoint = endpoint(number, sink);
        change(&mut endpoint);
        let filter = Filter {
            endpoint: endpoint.id,
            account: "1".into(),
            enabled: true,
            applications: Choice::Any,
            event_types: Choice::Any,
            levels: Choice::Any,
            condition: None,
        };
        self.directory.put(endpoint, Some(filter));
    }

    /// Nothing of the log is for it.
    fn put_without_filter(&self, number: u128, sink: &Sink) {
        self.directory.put(endpoint(number, sink), None);
    }

    async fn append(&self, values: impl IntoIterator<Item = String>) {
        let new = |(number, value): (usize, String)| NewRecord {
            topic: Arc::from(OUTBOX),
            key: Some(Bytes::from((number % 50).to_string())),
            value: value.into(),
            headers: Vec::new(),
            timestamp_ms: 0,
            id: None,
        };
        let records = values.into_iter().enumerate().map(new).collect();
        self.log.append(records).await.expect("room");
    }

    /// So many notifications for everybody.
    async fn notify(&mut self, count: u32) {
        let numbers = self.sent..self.sent + count;
        self.sent += count;
        self.append(numbers.map(|number| notification(&number.to_string())))
            .await;
    }

    /// Everything that was read is committed.
    async fn committed(&self) {
        until("committed", || async {
            let groups = self.log.groups().await.expect("groups");
            !groups.is_empty() && groups.iter().all(|group| group.committed == group.end)
        })
        .await;
    }

    async fn stop(&mut self) {
        self.dispatcher.take().expect("it runs").stop().await;
    }
}

fn notification(message: &str) -> String {
    format!(
        r#"{{"application":"a","event_type":"e","level":null,"timestamp":"t","message":{message},"account_id":"1"}}"#
    )
}

fn endpoint(number: u128, sink: &Sink) -> Endpoint {
    let webhook = Webhook::new(&WebhookOptions {
        url: format!("http://{}/", sink.address),
        timeout: Duration::from_secs(3),
        ..WebhookOptions::default()
    });
    Endpoint {
        id: EndpointId(Uuid::from_u128(number)),
        driver: Ok(Arc::new(webhook.expect("a webhook"))),
        is_active: true,
        is_paused: false,
        schedule: Schedule::new(vec![Duration::from_millis(100); 20], 0),
        concurrency: 8,
        rate_limit: None,
        fallback: None,
        is_switched_off_by_failure: false,
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn until_taken(sink: &Sink, count: u32) {
    until(&format!("{count} are taken"), || async {
        sink.distinct() >= count as usize
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_notification_is_delivered_once_and_leaves_nothing_but_its_attempt() {
    let mut world = World::new();
    let (one, two) = (Sink::start().await, Sink::start().await);
    world.put(1, &one, |_| {});
    world.put(2, &two, |_| {});
    world.start();
    world.notify(500).await;
    for sink in [&one, &two] {
        until_taken(sink, 500).await;
    }
    world.committed().await;
    world.stop().await;
    assert_eq!((one.asked(), two.asked()), (500, 500));
    let mut messages: Vec<u32> = Vec::new();
    for body in one.bodies() {
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        messages.push(u32::try_from(body["message"].as_u64().expect("a number")).expect("small"));
    }
    messages.sort_unstable();
    assert_eq!(messages, (0..500).collect::<Vec<u32>>());
    let kept = world.ledger.kept();
    assert_eq!(
        (kept.owed.len(), kept.ranges.len(), kept.dead.len()),
        (0, 0, 0)
    );
    assert_eq!(kept.attempts.len(), 1000);
    assert!(
        kept.attempts
            .iter()
            .all(|row| row.is_delivered && row.number == 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_stop_it_goes_on_where_it_was() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |_| {});
    for round in 1..=5 {
        world.start();
        world.notify(200).await;
        until_taken(&sink, 200 * round - 100).await;
        world.stop().await;
    }
    world.start();
    until_taken(&sink, 1000).await;
    world.committed().await;
    assert_eq!(sink.repeated(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatcher_that_dies_again_and_again_leaves_nothing_out() {
    let mut world = World::new();
    let (good, bad) = (Sink::start().await, Sink::start().await);
    world.put(1, &good, |_| {});
    world.put(2, &bad, |_| {});
    for round in 0..8_u32 {
        // Now and then one fails: what is owed has to survive as well.
        bad.answer(Answer {
            status: if round % 2 == 0 { 503 } else { 204 },
            ..OK
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        {
            let _entered = runtime.enter();
            world.start();
        }
        world.notify(300).await;
        until_taken(&good, 300 * round + 20 * (round + 1)).await;
        // As kill -9: nothing gets to say goodbye.
        std::mem::forget(world.dispatcher.take());
        runtime.shutdown_background();
        world.ledger.run_out();
    }
    bad.answer(OK);
    world.start();
    for sink in [&good, &bad] {
        until_taken(sink, 2400).await;
    }
    world.committed().await;
    until("nothing is owed", || async {
        let kept = world.ledger.kept();
        kept.owed.is_empty() && kept.ranges.is_empty()
    })
    .await;
    println!("{} and {} came again", good.repeated(), bad.repeated());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_fails_is_made_later_with_the_same_id() {
    let mut world = World::new();
    let sink = Sink::start().await;
    sink.answer(Answer { status: 503, ..OK });
    world.put(1, &sink, |_| {});
    world.start();
    world.notify(3).await;
    until("asked", || async { sink.asked() >= 3 }).await;
    world.committed().await;
    assert_eq!(world.ledger.kept().owed.len(), 3);
    sink.answer(OK);
    until_taken(&sink, 3).await;
    until("nothing is owed", || async {
        world.ledger.kept().owed.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!((sink.distinct(), sink.repeated()), (3, 0));
    let kept = world.ledger.kept();
    let delivered: Vec<_> = kept
        .attempts
        .iter()
        .filter(|row| row.is_delivered)
        .collect();
    assert!(
        delivered.len() == 3 && delivered.iter().all(|row| row.number > 1),
        "{delivered:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_or_fails_too_often_is_a_dead_letter_with_the_reason() {
    let mut world = World::new();
    let (refusing, failing) = (Sink::start().await, Sink::start().await);
    refusing.answer(Answer { status: 410, ..OK });
    failing.answer(Answer { status: 500, ..OK });
    world.put(1, &refusing, |_| {});
    world.put(2, &failing, |endpoint| {
        endpoint.schedule = Schedule::new(vec![Duration::from_millis(10); 2], 0);
    });
    world.start();
    world.notify(2).await;
    world.append(["{}".to_owned()]).await;
    until("dead", || async { world.ledger.kept().dead.len() == 5 }).await;
    world.committed().await;
    world.stop().await;
    let kept = world.ledger.kept();
    let mut dead: Vec<(Option<u128>, u32, &str)> = kept
        .dead
        .iter()
        .map(|letter| {
            let endpoint = letter.endpoint.map(|id| id.0.as_u128());
            (endpoint, letter.attempts, letter.reason.as_str())
        })
        .collect();
    dead.sort_unstable();
    let reason = dead[0].2;
    assert!(
        reason.starts_with("not a notification: missing field `application`")
            && reason.contains("topic `hooks.outbox`, partition "),
        "{reason}"
    );
    assert_eq!(
        dead[1..],
        [
            (Some(1), 1, "the endpoint answers 410 Gone"),
            (Some(1), 1, "the endpoint answers 410 Gone"),
            (Some(2), 3, "the endpoint answers 500 Internal Server Error"),
            (Some(2), 3, "the endpoint answers 500 Internal Server Error"),
        ]
    );
    assert_eq!(
        (refusing.asked(), failing.asked(), kept.owed.len()),
        (2, 6, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_down_slows_no_other_and_gets_all_when_it_is_back() {
    let mut world = World::new();
    let (up, down) = (Sink::start().await, Sink::start().await);
    down.answer(Answer { status: 503, ..OK });
    world.put(1, &up, |_| {});
    world.put(2, &down, |_| {});
    world.start();
    world.notify(10_000).await;
    until_taken(&up, 10_000).await;
    world.committed().await;
    // Its breaker is open: it owes a range of the log, and only what was tried is owed one by one.
    until("a range is owed", || async {
        !world.ledger.kept().ranges.is_empty()
    })
    .await;
    let owed = world.ledger.kept().owed.len();
    assert!(owed <= 100, "{owed} are owed one by one");
    assert!(down.asked() < 200, "it was asked {} times", down.asked());
    down.answer(OK);
    until_taken(&down, 10_000).await;
    until("nothing is owed", || async {
        let kept = world.ledger.kept();
        kept.owed.is_empty() && kept.ranges.is_empty()
    })
    .await;
    world.notify(10).await;
    until_taken(&down, 10_010).await;
    world.stop().await;
    assert_eq!((up.repeated(), down.repeated()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_endpoint_slows_no_other_and_gets_all_in_the_end() {
    let mut world = World::new();
    let (fast, slow) = (Sink::start().await, Sink::start().await);
    slow.answer(Answer {
        after: Some(Duration::from_millis(5)),
        ..OK
    });
    world.put(1, &fast, |_| {});
    world.put(2, &slow, |endpoint| endpoint.concurrency = 4);
    world.start();
    world.notify(8_000).await;
    until_taken(&fast, 8_000).await;
    let left = 8_000 - slow.distinct();
    assert!(left > 0, "it is not slow: this tests nothing");
    world.committed().await;
    until_taken(&slow, 8_000).await;
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!(slow.repeated(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_never_answers_holds_back_no_commit() {
    let mut world = World::new();
    let (good, hung) = (Sink::start().await, Sink::start().await);
    hung.answer(Answer { after: None, ..OK });
    world.put(1, &good, |_| {});
    world.put(2, &hung, |_| {});
    world.start();
    world.notify(1_000).await;
    until_taken(&good, 1_000).await;
    world.committed().await;
    hung.answer(OK);
    until_taken(&hung, 1_000).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_endpoint_gets_its_backlog_when_it_goes_on() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    world.start();
    world.notify(3_000).await;
    world.committed().await;
    assert_eq!(sink.asked(), 0);
    assert!(world.ledger.kept().owed.is_empty());
    // The next process goes on with it.
    world.stop().await;
    world.ledger.run_out();
    world.start();
    world.notify(100).await;
    world.committed().await;
    assert_eq!(sink.asked(), 0);
    world.put(1, &sink, |_| {});
    until_taken(&sink, 3_100).await;
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!(sink.repeated(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_with_a_rate_limit_gets_no_more_and_slows_no_other() {
    let mut world = World::new();
    let (limited, other) = (Sink::start().await, Sink::start().await);
    world.put(1, &limited, |endpoint| {
        endpoint.rate_limit = NonZeroU32::new(40);
    });
    world.put(2, &other, |_| {});
    world.start();
    let start = Instant::now();
    world.notify(200).await;
    until_taken(&other, 200).await;
    assert!(limited.distinct() < 200, "the other one does not wait");
    until_taken(&limited, 200).await;
    // The first is free, and timers may be 10 ms early: faster would be too fast.
    assert!(start.elapsed() >= Duration::from_millis(199 * 25 - 10));
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!(limited.repeated(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_endpoint_refuses_its_fallback_gets() {
    let mut world = World::new();
    let (refusing, fallback) = (Sink::start().await, Sink::start().await);
    refusing.answer(Answer { status: 410, ..OK });
    world.put(1, &refusing, |endpoint| {
        endpoint.fallback = Some(EndpointId(Uuid::from_u128(2)));
    });
    world.put_without_filter(2, &fallback);
    world.start();
    world.notify(30).await;
    until_taken(&fallback, 30).await;
    until("nothing is owed", || async {
        world.ledger.kept().owed.is_empty()
    })
    .await;
    assert_eq!(
        world.ledger.kept().dead.len(),
        30,
        "they are kept all the same"
    );
    world.stop().await;
    assert_eq!((fallback.repeated(), refusing.repeated()), (0, 0));
}

/// Ten open the breaker, and the next one is what it would probe with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_that_an_endpoint_always_refuses_hold_back_no_others() {
    let mut world = World::new();
    let sink = Sink::start().await;
    sink.refuse("poison");
    world.put(1, &sink, |endpoint| {
        endpoint.schedule = Schedule::new(vec![Duration::from_millis(100); 2], 0);
        endpoint.concurrency = 1;
    });
    // One by one they have the same key, and are behind one another.
    for number in 0..11 {
        let poison = format!(r#""poison {number}""#);
        world.append([notification(&poison)]).await;
    }
    for number in 0..20 {
        world.append([notification(&number.to_string())]).await;
    }
    world.start();
    until_taken(&sink, 20).await;
    until("no range is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!(sink.repeated(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_catch_up_at_once_share_few_readers() {
    const ENDPOINTS: u32 = 30;
    let mut world = World::new();
    let sink = Sink::start().await;
    for number in 0..ENDPOINTS {
        world.put(number.into(), &sink, |endpoint| endpoint.is_paused = true);
    }
    world.start();
    world.notify(500).await;
    world.committed().await;
    let readers = |world: &World| world.dispatcher.as_ref().expect("it runs").stats().readers;
    assert_eq!(readers(&world), 0, "who is paused reads nothing");
    for number in 0..ENDPOINTS {
        world.put(number.into(), &sink, |_| {});
    }
    let mut most = 0;
    until("everybody has everything", || {
        most = most.max(readers(&world));
        async { sink.distinct() == 500 * ENDPOINTS as usize }
    })
    .await;
    assert!((1..=READERS as u64).contains(&most), "{most}");
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    assert_eq!(readers(&world), 0);
    world.stop().await;
    assert_eq!(sink.repeated(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_away_holds_back_commits_and_loses_nothing() {
    let mut world = World::new();
    let (good, bad) = (Sink::start().await, Sink::start().await);
    bad.answer(Answer { status: 503, ..OK });
    world.put(1, &good, |_| {});
    world.put(2, &bad, |_| {});
    world.start();
    // It begins with a ledger.
    world.notify(1).await;
    world.committed().await;
    world.ledger.kept().is_away = true;
    world.notify(5).await;
    until("asked", || async { bad.asked() >= 6 }).await;
    until_taken(&good, 6).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let groups = world.log.groups().await.expect("groups");
    assert!(
        groups.iter().map(|group| group.committed).sum::<u64>() == 1,
        "{groups:?}"
    );
    bad.answer(OK);
    world.ledger.kept().is_away = false;
    until_taken(&bad, 6).await;
    world.committed().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_ledger_is_away_a_bounded_number_is_delivered() {
    const COUNT: u32 = 12_000;
    let mut world = World::new();
    world.in_flight = 100;
    let sink = Sink::start().await;
    world.put(1, &sink, |_| {});
    world.start();
    // It begins with a ledger.
    world.notify(1).await;
    world.committed().await;
    world.ledger.kept().is_away = true;
    for _ in 0..12 {
        world.notify(COUNT / 12).await;
    }
    until_taken(&sink, 1_000).await;
    until("no more is delivered", || async {
        let before = sink.asked();
        tokio::time::sleep(Duration::from_millis(500)).await;
        sink.asked() == before
    })
    .await;
    let asked = sink.asked();
    // What was read together is delivered together.
    assert!(asked < COUNT as usize / 2, "{asked}");
    world.ledger.kept().is_away = false;
    until_taken(&sink, COUNT + 1).await;
    world.committed().await;
    world.stop().await;
    assert_eq!(sink.repeated(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_say_that_it_lives_leaves_ranges_to_others() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    world.start();
    world.notify(1_000).await;
    until("ranges are owed", || async {
        !world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.committed().await;
    world.ledger.kept().is_away = true;
    // Taken for dead after five seconds.
    tokio::time::sleep(Duration::from_secs(6)).await;
    world.put(1, &sink, |_| {});
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(sink.asked(), 0);
    world.ledger.kept().is_away = false;
    until_taken(&sink, 1_000).await;
    world.committed().await;
    world.stop().await;
    assert_eq!(sink.repeated(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_not_active_or_gone_gets_nothing() {
    let mut world = World::new();
    let (inactive, gone) = (Sink::start().await, Sink::start().await);
    world.put(1, &inactive, |endpoint| endpoint.is_active = false);
    gone.answer(Answer { status: 503, ..OK });
    world.put(2, &gone, |_| {});
    world.start();
    world.notify(3).await;
    until("owed", || async { world.ledger.kept().owed.len() == 3 }).await;
    world.directory.remove(EndpointId(Uuid::from_u128(2)));
    gone.answer(OK);
    until("nothing is owed", || async {
        world.ledger.kept().owed.is_empty()
    })
    .await;
    world.committed().await;
    world.stop().await;
    assert_eq!((inactive.asked(), gone.distinct()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn very_many_dead_endpoints_hold_back_none_that_lives() {
    let mut world = World::new();
    let (dead, alive) = (Sink::start().await, Sink::start().await);
    dead.answer(Answer { status: 503, ..OK });
    for number in 0..300 {
        world.put(100 + number, &dead, |_| {});
    }
    world.put(1, &alive, |_| {});
    world.start();
    for round in 1..=3 {
        world.notify(500).await;
        until_taken(&alive, 500 * round).await;
    }
    world.committed().await;
    world.stop().await;
    assert_eq!(alive.repeated(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_was_switched_off_while_it_was_down_works_when_it_is_switched_on() {
    let mut world = World::new();
    let sink = Sink::start().await;
    sink.answer(Answer { status: 503, ..OK });
    world.put(1, &sink, |_| {});
    world.start();
    world.notify(200).await;
    until("a range is owed", || async {
        !world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.put(1, &sink, |endpoint| endpoint.is_active = false);
    sink.answer(OK);
    // What was left for it is discarded.
    until("nothing is owed", || async {
        let kept = world.ledger.kept();
        kept.ranges.is_empty() && kept.owed.is_empty()
    })
    .await;
    world.put(1, &sink, |_| {});
    let before = sink.distinct();
    world.notify(50).await;
    until("taken", || async { sink.distinct() >= before + 50 }).await;
    world.stop().await;
}
