//! What a process that is gone owes is taken up: until none is left, and endpoints that are up wait
//! for none that are not.

use std::collections::BTreeMap;
use std::sync::Arc;

use dovecast_dispatch::ledger::RangeId;
use dovecast_log::Log;
use dovecast_log::embedded::EmbeddedOptions;
use dovecast_notification::EndpointId;
use uuid::Uuid;

use crate::ledger::Kept;
use crate::sink::{Answer, OK, Sink};
use crate::world::{CONCURRENCY, OUTBOX, World, notification, until, until_taken};

/// Endpoints that are paused, each with so many ranges.
const PAUSED: u128 = 5_000;
const RANGES: u32 = 24;
/// Endpoints that are up. Their names come after those of others.
const UP: u128 = 5;
const RECORDS: u32 = 600;

fn paused(number: u128) -> u128 {
    1_000 + number
}

fn up(number: u128) -> u128 {
    1_000_000 + number
}

fn owe(kept: &mut Kept, endpoint: u128, partition: u32, (from, to): (u64, u64)) {
    let id = range(endpoint, OUTBOX, partition, from);
    kept.ranges.insert(id, (from, to, false));
}

fn range(endpoint: u128, topic: &str, partition: u32, start: u64) -> RangeId {
    RangeId {
        endpoint: EndpointId(Uuid::from_u128(endpoint)),
        topic: Arc::from(topic),
        partition,
        start,
    }
}

/// Records that nobody gets but by ranges, and where each partition ends.
async fn records(world: &mut World) -> Vec<u64> {
    world.start();
    world.notify(RECORDS).await;
    world.committed().await;
    world.stop().await;
    let topics = world.log.topics().await.expect("topics");
    topics[0].partitions.iter().map(|one| one.end).collect()
}

