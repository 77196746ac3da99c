//! A ledger that is away: nothing is committed, nothing is lost, and what is kept in memory has a
//! bound.

use dovecast_log::Log;

use crate::sink::{Answer, OK, Sink};
use crate::world::{World, until, until_taken};

/// How many beats that fail show that nothing more comes of what the dispatcher has.
const QUIET_BEATS: usize = 3;

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
    // Whoever took the first refusal for an answer would not try again.
    until("it is tried again", || async {
        world.ledger.kept().refused >= 2
    })
    .await;
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
    // Beats go on, one a second, while nothing can be written.
    let mut seen = (sink.asked(), world.ledger.kept().refused_beats);
    until("no more is delivered", || {
        let (asked, beats) = (sink.asked(), world.ledger.kept().refused_beats);
        if asked != seen.0 {
            seen = (asked, beats);
        }
        let is_quiet = beats >= seen.1 + QUIET_BEATS;
        async move { is_quiet }
    })
    .await;
    let asked = sink.asked();
    // What was read together is delivered together.
    assert!(asked < COUNT as usize / 2, "{asked}");
    world.ledger.kept().is_away = false;
    until_taken(&sink, COUNT + 1).await;
    world.committed().await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
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
    until("it is taken for dead", || async {
        world.ledger.kept().is_dead()
    })
    .await;
    world.put(1, &sink, |_| {});
    let beats = world.ledger.kept().refused_beats;
    until("it has tried again to say that it lives", || async {
        world.ledger.kept().refused_beats >= beats + QUIET_BEATS
    })
    .await;
    assert_eq!(sink.asked(), 0);
    world.ledger.kept().is_away = false;
    until_taken(&sink, 1_000).await;
    world.committed().await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}
