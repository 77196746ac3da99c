//! Endpoints whose deliveries of one key go one after the other: whatever fails, hangs or ends
//! meanwhile, nothing of a key comes for the first time after something newer of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dovecast_dispatch::Endpoint;
use dovecast_dispatch::schedule::Schedule;

use crate::sink::{Answer, OK, Sink};
use crate::world::{PATIENCE, World, until, until_taken};

pub(crate) const KEYS: u32 = 20;
const SLOW: Answer = Answer {
    status: 204,
    after: Some(Duration::from_millis(20)),
};
const DOWN: Answer = Answer { status: 503, ..OK };

/// Notifications of each key with these numbers, the keys in turn.
pub(crate) fn all(keys: u32, of_each: std::ops::Range<u32>) -> Vec<(u32, u32)> {
    of_each
        .flat_map(|number| (0..keys).map(move |key| (key, number)))
        .collect()
}

/// An endpoint whose deliveries of a key go one after the other, and are tried again for as long as
/// a test may take.
pub(crate) fn in_order(endpoint: &mut Endpoint) {
    endpoint.is_ordered = true;
    endpoint.schedule = Schedule::new(vec![Duration::from_millis(100); 10_000], 0);
}

/// Key and number of what was taken, in that order.
fn taken(sink: &Sink) -> Vec<(u32, u32)> {
    let message = |body: &String| -> (u32, u32) {
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let message = body["message"].as_str().expect("a text").to_owned();
        let (key, number) = message.split_once(' ').expect("a key");
        (
            key.parse().expect("a key"),
            number.parse().expect("a number"),
        )
    };
    sink.bodies().iter().map(message).collect()
}

/// Each came for the first time behind all that is older of its key.
#[track_caller]
pub(crate) fn check_order(sink: &Sink) {
    let mut came: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (place, (key, number)) in taken(sink).into_iter().enumerate() {
        let of_key = came.entry(key).or_default();
        if of_key.insert(number) {
            let last = of_key.last().copied();
            let before = taken(sink);
            let before = &before[place.saturating_sub(40)..=place];
            assert_eq!(last, Some(number), "of {key}, at {place}: {before:?}");
        }
    }
}

pub(crate) async fn until_nothing_is_owed(world: &World) {
    until("nothing is owed", || async {
        let kept = world.ledger.kept();
        kept.ranges.is_empty() && kept.owed.is_empty()
    })
    .await;
}

