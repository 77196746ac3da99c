//! A log that was made anew while endpoints owe ranges of the former one: what is new is delivered,
//! what is gone is ended and counted.

use std::collections::BTreeSet;

use dovecast_dispatch::ledger::RangeId;

use crate::sink::Sink;
use crate::world::{World, until, until_taken};

/// By what they say: places of the new log, and so what notifications without a name are called,
/// are those of the former one.
async fn until_different(sink: &Sink, count: u32) {
    until(&format!("{count} different ones have come"), || async {
        let bodies: BTreeSet<String> = sink.bodies().into_iter().collect();
        bodies.len() >= count as usize
    })
    .await;
}

/// Delivers `before`, owes `owed` when the log is lost, and finds `after` in the new one. Every
/// partition has its share.
async fn check(before: u32, owed: u32, after: u32, is_paused: bool) {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |_| {});
    world.start();
    world.notify(before).await;
    until_taken(&sink, before).await;
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    world.notify(owed).await;
    world.committed().await;
    world.stop().await;
    let last = {
        let kept = world.ledger.kept();
        let sum: u64 = kept.ranges.values().map(|(from, to, _)| to - from).sum();
        assert_eq!(sum, u64::from(owed));
        kept.ranges.values().map(|(_, to, _)| *to).max()
    };
    world.lose_log();
    world.put(1, &sink, |endpoint| endpoint.is_paused = is_paused);
    world.start();
    world.notify(after).await;
    world.committed().await;
    world.put(1, &sink, |_| {});
    until_different(&sink, before + after).await;
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    // What the new log has at the places of the old ranges came, perhaps twice.
    let has = |end: u64| world.stats().missing == u64::from(owed).saturating_sub(end);
    let topics = dovecast_log::Log::topics(&world.log).await.expect("topics");
    let ends: Vec<u64> = topics[0].partitions.iter().map(|one| one.end).collect();
    assert!(ends.iter().all(|end| Some(*end) < last), "{ends:?}");
    assert!(
        (0..=u64::from(after)).any(has),
        "{} of {owed} are missing",
        world.stats().missing
    );
    world.notify(10).await;
    until_different(&sink, before + after + 10).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_behind_the_end_of_the_log_are_ended_and_what_is_new_is_delivered() {
    check(300, 300, 50, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_paused_meanwhile_gets_what_is_new_when_it_goes_on() {
    check(300, 300, 50, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_that_the_new_log_has_a_part_of_ends_where_that_ends() {
    check(300, 600, 500, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_of_a_range_of_the_former_log_is_not_taken_for_done_in_the_new_one() {
    let mut world = World::new();
    let sink = Sink::start().await;
    // The range of each partition begins with its first record, in both logs.
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    world.start();
    world.notify(600).await;
    world.committed().await;
    world.put(1, &sink, |_| {});
    until_taken(&sink, 300).await;
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    world.stop().await;
    let begun = |(id, (from, _, _)): (&RangeId, &(u64, u64, bool))| id.start == 0 && *from > 20;
    assert!(world.ledger.kept().ranges.iter().any(begun));
    let taken: BTreeSet<String> = sink.bodies().into_iter().collect();

    world.lose_log();
    world.start();
    world.notify(50).await;
    world.committed().await;
    world.stop().await;

    world.put(1, &sink, |_| {});
    world.start();
    until_different(&sink, u32::try_from(taken.len()).expect("few") + 50).await;
    world.stop().await;
}
