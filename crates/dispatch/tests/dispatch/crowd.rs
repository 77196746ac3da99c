//! An account whose deliveries fill the room makes way for another one.

use std::num::NonZeroU32;

use crate::sink::Sink;
use crate::world::{PATIENCE, World, notification_of, target, until, until_taken};

/// Deliveries that may be in flight.
const ROOM: u64 = 50;
/// More than that. At its rate the endpoint takes all of the room before any of it is old.
const SENT: u32 = 300;
const RATE: u32 = 300;
/// How many are for the one that is slow, to one for the other.
const TO_ONE: u32 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_fills_the_room_beside_another_is_left_to_ranges() {
    let mut world = World::new();
    world.in_flight = ROOM;
    let (slow, other) = (Sink::start().await, Sink::start().await);
    world.put(1, &slow, |endpoint| {
        endpoint.rate_limit = NonZeroU32::new(RATE);
        endpoint.target = target(&slow, PATIENCE);
    });
    world.put(2, &other, |endpoint| {
        endpoint.account = "2".into();
        endpoint.target = target(&other, PATIENCE);
    });
    world
        .append((0..SENT).map(|number| {
            let account = if number % TO_ONE == 0 { "2" } else { "1" };
            notification_of(account, &number.to_string())
        }))
        .await;
    world.start();
    until("the account makes way", || async {
        world.stats().deferred > 0
    })
    .await;
    until_taken(&other, SENT / TO_ONE).await;
    until_taken(&slow, SENT - SENT / TO_ONE).await;
    world.committed().await;
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!((slow.repeated(), other.repeated()), (0, 0));
}
