//! A clock that is set, by hours and days: what waits waits as long as it should, and nothing is
//! taken for dead or away because of it.

use std::time::Duration;

use dovecast_dispatch::schedule::Schedule;

use crate::panics::Mined;
use crate::sink::{Answer, OK, Sink};
use crate::world::{World, until, until_taken};

const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Three deliveries that have failed and wait.
async fn failed(world: &mut World, delay: Duration) -> Sink {
    let sink = Sink::start().await;
    sink.answer(Answer { status: 503, ..OK });
    world.put(1, &sink, |endpoint| {
        endpoint.schedule = Schedule::new(vec![delay; 20], 0);
    });
    world.start();
    world.notify(3).await;
    until("they are owed", || async {
        let kept = world.ledger.kept();
        kept.owed.len() == 3 && kept.owed.values().all(|(owed, _)| owed.failures > 0)
    })
    .await;
    sink.answer(OK);
    sink
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_clock_was_set_back_retries_come_when_they_should() {
    let mut world = World::new();
    let sink = failed(&mut world, Duration::from_secs(2)).await;
    world.clock.step(-2 * HOUR_MS);
    until_taken(&sink, 3).await;
    until("nothing is owed", || async {
        world.ledger.kept().owed.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_clock_was_set_forth_retries_do_not_come_at_once() {
    let mut world = World::new();
    let sink = failed(&mut world, Duration::from_hours(1)).await;
    let asked = sink.asked();
    for by_ms in [6 * DAY_MS, -6 * DAY_MS, 2 * HOUR_MS] {
        world.clock.step(by_ms);
        let claims = world.ledger.kept().claims;
        until("it has looked for what is due", || async {
            world.ledger.kept().claims >= claims + 3
        })
        .await;
        assert_eq!(sink.asked(), asked, "after {by_ms}");
        let kept = world.ledger.kept();
        let now_ms = world.clock.now_ms();
        for (owed, _) in kept.owed.values() {
            let left = owed.due_ms - now_ms;
            assert!((0..=HOUR_MS).contains(&left), "{left} ms left");
        }
    }
    world.stop().await;
}

/// The log is away for long enough that ranges are left to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_are_read_again_soon_though_the_clock_was_set_back_by_a_day() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    let log = Mined::new(&world);
    world.start_with(log.clone());
    world.notify(100).await;
    world.committed().await;
    until("a range is owed", || async {
        !world.ledger.kept().ranges.is_empty()
    })
    .await;
    log.set_away(true);
    world.put(1, &sink, |_| {});
    until("it is left to others", || async {
        let kept = world.ledger.kept();
        kept.ranges.values().any(|(.., is_claimed)| !is_claimed)
    })
    .await;
    world.clock.step(-DAY_MS);
    log.set_away(false);
    until_taken(&sink, 100).await;
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_and_forth_loses_and_repeats_nothing() {
    let mut world = World::new();
    let (up, behind) = (Sink::start().await, Sink::start().await);
    world.put(1, &up, |_| {});
    world.put(2, &behind, |endpoint| endpoint.is_paused = true);
    world.start();
    let mut count = 0;
    for by_ms in [6 * DAY_MS, -6 * DAY_MS, -2 * HOUR_MS, 2 * HOUR_MS] {
        world.notify(100).await;
        count += 100;
        world.clock.step(by_ms);
        until_taken(&up, count).await;
    }
    world.put(2, &behind, |_| {});
    until_taken(&behind, count).await;
    world.committed().await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}
