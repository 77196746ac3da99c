//! The workers with a real log and real endpoints: what arrives is counted against what was
//! notified, whatever an endpoint, the ledger or the process does meanwhile.

mod anew;
mod away;
mod behind;
mod clock;
mod conditions;
mod content;
mod crowd;
mod drivers;
mod expired;
mod gone;
mod hanging;
mod large;
mod ledger;
mod names;
mod order;
mod other_logs;
mod panics;
mod paused;
mod sink;
mod slow_store;
mod take_up;
mod transactions;
mod world;

use std::time::Duration;

use dovecast_dispatch::schedule::Schedule;
use dovecast_notification::EndpointId;
use uuid::Uuid;

use sink::{Answer, OK, Sink};
use world::{PATIENCE, World, target, until, until_taken};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_notification_is_delivered_once_and_leaves_nothing_but_its_attempt() {
    let mut world = World::new();
    let (one, two) = (Sink::start().await, Sink::start().await);
    for (number, sink) in [(1, &one), (2, &two)] {
        world.put(number, sink, |endpoint| {
            endpoint.target = target(sink, PATIENCE);
        });
    }
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
    assert_eq!(world.ledger.made_again(), 0);
}

/// As what is read live is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_what_is_under_way_of_a_range() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    world.start();
    world.notify(100).await;
    world.committed().await;
    sink.answer(Answer {
        after: Some(Duration::from_millis(300)),
        ..OK
    });
    world.put(1, &sink, |_| {});
    until("some are under way", || async { sink.asked() > 0 }).await;
    world.stop().await;
    let noted = world.ledger.kept().attempts.len();
    assert_eq!((sink.asked(), sink.distinct()), (noted, noted));
    world.ledger.run_out();
    sink.answer(OK);
    world.start();
    until_taken(&sink, 100).await;
    world.committed().await;
    assert_eq!(world.ledger.made_again(), 0);
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
    assert_eq!((sink.distinct(), world.ledger.made_again()), (3, 0));
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
    refusing.answer(Answer { status: 404, ..OK });
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
            (Some(1), 1, "the endpoint answers 404 Not Found"),
            (Some(1), 1, "the endpoint answers 404 Not Found"),
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
async fn what_one_endpoint_refuses_its_fallback_gets() {
    let mut world = World::new();
    let (refusing, fallback) = (Sink::start().await, Sink::start().await);
    refusing.answer(Answer { status: 404, ..OK });
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
    assert_eq!(world.ledger.made_again(), 0);
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
