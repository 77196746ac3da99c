//! Endpoints that are behind: down, slow, paused, limited, or refusing. They get everything in the
//! end, and slow no other.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use dovecast_dispatch::schedule::Schedule;

use crate::sink::{Answer, OK, Sink};
use crate::world::{READERS, World, notification, until, until_taken};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_down_slows_no_other_and_gets_all_when_it_is_back() {
    let mut world = World::new();
    let (up, down) = (Sink::start().await, Sink::start().await);
    down.answer(Answer { status: 503, ..OK });
    world.put(1, &up, |_| {});
    world.put(2, &down, |_| {});
    world.start();
    world.notify(10_000).await;
    until_taken(&up, 10_000).await;
    world.committed().await;
    // Its breaker is open: it owes a range of the log, and only what was tried is owed one by one.
    until("a range is owed", || async {
        !world.ledger.kept().ranges.is_empty()
    })
    .await;
    let owed = world.ledger.kept().owed.len();
    assert!(owed <= 100, "{owed} are owed one by one");
    assert!(down.asked() < 200, "it was asked {} times", down.asked());
    down.answer(OK);
    until_taken(&down, 10_000).await;
    until("nothing is owed", || async {
        let kept = world.ledger.kept();
        kept.owed.is_empty() && kept.ranges.is_empty()
    })
    .await;
    world.notify(10).await;
    until_taken(&down, 10_010).await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_endpoint_slows_no_other_and_gets_all_in_the_end() {
    let mut world = World::new();
    let (fast, slow) = (Sink::start().await, Sink::start().await);
    slow.answer(Answer {
        after: Some(Duration::from_millis(5)),
        ..OK
    });
    world.put(1, &fast, |_| {});
    world.put(2, &slow, |endpoint| endpoint.concurrency = 4);
    world.start();
    world.notify(8_000).await;
    until_taken(&fast, 8_000).await;
    let left = 8_000 - slow.distinct();
    assert!(left > 0, "it is not slow: this tests nothing");
    world.committed().await;
    until_taken(&slow, 8_000).await;
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_never_answers_holds_back_no_commit() {
    let mut world = World::new();
    let (good, hung) = (Sink::start().await, Sink::start().await);
    hung.answer(Answer { after: None, ..OK });
    world.put(1, &good, |_| {});
    world.put(2, &hung, |_| {});
    world.start();
    world.notify(1_000).await;
    until_taken(&good, 1_000).await;
    world.committed().await;
    hung.answer(OK);
    until_taken(&hung, 1_000).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_endpoint_gets_its_backlog_when_it_goes_on() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    world.start();
    world.notify(3_000).await;
    world.committed().await;
    assert_eq!(sink.asked(), 0);
    assert!(world.ledger.kept().owed.is_empty());
    // The next process goes on with it.
    world.stop().await;
    world.ledger.run_out();
    world.start();
    world.notify(100).await;
    world.committed().await;
    assert_eq!(sink.asked(), 0);
    world.put(1, &sink, |_| {});
    until_taken(&sink, 3_100).await;
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_with_a_rate_limit_gets_no_more_and_slows_no_other() {
    let mut world = World::new();
    let (limited, other) = (Sink::start().await, Sink::start().await);
    world.put(1, &limited, |endpoint| {
        endpoint.rate_limit = NonZeroU32::new(40);
    });
    world.put(2, &other, |_| {});
    world.start();
    let start = Instant::now();
    world.notify(200).await;
    until_taken(&other, 200).await;
    assert!(limited.distinct() < 200, "the other one does not wait");
    until_taken(&limited, 200).await;
    // The first is free, and timers may be 10 ms early: faster would be too fast.
    assert!(start.elapsed() >= Duration::from_millis(199 * 25 - 10));
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

/// Ten open the breaker, and the next one is what it would probe with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_that_an_endpoint_always_refuses_hold_back_no_others() {
    let mut world = World::new();
    let sink = Sink::start().await;
    sink.refuse("poison");
    world.put(1, &sink, |endpoint| {
        endpoint.schedule = Schedule::new(vec![Duration::from_millis(100); 2], 0);
        endpoint.concurrency = 1;
    });
    // One by one they have the same key, and are behind one another.
    for number in 0..11 {
        let poison = format!(r#""poison {number}""#);
        world.append([notification(&poison)]).await;
    }
    for number in 0..20 {
        world.append([notification(&number.to_string())]).await;
    }
    world.start();
    until_taken(&sink, 20).await;
    until("no range is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_catch_up_at_once_share_few_readers() {
    const ENDPOINTS: u32 = 30;
    let mut world = World::new();
    let sink = Sink::start().await;
    for number in 0..ENDPOINTS {
        world.put(number.into(), &sink, |endpoint| endpoint.is_paused = true);
    }
    world.start();
    world.notify(500).await;
    world.committed().await;
    let readers = |world: &World| world.dispatcher.as_ref().expect("it runs").stats().readers;
    assert_eq!(readers(&world), 0, "who is paused reads nothing");
    for number in 0..ENDPOINTS {
        world.put(number.into(), &sink, |_| {});
    }
    let mut most = 0;
    until("everybody has everything", || {
        most = most.max(readers(&world));
        async { sink.distinct() == 500 * ENDPOINTS as usize }
    })
    .await;
    assert!((1..=READERS as u64).contains(&most), "{most}");
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    assert_eq!(readers(&world), 0);
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn very_many_dead_endpoints_hold_back_none_that_lives() {
    let mut world = World::new();
    let (dead, alive) = (Sink::start().await, Sink::start().await);
    dead.answer(Answer { status: 503, ..OK });
    for number in 0..300 {
        world.put(100 + number, &dead, |_| {});
    }
    world.put(1, &alive, |_| {});
    world.start();
    for round in 1..=3 {
        world.notify(500).await;
        until_taken(&alive, 500 * round).await;
    }
    world.committed().await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_was_disabled_while_it_was_down_works_when_it_is_enabled() {
    let mut world = World::new();
    let sink = Sink::start().await;
    sink.answer(Answer { status: 503, ..OK });
    world.put(1, &sink, |_| {});
    world.start();
    world.notify(200).await;
    until("a range is owed", || async {
        !world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.put(1, &sink, |endpoint| endpoint.is_active = false);
    sink.answer(OK);
    // What was left for it is discarded.
    until("nothing is owed", || async {
        let kept = world.ledger.kept();
        kept.ranges.is_empty() && kept.owed.is_empty()
    })
    .await;
    world.put(1, &sink, |_| {});
    let before = sink.distinct();
    world.notify(50).await;
    until("taken", || async { sink.distinct() >= before + 50 }).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_that_others_have_left_is_delivered_with_the_one_of_its_name() {
    let mut world = World::new();
    let sink = Sink::start().await;
    sink.answer(Answer { status: 503, ..OK });
    world.put(1, &sink, |_| {});
    world.start();
    world.notify(1_000).await;
    world.committed().await;
    until("ranges are owed", || async {
        !world.ledger.kept().ranges.is_empty()
    })
    .await;
    // As another dispatcher leaves them that has begun where this one has, and has read further.
    for range in world.ledger.kept().ranges.values_mut() {
        *range = (range.0, range.1 + 500, false);
    }
    until("they are claimed", || async {
        let kept = world.ledger.kept();
        kept.ranges.values().all(|(_, _, is_claimed)| *is_claimed)
    })
    .await;
    sink.answer(OK);
    until_taken(&sink, 1_000).await;
    world.notify(10_000).await;
    until_taken(&sink, 11_000).await;
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.stop().await;
}