/// Sends more of each key to an endpoint that is down until it owes a range: what has come before
/// its breaker opens may all be owed one by one.
async fn until_a_range_is_owed(world: &World, sent: &mut u32) {
    let start = Instant::now();
    while world.ledger.kept().ranges.is_empty() {
        assert!(start.elapsed() < PATIENCE, "no range is owed");
        world.notify_in_order(all(KEYS, *sent..*sent + 1)).await;
        *sent += 1;
        // What is committed is owed, one by one or as a range.
        world.committed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_of_a_key_go_one_after_the_other() {
    let mut world = World::new();
    let sink = Sink::start().await;
    sink.answer(SLOW);
    world.put(1, &sink, in_order);
    world.start();
    for number in 0..10 {
        world.notify_in_order(all(KEYS, number..number + 1)).await;
    }
    until_taken(&sink, 10 * KEYS).await;
    check_order(&sink);
    until_nothing_is_owed(&world).await;
    world.committed().await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_fails_holds_back_itself_and_nothing_else() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, in_order);
    sink.answer_to(r#""3 0""#, Some(DOWN));
    world.start();
    world.notify_in_order(all(KEYS, 0..50)).await;
    // All but those of the key.
    until_taken(&sink, 50 * (KEYS - 1)).await;
    world.committed().await;
    assert!(taken(&sink).iter().all(|(key, _)| *key != 3));
    world.notify_in_order(all(KEYS, 50..60)).await;
    until_taken(&sink, 60 * (KEYS - 1)).await;
    sink.answer_to(r#""3 0""#, None);
    until_taken(&sink, 60 * KEYS).await;
    until_nothing_is_owed(&world).await;
    // It is free again: what comes now is not owed.
    let held_back = world.stats().held_back;
    world.notify_in_order([(3, 60)]).await;
    until_taken(&sink, 60 * KEYS + 1).await;
    assert_eq!(world.stats().held_back, held_back);
    world.stop().await;
    check_order(&sink);
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_whose_delivery_hangs_goes_on_when_that_has_ended() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, in_order);
    // Longer than it is waited for, and shorter than its time.
    let late = Answer {
        status: 204,
        after: Some(Duration::from_millis(1500)),
    };
    sink.answer_to(r#""3 5""#, Some(late));
    world.start();
    world.notify_in_order(all(KEYS, 0..20)).await;
    until_taken(&sink, 20 * KEYS).await;
    until_nothing_is_owed(&world).await;
    world.committed().await;
    world.stop().await;
    check_order(&sink);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_dead_letter_a_key_goes_on() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| {
        endpoint.is_ordered = true;
        endpoint.schedule = Schedule::new(vec![Duration::from_millis(100)], 0);
    });
    let refused = Answer { status: 400, ..OK };
    for (text, answer) in [
        (r#""3 5""#, refused),
        (r#""4 0""#, DOWN),
        (r#""5 19""#, refused),
    ] {
        sink.answer_to(text, Some(answer));
    }
    world.start();
    world.notify_in_order(all(KEYS, 0..20)).await;
    until_taken(&sink, 20 * KEYS - 3).await;
    until_nothing_is_owed(&world).await;
    world.notify_in_order(all(KEYS, 20..21)).await;
    until_taken(&sink, 21 * KEYS - 3).await;
    world.committed().await;
    world.stop().await;
    check_order(&sink);
    assert_eq!(world.ledger.kept().dead.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_kept_through_an_open_breaker_a_pause_and_restarts() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, in_order);
    world.start();
    let mut sent = 0;
    for round in 0..3 {
        world.notify_in_order(all(KEYS, sent..sent + 20)).await;
        sent += 20;
        sink.answer(DOWN);
        world.notify_in_order(all(KEYS, sent..sent + 20)).await;
        sent += 20;
        until_a_range_is_owed(&world, &mut sent).await;
        if round > 0 {
            // The next process goes on with what is owed.
            world.stop().await;
            world.ledger.run_out();
            world.start();
        }
        sink.answer(OK);
        world.put(1, &sink, |endpoint| {
            in_order(endpoint);
            endpoint.is_paused = true;
        });
        world.notify_in_order(all(KEYS, sent..sent + 20)).await;
        sent += 20;
        world.committed().await;
        world.put(1, &sink, in_order);
        until_taken(&sink, sent * KEYS).await;
    }
    until_nothing_is_owed(&world).await;
    world.stop().await;
    check_order(&sink);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_now_and_then_gets_each_key_in_order() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, in_order);
    world.start();
    for round in 0..20_u32 {
        let failing = format!(r#""{} {}""#, round % KEYS, round * 5 + 2);
        sink.answer_to(&failing, Some(DOWN));
        world
            .notify_in_order(all(KEYS, round * 5..round * 5 + 5))
            .await;
        if round % 3 == 0 {
            world.stop().await;
            world.ledger.run_out();
            world.start();
        }
        sink.answer_to(&failing, None);
    }
    until_taken(&sink, 100 * KEYS).await;
    until_nothing_is_owed(&world).await;
    world.committed().await;
    world.stop().await;
    check_order(&sink);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_which_very_much_comes_holds_back_no_other() {
    let mut world = World::new();
    let sink = Sink::start().await;
    sink.answer_to(r#""0 "#, Some(SLOW));
    world.put(1, &sink, in_order);
    world.start();
    let much = (0..300).map(|number| (0, number));
    world.notify_in_order(much.chain(all(KEYS, 300..301))).await;
    until("the others are taken", || async {
        let others = taken(&sink).into_iter().filter(|(key, _)| *key != 0);
        others.count() == KEYS as usize - 1
    })
    .await;
    assert!(sink.distinct() < 300, "it is not slow: this tests nothing");
    until_taken(&sink, 300 + KEYS).await;
    until_nothing_is_owed(&world).await;
    world.committed().await;
    world.stop().await;
    check_order(&sink);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_wants_order_from_now_on_gets_it() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |_| {});
    world.start();
    world.notify_in_order(all(KEYS, 0..5)).await;
    until_taken(&sink, 5 * KEYS).await;
    world.put(1, &sink, in_order);
    sink.answer(SLOW);
    sink.answer_to(r#""3 7""#, Some(DOWN));
    world.notify_in_order(all(KEYS, 5..20)).await;
    until_taken(&sink, 20 * KEYS - 13).await;
    sink.answer_to(r#""3 7""#, None);
    until_taken(&sink, 20 * KEYS).await;
    until_nothing_is_owed(&world).await;
    world.stop().await;
    let in_order: Vec<_> = taken(&sink).into_iter().skip(5 * KEYS as usize).collect();
    for key in 0..KEYS {
        let numbers = in_order.iter().filter(|(of, _)| *of == key);
        assert!(
            numbers.map(|(_, number)| *number).is_sorted(),
            "{key}: {in_order:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_kept_where_what_was_left_is_written_late() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, in_order);
    world.start();
    world.notify_in_order(all(KEYS, 0..1)).await;
    until_taken(&sink, KEYS).await;
    sink.answer(DOWN);
    let mut sent = 1;
    until_a_range_is_owed(&world, &mut sent).await;
    // The range grows, and nobody hears of that.
    world.ledger.kept().is_away = true;
    until("it is taken for dead", || async {
        world.ledger.kept().is_dead()
    })
    .await;
    world.notify_in_order(all(KEYS, sent..sent + 5)).await;
    // Others free what the dead have claimed.
    world.ledger.run_out();
    {
        // It may ask again before it may write.
        let mut kept = world.ledger.kept();
        (kept.is_away, kept.is_full) = (false, true);
    }
    sink.answer(OK);
    for number in sent + 5..sent + 11 {
        let refused = world.ledger.kept().refused;
        until("nothing can be written", || async {
            world.ledger.kept().refused > refused
        })
        .await;
        world.notify_in_order(all(KEYS, number..number + 1)).await;
    }
    world.ledger.kept().is_full = false;
    until_taken(&sink, (sent + 11) * KEYS).await;
    until_nothing_is_owed(&world).await;
    world.committed().await;
    world.stop().await;
    check_order(&sink);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_in_memory_when_its_process_died_comes_before_what_it_had_written_down() {
    let mut world = World::new();
    let sink = Sink::start().await;
    sink.answer(Answer {
        after: Some(Duration::from_mins(1)),
        ..OK
    });
    world.put(1, &sink, in_order);
    let process = tokio::runtime::Runtime::new().expect("a runtime");
    {
        let _inside = process.enter();
        world.start();
    }
    // More than wait in memory: what comes then is owed.
    world.notify_in_order(all(1, 0..150)).await;
    until("some are owed", || async {
        world.ledger.kept().owed.len() >= 49
    })
    .await;
    process.shutdown_background();
    world.dispatcher = None;
    world.ledger.run_out();
    sink.answer(OK);
    world.start();
    until_taken(&sink, 150).await;
    until_nothing_is_owed(&world).await;
    world.stop().await;
    check_order(&sink);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_claimed_of_a_dispatcher_that_stops_while_it_takes_over() {
    let mut world = World::new();
    let sink = Sink::start().await;
    sink.answer(DOWN);
    world.put(1, &sink, in_order);
    world.start();
    world.notify_in_order(all(KEYS, 0..20)).await;
    until("a range is owed", || async {
        !world.ledger.kept().ranges.is_empty()
    })
    .await;
    world.stop().await;
    let before = world.ledger.kept().take_overs.0;
    world.ledger.kept().taking_over = Duration::from_millis(500);
    world.start();
    world.notify_in_order(all(KEYS, 20..21)).await;
    until("it takes over", || async {
        world.ledger.kept().take_overs.0 > before
    })
    .await;
    world.stop().await;
    until("it has taken over", || async {
        let (begun, done) = world.ledger.kept().take_overs;
        begun == done
    })
    .await;
    let kept = world.ledger.kept();
    assert!(!kept.ranges.is_empty() && kept.ranges.values().all(|(.., is_claimed)| !is_claimed));
}
