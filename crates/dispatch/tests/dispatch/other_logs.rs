//! Deliveries in order that another dispatcher owes, which shares the ledger and has a log of its
//! own.

use std::sync::Arc;

use dovecast_dispatch::ledger::{Happened, KeyPlace, Ledger, Owed, TopicPartition};
use dovecast_notification::{EndpointId, NotificationId, OrderKey};
use uuid::Uuid;

use crate::sink::Sink;
use crate::world::{OUTBOX, World, notification, until, until_taken};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_of_a_partition_of_another_log_is_left_alone_as_of_no_partition_of_ours() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| endpoint.is_ordered = true);
    let id = (
        EndpointId(Uuid::from_u128(1)),
        NotificationId(Uuid::from_u128(7)),
    );
    let owed = Owed {
        note: String::new(),
        endpoint: id.0,
        notification: id.1,
        content: format!(r#"{{"notification":{}}}"#, notification("1")).into(),
        failures: 1,
        // Long ago: it is claimed at once.
        due_ms: 0,
        reason: String::new(),
        place: Some(KeyPlace {
            of: TopicPartition {
                topic: Arc::from(OUTBOX),
                partition: 0,
            },
            key: OrderKey::new("theirs", OUTBOX, 0, b"key"),
            offset: 3,
            log: Some(Arc::from("theirs")),
        }),
    };
    let happened = [Happened::Owed(owed.clone())];
    world.ledger.record(&happened).await.expect("it is there");
    world.start();
    world.notify(10).await;
    until_taken(&sink, 10).await;
    world.committed().await;
    until("it is given back", || async {
        world
            .ledger
            .kept()
            .owed
            .get(&id)
            .is_none_or(|(owed, _)| owed.due_ms > 0)
    })
    .await;
    world.stop().await;
    let kept = world.ledger.kept();
    let left = kept.owed.get(&id).map(|(left, _)| &left.place);
    assert_eq!((left, sink.distinct()), (Some(&owed.place), 10));
}
