//! Records that the log has removed before they were read: counted, and what is behind them is
//! delivered.

use dovecast_dispatch::Stats;
use dovecast_log::Log;
use dovecast_log::embedded::EmbeddedOptions;

use crate::sink::Sink;
use crate::world::{World, until, until_taken};

/// What the log keeps when retention has come by.
const KEPT_BYTES: u64 = 3_000;

/// A log of one partition that keeps little.
fn small() -> World {
    World::with_log(&EmbeddedOptions {
        partitions: 1,
        retention_bytes: Some(KEPT_BYTES),
        ..EmbeddedOptions::default()
    })
}

/// Appends one by one, so that retention can remove some of it; gives the offset of the oldest when
/// it has.
async fn notify_and_forget(world: &mut World, count: u32) -> u64 {
    for _ in 0..count {
        world.notify(1).await;
    }
    until("retention has come by", || async {
        world.log.stats().bytes <= KEPT_BYTES
    })
    .await;
    let topics = world.log.topics().await.expect("topics");
    topics[0].partitions[0].begin
}

fn stats(world: &World) -> Stats {
    world.dispatcher.as_ref().expect("it runs").stats()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_group_has_not_read_is_counted_when_it_comes_back() {
    let mut world = small();
    let sink = Sink::start().await;
    world.put(1, &sink, |_| {});
    world.start();
    world.notify(1).await;
    world.committed().await;
    world.stop().await;
    let begin = notify_and_forget(&mut world, 300).await;
    world.start();
    until("it is counted", || async {
        stats(&world).expired == begin - 1
    })
    .await;
    let left = 301 - u32::try_from(begin).expect("small");
    until_taken(&sink, 1 + left).await;
    world.committed().await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_endpoint_owes_and_the_log_has_removed_is_counted() {
    let mut world = small();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    world.start();
    world.notify(1).await;
    world.committed().await;
    let begin = notify_and_forget(&mut world, 300).await;
    world.committed().await;
    assert_eq!(stats(&world).expired, 0, "the consumer was there in time");
    world.put(1, &sink, |_| {});
    let left = 301 - u32::try_from(begin).expect("small");
    until_taken(&sink, left).await;
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    assert_eq!(stats(&world).expired, begin);
    world.stop().await;
}

/// A process that has a paused endpoint begins a range of its own for what comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_endpoint_that_stays_paused_no_ranges_are_left_that_the_log_does_not_have() {
    let mut world = small();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    for _ in 0..10 {
        world.start();
        notify_and_forget(&mut world, 60).await;
        world.committed().await;
        world.stop().await;
    }
    let topics = world.log.topics().await.expect("topics");
    let begin = topics[0].partitions[0].begin;
    world.start();
    until("what the log does not have is ended", || async {
        let kept = world.ledger.kept();
        kept.ranges.values().all(|(_, to, _)| *to > begin)
    })
    .await;
    assert!(world.ledger.kept().ranges.len() <= 2);
    until("it is counted", || async { stats(&world).expired > 0 }).await;
    world.stop().await;
    assert_eq!(sink.asked(), 0);
}
