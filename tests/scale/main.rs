//! Two hundred dispatchers on a thousand partitions and ten million keys, in one process.
//!
//! The dispatchers and the store are those of the product. Simulated are the time (tokio's, which
//! passes as fast as there is something to do), Kafka (`log`), and receivers (`nodes`). What that
//! shows, and what not, is in docs/scaling.md. `DOVECAST_SOAK=1` has each key get an event; without
//! it there are as many keys, and few of them get one.

mod ledger;
mod log;
mod nodes;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dovecast_plan::measured;

use ledger::at_once;
use log::{Keys, SESSION, mix};
use nodes::{World, is_ordered, number_of};

/// Size of the simulation.
#[derive(Clone, Copy, Debug)]
struct Size {
    dispatchers: usize,
    partitions: u32,
    keys: u64,
    /// Records of each partition before nodes are lost, while endpoints are paused, and after.
    records: [u64; 3],
    /// Dispatchers that are lost.
    lost: usize,
}

const SEED: u64 = 20_261_126;
/// Endpoints that are paused for a while.
const PAUSED: u64 = 4;
/// Simulated time after which something is stuck.
const PATIENCE: Duration = Duration::from_mins(3);
/// Statements of an idle dispatcher that only a PostgreSQL gets: its clock and its timeline are
/// asked for, and what other nodes have changed.
const ONLY_POSTGRES: u64 = 8;
/// How long nodes work on what has come before some are lost: some of it has arrived then and is
/// not committed.
const UNDER_WAY: Duration = Duration::from_millis(8);
/// Records that are added to each partition at a time, and how often.
const AT_A_TIME: u64 = 20;
const APPEND_INTERVAL: Duration = Duration::from_millis(250);
/// How much later than by its bounds a range may be taken up: claims are one after the other.
const SLACK_MS: i64 = 500;

impl Size {
    fn wanted() -> Self {
        let small = Self {
            dispatchers: 200,
            partitions: 1_000,
            keys: 10_000_000,
            records: [10, 10, 10],
            lost: 10,
        };
        if std::env::var_os("DOVECAST_SOAK").is_none() {
            return small;
        }
        // Every second record goes round among all keys: see `Keys::of`.
        Self {
            records: [18_000, 1_000, 1_000],
            ..small
        }
    }
}