fn ranges_of(world: &World, is_meant: impl Fn(u128) -> bool) -> (usize, usize) {
    let kept = world.ledger.kept();
    let meant = kept
        .ranges
        .iter()
        .filter(|(id, _)| is_meant(id.endpoint.0.as_u128()));
    meant.fold((0, 0), |(all, claimed), (_, range)| {
        (all + 1, claimed + usize::from(range.2))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_very_many_paused_endpoints_are_left_and_hold_back_none() {
    let mut world = World::new();
    let sink = Sink::start().await;
    let ends = records(&mut world).await;
    for number in 0..PAUSED {
        world.put(paused(number), &sink, |endpoint| endpoint.is_paused = true);
    }
    for number in 0..UP {
        world.put(up(number), &sink, |_| {});
    }
    {
        let mut kept = world.ledger.kept();
        for number in 0..PAUSED {
            for range in 0..RANGES {
                let from = u64::from(range / 4) * 5;
                owe(&mut kept, paused(number), range % 4, (from, from + 5));
            }
        }
        for number in 0..UP {
            for (partition, end) in (0..).zip(&ends) {
                // More than are claimed at a time.
                for from in 0..*end {
                    owe(&mut kept, up(number), partition, (from, from + 1));
                }
            }
        }
    }
    world.start();
    until_taken(&sink, RECORDS * u32::try_from(UP).expect("few")).await;
    until("nothing is owed by who is up", || async {
        ranges_of(&world, |id| id >= up(0)).0 == 0
    })
    .await;
    {
        // Others may take up what is not claimed here.
        let left = ranges_of(&world, |id| id < up(0));
        let kept = world.ledger.kept();
        let mut claimed = kept.claimed_of.iter().map(|id| id.0.as_u128());
        assert!(claimed.all(|id| id >= up(0)), "{:?}", kept.claimed_of);
        assert_eq!(left.0, PAUSED as usize * RANGES as usize);
        assert!(kept.most_claimed <= 1_000);
    }
    // Whoever goes on is taken up like the others.
    world.put(paused(PAUSED - 1), &sink, |_| {});
    until("it owes no more", || async {
        ranges_of(&world, |id| id == paused(PAUSED - 1)).0 == 0
    })
    .await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_down_holds_what_is_under_way_and_is_given_the_rest_when_it_is_up() {
    let mut world = World::new();
    let sink = Sink::start().await;
    let ends = records(&mut world).await;
    sink.answer(Answer { status: 503, ..OK });
    world.put(up(0), &sink, |_| {});
    {
        let mut kept = world.ledger.kept();
        for (partition, end) in (0..).zip(&ends) {
            for from in (0..*end).step_by(10) {
                let to = (from + 10).min(*end);
                owe(&mut kept, up(0), partition, (from, to));
            }
        }
    }
    world.start();
    until("its breaker is open", || async { sink.asked() >= 10 }).await;
    // A delivery that waits before one that is done keeps its range: there are no more of those
    // than there were attempts at a time.
    until("it holds few", || async {
        ranges_of(&world, |_| true).1 <= CONCURRENCY
    })
    .await;
    sink.answer(OK);
    until_taken(&sink, RECORDS).await;
    until("nothing is owed", || async {
        let owed = world.ledger.kept().owed.len();
        owed + ranges_of(&world, |_| true).0 == 0
    })
    .await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

/// Endpoints that are down: more than are claimed for together.
const DOWN: u128 = 60;
/// Failures in a row that open a breaker.
const FAILURES: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_are_up_are_taken_up_before_all_that_are_down() {
    let mut world = World::new();
    let (sink, failing) = (Sink::start().await, Sink::start().await);
    let ends = records(&mut world).await;
    failing.answer(Answer { status: 503, ..OK });
    for number in 0..DOWN {
        world.put(1_000 + number, &failing, |_| {});
    }
    world.start();
    world.notify(20).await;
    until("their breakers are open", || async {
        let kept = world.ledger.kept();
        let mut failures: BTreeMap<EndpointId, usize> = BTreeMap::new();
        for row in kept.attempts.iter().filter(|row| !row.is_delivered) {
            *failures.entry(row.endpoint).or_default() += 1;
        }
        failures.len() as u128 == DOWN && failures.values().all(|count| *count >= FAILURES)
    })
    .await;
    world.put(up(0), &sink, |_| {});
    {
        let mut kept = world.ledger.kept();
        for endpoint in (0..DOWN).map(|number| 1_000 + number).chain([up(0)]) {
            for (partition, end) in (0..).zip(&ends) {
                owe(&mut kept, endpoint, partition, (0, *end));
            }
        }
        kept.claimed_of.clear();
    }
    until("something is claimed for each of them", || async {
        world.ledger.kept().claimed_of.len() as u128 > DOWN
    })
    .await;
    {
        let kept = world.ledger.kept();
        let first = kept.claimed_of.first().map(|id| id.0.as_u128());
        assert_eq!(first, Some(up(0)), "{:?}", kept.claimed_of);
    }
    until_taken(&sink, RECORDS).await;
    world.stop().await;
}

/// A topic that was dispatched once.
const FORMER: &str = "dovecot";

/// What looks like a notification on a topic of events was none when it came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_of_a_topic_that_is_not_dispatched_stays_owed_and_is_read_as_nothing() {
    let mut world = World::new();
    let sink = Sink::start().await;
    let ends = records(&mut world).await;
    for _ in 0..5 {
        world.append_to(FORMER, notification("1")).await;
    }
    world.put(1, &sink, |_| {});
    world.put(2, &sink, |endpoint| endpoint.is_ordered = true);
    let mut owed = BTreeMap::new();
    for (partition, end) in (0..).zip(&ends) {
        for endpoint in [1, 2] {
            owed.insert(range(endpoint, FORMER, partition, 0), (0, 5, false));
        }
        // There is more to take up, and all of that is delivered.
        for from in 0..*end {
            owe(&mut world.ledger.kept(), 1, partition, (from, from + 1));
        }
    }
    world.ledger.kept().ranges.extend(owed.clone());
    world.start();
    until("nothing else is owed", || async {
        ranges_of(&world, |_| true).0 == owed.len()
    })
    .await;
    world.notify(10).await;
    until_taken(&sink, RECORDS + 20).await;
    world.committed().await;
    let bad = world.stats().bad_records;
    world.stop().await;
    let kept = world.ledger.kept();
    assert_eq!(kept.ranges, owed);
    assert_eq!((bad, kept.dead.len()), (0, 0));
    assert_eq!(sink.distinct(), RECORDS as usize + 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_of_partitions_that_are_not_there_is_ended_and_counted_with_order_too() {
    let mut world = World::with_log(&EmbeddedOptions {
        partitions: 4,
        ..EmbeddedOptions::default()
    });
    let sink = Sink::start().await;
    let ends = records(&mut world).await;
    assert_eq!(ends.len(), 4);
    world.put(1, &sink, |endpoint| endpoint.is_ordered = true);
    world.put(2, &sink, |endpoint| endpoint.is_paused = true);
    for endpoint in [1, 2] {
        owe(&mut world.ledger.kept(), endpoint, 7, (3, 10));
    }
    world.start();
    until("they are counted", || async { world.stats().missing == 14 }).await;
    assert_eq!(ranges_of(&world, |_| true), (0, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_range_that_is_no_notification_is_one_dead_letter() {
    let mut world = World::with_log(&EmbeddedOptions {
        partitions: 1,
        ..EmbeddedOptions::default()
    });
    let sink = Sink::start().await;
    world.start();
    world.append(["{}".to_owned()]).await;
    world.committed().await;
    world.stop().await;
    // As if it had been a notification by the configuration of then.
    world.ledger.kept().dead.clear();
    for endpoint in [1, 2] {
        world.put(endpoint, &sink, |_| {});
        owe(&mut world.ledger.kept(), endpoint, 0, (0, 1));
    }
    world.start();
    until("nothing is owed", || async {
        ranges_of(&world, |_| true).0 == 0
    })
    .await;
    assert_eq!(world.stats().bad_records, 1);
    world.stop().await;
    let kept = world.ledger.kept();
    assert_eq!(kept.dead.len(), 1);
    assert!(kept.dead[0].reason.starts_with("not a notification"));
}
