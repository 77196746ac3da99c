//! Very many endpoints that are paused and owe, while there is traffic: what a node with such
//! endpoints begins with at each start.

use std::collections::BTreeSet;

use dovecast_dispatch::ledger::{Happened, Ledger, Owed};
use dovecast_log::Log;
use dovecast_notification::{EndpointId, NotificationId};
use uuid::Uuid;

use crate::sink::Sink;
use crate::world::{World, notification, until, until_taken};

/// Endpoints that are paused: enough for looking after their lanes to take a while.
const ENDPOINTS: u128 = 5_000;
/// How often all that is owed is due.
const ROUNDS: u32 = 8;

/// The retrier, looking after lanes and the consumer go through the same lanes at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn endpoints_that_are_paused_and_owe_do_not_stop_the_traffic() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |_| {});
    for number in 2..2 + ENDPOINTS {
        world.put(number, &sink, |endpoint| endpoint.is_paused = true);
    }
    let owed = |number| Owed {
        note: String::new(),
        endpoint: EndpointId(Uuid::from_u128(number)),
        notification: NotificationId(Uuid::from_u128(number)),
        content: format!(r#"{{"notification":{}}}"#, notification("1")).into(),
        failures: 1,
        due_ms: 0,
        reason: String::new(),
        place: None,
    };
    let owed: Vec<_> = (2..2 + ENDPOINTS).map(owed).map(Happened::Owed).collect();
    world.ledger.record(&owed).await.expect("it is there");
    world.ledger.kept().most_except = 500;
    world.start();
    for _ in 0..ROUNDS {
        for (owed, _) in world.ledger.kept().owed.values_mut() {
            owed.due_ms = 0;
        }
        world.notify(10).await;
        until("what is owed is given back", || async {
            let kept = world.ledger.kept();
            let due = kept.owed.values().filter(|(owed, _)| owed.due_ms == 0);
            due.count() <= kept.most_except
        })
        .await;
    }
    until_taken(&sink, 10 * ROUNDS).await;
    world.committed().await;
    {
        let kept = world.ledger.kept();
        assert_eq!(kept.owed.len() as u128, ENDPOINTS);
        assert!(kept.ranges.len() as u128 >= ENDPOINTS);
    }
    world.stop().await;
}

/// Endpoints that are paused and resumed while there is traffic.
const MISSING: u128 = 100;
/// Notifications of a round.
const SENT: u32 = 20;

/// The ranges of an endpoint that is behind grow all at once, before offsets are committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_paused_endpoints_miss_is_written_before_it_is_committed_and_comes_once() {
    let mut world = World::new();
    let sink = Sink::start().await;
    for number in 1..=MISSING {
        world.put(number, &sink, |endpoint| endpoint.is_paused = true);
    }
    world.start();
    for _ in 0..ROUNDS {
        world.notify(SENT).await;
        world.committed().await;
        let groups = world.log.groups().await.expect("groups");
        let kept = world.ledger.kept();
        for group in groups {
            for offset in 0..group.committed {
                let owed = kept.ranges.iter().filter(|(id, (from, to, _))| {
                    (&*id.topic, id.partition) == (&*group.topic, group.partition)
                        && (*from..*to).contains(&offset)
                });
                let endpoints: BTreeSet<_> = owed.map(|(id, _)| id.endpoint).collect();
                assert_eq!(
                    endpoints.len() as u128,
                    MISSING,
                    "{offset} of {}",
                    group.partition
                );
            }
        }
    }
    assert_eq!(sink.asked(), 0);
    // Resumed one after the other, some of them while more comes.
    for number in 1..=MISSING {
        world.put(number, &sink, |_| {});
        if number % 20 == 0 {
            world.notify(SENT).await;
        }
    }
    let all = MISSING * u128::from((ROUNDS + 5) * SENT);
    until("nothing is owed", || async {
        sink.distinct() as u128 >= all && world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.committed().await;
    world.stop().await;
    assert_eq!(sink.distinct() as u128, all, "each comes to each");
    assert_eq!(world.ledger.made_again(), 0, "and once");
}
