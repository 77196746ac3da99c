//! Very many endpoints that are paused and owe, while there is traffic: what a node with such
//! endpoints begins with at each start.

use dovecast_dispatch::ledger::{Happened, Ledger, Owed};
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
