//! Panics of the parts that work beside the reading of the log, one case each: all is delivered
//! afterwards.

use std::time::Duration;

use tokio::runtime::Runtime;

use super::{Trap, runtime};
use crate::conditions::{condition, filter, list};
use crate::order::{KEYS, all, check_order, in_order, until_nothing_is_owed};
use crate::sink::{Answer, OK, Sink};
use crate::world::{World, endpoint, notification_of, until, until_taken};

/// Starts the dispatcher of a world with threads that go through a trap.
fn start(world: &mut World, trap: &Trap) -> Runtime {
    let runtime = runtime(trap.clone());
    {
        let _entered = runtime.enter();
        world.start();
    }
    runtime
}

/// Waits until all mines were stepped on, and a part has panicked.
async fn until_panicked(trap: &Trap, part: &str) {
    until(&format!("`{part}` has panicked"), || async {
        trap.mine.left() == 0 && trap.has_caught(part)
    })
    .await;
}

/// Waits until everything is taken and nothing is owed, and ends the dispatcher.
async fn end(mut world: World, runtime: Runtime, sink: &Sink, count: u32) {
    until_taken(sink, count).await;
    world.committed().await;
    until_nothing_is_owed(&world).await;
    world.stop().await;
    runtime.shutdown_background();
    assert_eq!(sink.distinct(), count as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_lanes_are_looked_after_loses_nothing_that_waits() {
    let mut world = World::new();
    let sink = Sink::start().await;
    // Longer than anything may wait.
    sink.answer(Answer {
        after: Some(Duration::from_secs(2)),
        ..OK
    });
    world.put(1, &sink, |_| {});
    let trap = Trap::at("left to a range of the log");
    let runtime = start(&mut world, &trap);
    trap.mine.lay(1);
    // More than is under way at a time.
    world.notify(50).await;
    until_panicked(&trap, "lanes").await;
    sink.answer(OK);
    end(world, runtime, &sink, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_what_is_due_is_retried_leaves_it_owed() {
    let mut world = World::new();
    let sink = Sink::start().await;
    sink.answer(Answer { status: 503, ..OK });
    world.put(1, &sink, |_| {});
    // The span of what was owed, with the field that others have not.
    let trap = Trap::at("notification failures");
    let runtime = start(&mut world, &trap);
    trap.mine.lay(2);
    // Fewer than open a breaker.
    world.notify(5).await;
    until_panicked(&trap, "retrier").await;
    sink.answer(OK);
    end(world, runtime, &sink, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_a_lane_catches_up_has_its_ranges_read_again() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    let trap = Trap::at("notification");
    let runtime = start(&mut world, &trap);
    world.notify(50).await;
    world.committed().await;
    // Nothing else is read from here on.
    trap.mine.lay(2);
    world.put(1, &sink, |_| {});
    until_panicked(&trap, "catch_up").await;
    end(world, runtime, &sink, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_ranges_of_others_are_delivered_leaves_them_to_be_taken_up_again() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    world.start();
    world.notify(50).await;
    world.committed().await;
    world.stop().await;
    world.put(1, &sink, |_| {});
    let trap = Trap::at("notification");
    trap.mine.lay(2);
    let runtime = start(&mut world, &trap);
    until_panicked(&trap, "take_up").await;
    end(world, runtime, &sink, 50).await;
}

/// The ledger is away for a moment, which is noted where the panic is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_a_partition_is_taken_over_has_it_asked_about_again() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| {
        in_order(endpoint);
        endpoint.is_paused = true;
    });
    world.start();
    world.notify_in_order(all(KEYS, 0..5)).await;
    world.committed().await;
    world.stop().await;
    world.put(1, &sink, in_order);
    let before = {
        let mut kept = world.ledger.kept();
        kept.taking_over = Duration::from_secs(2);
        kept.take_overs.0
    };
    let trap = Trap::at("DEBUG dovecast_dispatch::take_over");
    let runtime = start(&mut world, &trap);
    until("it takes over", || async {
        world.ledger.kept().take_overs.0 > before
    })
    .await;
    trap.mine.lay(1);
    world.ledger.kept().is_away = true;
    until_panicked(&trap, "catch_up").await;
    {
        let mut kept = world.ledger.kept();
        (kept.is_away, kept.taking_over) = (false, Duration::ZERO);
    }
    end(world, runtime, &sink, 5 * KEYS).await;
    check_order(&sink);
}

/// Nothing can be written for a moment, which is noted where the panic is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_what_has_happened_is_written_leaves_it_to_be_written_again() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |_| {});
    let trap = Trap::at("WARN dovecast_dispatch::shared");
    let runtime = start(&mut world, &trap);
    world.ledger.kept().is_full = true;
    trap.mine.lay(1);
    world.notify(20).await;
    until_panicked(&trap, "recorder").await;
    world.ledger.kept().is_full = false;
    let ledger = world.ledger.clone();
    end(world, runtime, &sink, 20).await;
    let kept = ledger.kept();
    let delivered = kept.attempts.iter().filter(|row| row.is_delivered);
    assert_eq!(delivered.count(), 20);
}

/// The second panic meets what is done about the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_panics_after_a_condition_is_evaluated_hold_up_no_partition() {
    let mut world = World::new();
    let sink = Sink::start().await;
    let costly = condition("message.l.exists(x, x == 1)");
    let put = |world: &World, is_paused| {
        let mut endpoint = endpoint(1, &sink);
        endpoint.is_paused = is_paused;
        world.directory.put(endpoint, Some(filter(1, "1", &costly)));
    };
    put(&world, true);
    let trap = Trap::at("left to a range of the log");
    let runtime = start(&mut world, &trap);
    trap.mine.lay(2);
    world.append([notification_of("1", &list(9_000))]).await;
    until_panicked(&trap, "matching").await;
    world.committed().await;
    put(&world, false);
    end(world, runtime, &sink, 1).await;
}
