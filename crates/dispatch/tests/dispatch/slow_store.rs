//! Endpoints whose deliveries of one key go one after the other, beside a store that is slow: what
//! waits until something is written waits for that, and does not begin again to wait meanwhile.

use std::time::Duration;

use crate::order::{KEYS, all, check_order, in_order, until_nothing_is_owed};
use crate::sink::Sink;
use crate::world::{World, notification_of, until, until_taken};

/// Longer than any endpoint waits for it in one go.
const SLOW: Duration = Duration::from_millis(1500);
/// What has to be written before an endpoint may go on is so by then.
const ENOUGH: usize = 10;

/// An endpoint owes ranges of all partitions, and its dispatcher was taken for dead: it leaves
/// them, and has to get them again.
async fn with_ranges_that_are_left(sink: &Sink) -> World {
    let mut world = World::new();
    world.put(1, sink, |endpoint| {
        in_order(endpoint);
        endpoint.is_paused = true;
    });
    world.start();
    world.notify_in_order(all(KEYS, 0..20)).await;
    world.committed().await;
    assert!(world.ledger.kept().ranges.len() > 1, "of some partitions");
    world.ledger.kept().is_away = true;
    until("it is taken for dead", || async {
        world.ledger.kept().is_dead()
    })
    .await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_that_were_left_come_back_while_much_is_written() {
    let (sink, other) = (Sink::start().await, Sink::start().await);
    let mut world = with_ranges_that_are_left(&sink).await;
    world.put(2, &other, |endpoint| endpoint.account = "2".into());
    world.put(1, &sink, in_order);
    let before = {
        let mut kept = world.ledger.kept();
        (kept.is_away, kept.recording) = (false, SLOW);
        kept.records
    };
    let all_of_it = 20 * KEYS as usize;
    until("all are taken, or much was written", || async {
        // There is always something that has to be written.
        world.append([notification_of("2", "1")]).await;
        sink.distinct() == all_of_it || world.ledger.kept().records > before + ENOUGH
    })
    .await;
    assert_eq!(sink.distinct(), all_of_it);
    world.ledger.kept().recording = Duration::ZERO;
    until_nothing_is_owed(&world).await;
    world.committed().await;
    world.stop().await;
    check_order(&sink);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_known_goes_on_while_others_are_asked_about() {
    let sink = Sink::start().await;
    let mut world = with_ranges_that_are_left(&sink).await;
    world.put(1, &sink, in_order);
    let (ranges, before) = {
        let mut kept = world.ledger.kept();
        (kept.is_away, kept.taking_over) = (false, SLOW);
        (kept.ranges.len(), kept.take_overs.0)
    };
    until("some are taken", || async { sink.distinct() > 0 }).await;
    let asked = world.ledger.kept().take_overs.0 - before;
    assert!(asked < ranges, "{asked} questions about {ranges} ranges");
    world.ledger.kept().taking_over = Duration::ZERO;
    until_taken(&sink, 20 * KEYS).await;
    until_nothing_is_owed(&world).await;
    world.stop().await;
    check_order(&sink);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_waits_once_for_a_store_that_does_not_write() {
    const COUNT: u32 = 20;
    let mut world = World::new();
    let (sink, other) = (Sink::start().await, Sink::start().await);
    world.put(2, &other, |_| {});
    world.start();
    world.ledger.kept().is_full = true;
    world.notify_in_order(all(KEYS, 0..1)).await;
    until("nothing can be written", || async {
        world.ledger.kept().refused > 0
    })
    .await;
    // From now on it has to be known what is owed of a partition.
    world.put(1, &sink, in_order);
    let before = world.ledger.kept().refused;
    for (place, of) in (1..).zip(all(KEYS, 1..2).into_iter().take(COUNT as usize)) {
        world.notify_in_order([of]).await;
        until_taken(&other, KEYS + place).await;
    }
    // It is tried twice a second.
    let tried = world.ledger.kept().refused - before;
    assert!(tried < COUNT as usize, "{tried} tries for {COUNT} records");
    world.ledger.kept().is_full = false;
    until_taken(&sink, COUNT).await;
    until_nothing_is_owed(&world).await;
    world.committed().await;
    world.stop().await;
    check_order(&sink);
}