/// Waits, in simulated time.
async fn until(world: &World, what: &str, mut is_so: impl FnMut() -> bool) {
    let began = tokio::time::Instant::now();
    while !is_so() {
        let twice = world.claims.kept().claimed_twice.clone();
        assert!(twice.is_empty(), "claimed by two that live: {twice:?}");
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Adds records to each partition, some at a time.
async fn append(world: &World, of_each: u64) {
    let mut left = of_each;
    while left > AT_A_TIME {
        world.cluster.append(AT_A_TIME);
        left -= AT_A_TIME;
        tokio::time::sleep(APPEND_INTERVAL).await;
    }
    world.cluster.append(left);
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Statements in a simulated second.
async fn statements_per_second(world: &World) -> u64 {
    let before = world.store.statements();
    seconds(2).await;
    (world.store.statements() - before) / 2
}

#[test]
fn many_dispatchers_lose_nothing_claim_nothing_twice_and_take_over_in_time() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .max_blocking_threads(2_048)
        .build()
        .expect("a runtime");
    runtime.block_on(simulate(Size::wanted()));
}

async fn simulate(size: Size) {
    let keys = Keys {
        count: size.keys,
        partitions: size.partitions,
        seed: SEED,
    };
    let mut world = World::new(keys, 200).await;
    for _ in 0..size.dispatchers {
        world.start();
    }
    until(&world, "each has joined", || {
        world.cluster.shares().len() == size.dispatchers
    })
    .await;
    let shares = world.cluster.shares();
    let (least, most) = (shares.values().min(), shares.values().max());
    println!("partitions of a dispatcher: {least:?} to {most:?}");
    assert!(most.expect("some") - least.expect("some") <= 1);

    let idle = statements_per_second(&world).await;
    println!("statements a second, idle: {idle}");
    let of_one = idle.div_ceil(size.dispatchers as u64);
    assert!(
        of_one + ONLY_POSTGRES <= measured::IDLE_STATEMENTS.value,
        "{of_one}"
    );

    world.forget_the_past();
    deliver_some(&world, size, idle).await;
    check_spread(&world, size);

    // What comes for endpoints that are paused is owed as ranges, claimed by who has read it.
    world.pause(PAUSED, true);
    append(&world, size.records[1]).await;
    until(&world, "all is committed", || world.cluster.is_committed()).await;
    let begun = world.claims.kept().ranges_begun;
    println!("ranges begun: {begun}");
    assert!(
        begun > size.partitions as usize,
        "endpoints owe ranges of most partitions"
    );
    lose_some(&world, size).await;
    check_all(&mut world, size).await;
}

/// All that comes is committed, and costs no more statements than plans say.
async fn deliver_some(world: &World, size: Size, idle: u64) {
    let (began, before) = (tokio::time::Instant::now(), world.store.statements());
    append(world, size.records[0]).await;
    until(world, "all is committed", || world.cluster.is_committed()).await;
    let records = u64::from(size.partitions) * size.records[0];
    let idle = idle * began.elapsed().as_secs().saturating_add(1);
    let spent = (world.store.statements() - before).saturating_sub(idle);
    println!("statements for {records} deliveries: {spent}");
    // Each may have a row and a transaction of its own; those that fail once are owed besides.
    let planned = (measured::ATTEMPT_STATEMENTS.value + 2) * records;
    assert!(spent <= planned + planned / 10, "{spent}");
}

fn check_spread(world: &World, size: Size) {
    let (nodes, least, most) = world.arrived.spread();
    println!("deliveries of a dispatcher: {least} to {most}, of {nodes} of them");
    let mean = u64::from(size.partitions) * size.records[0] / size.dispatchers as u64;
    assert_eq!(nodes, size.dispatchers);
    // Failures are retried by anybody.
    assert!(least >= mean * 3 / 4 && most <= mean * 5 / 4, "{mean}");
}

/// Nodes are gone with all that they have claimed; endpoints go on; more comes.
async fn lose_some(world: &World, size: Size) {
    append(world, size.records[2]).await;
    tokio::time::sleep(UNDER_WAY).await;
    let mut lost: Vec<usize> = (0..size.dispatchers).collect();
    lost.sort_by_key(|node| mix(SEED ^ *node as u64));
    lost.truncate(size.lost);
    for node in &lost {
        world.lose(*node);
    }
    // The group hears of it later than other nodes: a claim ends by itself.
    let heard = tokio::spawn({
        let (cluster, lost) = (Arc::clone(&world.cluster), lost.clone());
        async move {
            tokio::time::sleep(SESSION).await;
            for node in lost {
                cluster.leave(node);
            }
        }
    });
    let left: Vec<_> = {
        let kept = world.claims.kept();
        let theirs = kept.ranges.iter().filter(|(_, node)| lost.contains(node));
        theirs.map(|(id, _)| id.clone()).collect()
    };
    assert!(left.len() >= size.lost, "each has left some ranges");
    world.pause(PAUSED, false);
    until(world, "others have what was claimed", || {
        let kept = world.claims.kept();
        let still = |id| kept.ranges.get(id).is_some_and(|node| lost.contains(node));
        !left.iter().any(still)
    })
    .await;
    let taken_over = world.claims.kept().taken_over.clone();
    assert!(taken_over.len() >= left.len());
    let look_ms = i64::try_from(measured::TAKE_UP_INTERVAL.value * 1_000).expect("it fits");
    let session_ms = i64::try_from(SESSION.as_millis()).expect("it fits");
    // Where order is wanted, ranges go with their partition.
    for (is_in_order, bound_ms) in [(false, look_ms), (true, session_ms + look_ms)] {
        let these = taken_over
            .iter()
            .filter(|(id, _)| is_ordered(number_of(id.endpoint)) == is_in_order);
        let longest = these.clone().map(|(_, ms)| *ms).max();
        println!(
            "ranges taken over, in order {is_in_order}: {}, {longest:?} ms after their claim had ended, at the latest",
            these.count()
        );
        let longest = longest.expect("some of both");
        assert!(longest <= bound_ms + SLACK_MS, "{longest}");
    }
    heard.await.expect("no panic");
}

async fn check_all(world: &mut World, size: Size) {
    let records = u64::from(size.partitions) * size.records.iter().sum::<u64>();
    until(world, "all is committed", || world.cluster.is_committed()).await;
    until(world, "all has arrived", || {
        world.arrived.distinct().0 == records
    })
    .await;
    let more = world.arrived.distinct().1;
    let [unordered, ordered] = &world.arrived.overtaken;
    let unordered = unordered.load(Ordering::Relaxed);
    println!(
        "{records} records have arrived, {more} of them again; where no order is asked for {unordered} behind a later one of their key"
    );
    assert_eq!(ordered.load(Ordering::Relaxed), 0, "overtaken in order");
    assert!(unordered > 0, "nothing here would overtake anyway");
    world.stop().await;
    until(world, "no range is owed", || {
        world.claims.kept().ranges.is_empty()
    })
    .await;
    let owed = at_once(world.store.owed_counts()).await.expect("counts");
    assert!(owed.is_empty(), "{owed:?}");
}
