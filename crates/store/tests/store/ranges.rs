//! Ranges that nobody delivers: who owes them, and how they are claimed.

use std::sync::Arc;

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{Happened, Ledger, OwedRange, RangeId, TopicPartition};
use dovecast_notification::EndpointId;
use uuid::Uuid;

use crate::setup::{Kind, Test, cases, grown};

cases![
    of_each_endpoint_that_is_named_the_lowest_ranges_are_claimed,
    who_owes_what_is_claimed_by_one_that_lives_is_not_named,
    a_range_of_the_name_of_one_in_hand_is_claimed_when_that_is_done,
    what_is_owed_of_other_topics_is_named_and_claimed_by_nobody,
    free_ranges_of_a_partition_that_end_at_an_offset_are_ended_and_no_others,
];

fn endpoint(number: u128) -> EndpointId {
    EndpointId(Uuid::from_u128(number))
}

fn range(number: u128, partition: u32, start: u64) -> RangeId {
    RangeId {
        endpoint: endpoint(number),
        topic: Arc::from("t"),
        partition,
        start,
    }
}

fn topics(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// Endpoints that owe ranges of the topic of [`range`].
async fn owing(ledger: &impl Ledger, now_ms: i64) -> Result<Vec<EndpointId>> {
    Ok(ledger.owing_ranges(now_ms, topics(&["t"])).await?)
}

fn owes(ids: impl IntoIterator<Item = RangeId>) -> Vec<Happened> {
    grown(ids.into_iter().map(|id| {
        let to = id.start + 10;
        (id, to)
    }))
}

/// What was claimed: endpoint, partition, start.
async fn claimed(
    ledger: &impl Ledger,
    now_ms: i64,
    most: usize,
    of: &[u128],
) -> Result<Vec<(u128, u32, u64)>> {
    let of = of.iter().copied().map(endpoint).collect();
    let ranges = ledger
        .claim_ranges_of(now_ms, most, of, topics(&["t"]))
        .await?;
    let mut found: Vec<_> = ranges
        .into_iter()
        .map(|range| {
            (
                range.id.endpoint.0.as_u128(),
                range.id.partition,
                range.id.start,
            )
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}

async fn of_each_endpoint_that_is_named_the_lowest_ranges_are_claimed(test: Test) -> Result<()> {
    let store = test.open().await?;
    let of = |number, starts: [u64; 4]| {
        (0..)
            .zip(starts)
            .map(move |(partition, start)| range(number, partition, start))
    };
    let all = of(1, [40, 30, 20, 10])
        .chain(of(2, [5, 6, 7, 8]))
        .chain(of(3, [100, 0, 1, 100]));
    store.record(&owes(all)).await?;
    store.leave().await?;
    // Claimed by one that does not live.
    let store = match test.kind {
        Kind::Sqlite => {
            drop(store);
            test.open().await?
        }
        Kind::Postgres(_) => test.open().await?,
    };
    store.beat(0, 1_000).await?;
    ensure!(owing(&store, 1).await? == [3, 2, 1].map(endpoint));
    ensure!(
        claimed(&store, 1, 2, &[1, 3, 9]).await? == [(1, 2, 20), (1, 3, 10), (3, 1, 0), (3, 2, 1)]
    );
    ensure!(owing(&store, 1).await? == [2, 1, 3].map(endpoint));
    ensure!(claimed(&store, 1, 1, &[1, 2]).await? == [(1, 1, 30), (2, 0, 5)]);
    ensure!(
        claimed(&store, 1, 10, &[1, 2]).await? == [(1, 0, 40), (2, 1, 6), (2, 2, 7), (2, 3, 8)]
    );
    ensure!(claimed(&store, 1, 10, &[]).await? == []);
    ensure!(owing(&store, 1).await? == [3].map(endpoint));
    Ok(())
}

async fn who_owes_what_is_claimed_by_one_that_lives_is_not_named(test: Test) -> Result<()> {
    let (one, two) = (test.open().await?, test.open().await?);
    one.record(&owes([range(1, 0, 5)])).await?;
    one.beat(0, 50_000).await?;
    ensure!(owing(&two, 100).await? == []);
    ensure!(claimed(&two, 100, 1, &[1]).await? == []);
    one.beat(0, -1).await?;
    ensure!(owing(&two, 101).await? == [endpoint(1)]);
    one.beat(0, 50_000).await?;
    one.record(&[Happened::Released(range(1, 0, 5))]).await?;
    ensure!(owing(&two, 100).await? == [endpoint(1)]);
    ensure!(claimed(&two, 100, 1, &[1]).await? == [(1, 0, 5)]);
    Ok(())
}

async fn a_range_of_the_name_of_one_in_hand_is_claimed_when_that_is_done(test: Test) -> Result<()> {
    let one = test.open().await?;
    let two = one.another_node();
    for node in [&one, &two] {
        node.beat(0, 50_000).await?;
    }
    let id = range(1, 0, 100);
    one.record(&[Happened::Begun(id.clone(), 150)]).await?;
    // The first one has claimed it up to 150: what is behind is a row of its own.
    two.record(&[Happened::Begun(id.clone(), 200)]).await?;
    ensure!(test.count("owed_range")? == 2);
    one.leave().await?;
    ensure!(claimed(&two, 100, 10, &[1]).await? == []);
    two.record(&[Happened::Ended(id.clone(), 200)]).await?;
    ensure!(claimed(&two, 100, 10, &[1]).await? == [(1, 0, 100)]);
    two.record(&[Happened::Ended(id, 150)]).await?;
    ensure!(test.count("owed_range")? == 0);
    Ok(())
}

async fn what_is_owed_of_other_topics_is_named_and_claimed_by_nobody(test: Test) -> Result<()> {
    let store = test.open().await?;
    store.beat(0, 50_000).await?;
    let of = |number, topic: &str, start| RangeId {
        topic: Arc::from(topic),
        ..range(number, 0, start)
    };
    // More of the other topic, and before what is asked for, than are claimed at a time.
    let others = (0..30).map(|start| of(1, "gone", start));
    let asked = [of(1, "t", 40), of(2, "u", 30), of(3, "t", 50)];
    let ids: Vec<RangeId> = others.chain(asked).chain([of(4, "gone", 0)]).collect();
    store.record(&owes(ids.clone())).await?;
    let released: Vec<Happened> = ids.into_iter().map(Happened::Released).collect();
    store.record(&released).await?;
    let both = topics(&["t", "u"]);
    ensure!(store.owing_ranges(1, both.clone()).await? == [2, 1, 3].map(endpoint));
    ensure!(store.owing_ranges(1, topics(&["none"])).await? == []);
    ensure!(store.owing_ranges(1, Vec::new()).await? == []);
    let all = [1, 2, 3, 4].map(endpoint).to_vec();
    let none = store
        .claim_ranges_of(1, 10, all.clone(), Vec::new())
        .await?;
    ensure!(none == []);
    let claimed = store.claim_ranges_of(1, 10, all, both).await?;
    let claimed: Vec<RangeId> = claimed.into_iter().map(|range| range.id).collect();
    ensure!(claimed == [of(2, "u", 30), of(1, "t", 40), of(3, "t", 50)]);
    let gone = TopicPartition {
        topic: Arc::from("gone"),
        partition: 0,
    };
    ensure!(store.partitions_of_free_ranges().await? == [gone]);
    ensure!(store.owing_ranges(1, topics(&["gone"])).await? == [1, 4].map(endpoint));
    Ok(())
}

async fn free_ranges_of_a_partition_that_end_at_an_offset_are_ended_and_no_others(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    store.beat(0, 50_000).await?;
    let free = [
        range(1, 0, 0),
        range(2, 0, 10),
        range(1, 0, 11),
        range(1, 3, 0),
    ];
    store.record(&owes(free.clone())).await?;
    let released: Vec<Happened> = free.iter().cloned().map(Happened::Released).collect();
    store.record(&released).await?;
    // One that is claimed is whose it is.
    store.record(&owes([range(3, 0, 2)])).await?;
    let of = |partition| TopicPartition {
        topic: Arc::from("t"),
        partition,
    };
    ensure!(store.partitions_of_free_ranges().await? == [of(0), of(3)]);
    let mut ended = store.end_free_ranges(of(0), 20).await?;
    ended.sort_by_key(|range| range.from);
    let owed = |id: &RangeId| OwedRange {
        id: id.clone(),
        from: id.start,
        to: id.start + 10,
    };
    ensure!(ended == [owed(&free[0]), owed(&free[1])]);
    ensure!(store.end_free_ranges(of(0), 20).await? == []);
    ensure!(store.end_free_ranges(of(3), u64::MAX).await? == [owed(&free[3])]);
    ensure!(store.partitions_of_free_ranges().await? == [of(0)]);
    ensure!(test.count("owed_range")? == 2);
    Ok(())
}
