//! Owed deliveries of one key in order: of each key the first is claimed, with what follows it.

use std::sync::Arc;

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{
    BEHIND, Claimed, Claiming, Happened, KeyPlace, LEFT_ALONE_MS, Ledger, Owed, OwedId, OwedRange,
    RangeId, TopicPartition,
};
use dovecast_notification::{EndpointId, NotificationId, OrderKey};
use dovecast_store::Store;
use uuid::Uuid;

use crate::setup::{Test, cases, each, grown};
use Happened::{Done, FailedAgain, GivenBack, Owed as Owes, UnderWay, Unwanted};

cases![
    of_a_key_the_first_is_claimed_with_what_follows_it,
    mailbox_transactions_are_claimed_whole,
    what_has_failed_holds_back_its_key_and_no_other,
    behind_what_is_done_the_next_of_the_key_is_due,
    what_is_given_back_keeps_its_place,
    what_is_due_before_its_turn_waits_for_it,
    what_another_dispatcher_has_under_way_is_not_overtaken,
    a_partition_of_another_dispatcher_is_left_to_it_for_a_while,
    what_an_endpoint_owes_of_a_partition_is_taken_over,
    what_an_endpoint_owes_under_two_rows_of_one_name_is_taken_over,
];

pub(crate) const ENDPOINT: EndpointId = EndpointId(Uuid::from_u128(7));

pub(crate) fn partition(partition: u32) -> TopicPartition {
    TopicPartition {
        topic: Arc::from("events"),
        partition,
    }
}

fn range(endpoint: EndpointId, partition: u32, start: u64) -> RangeId {
    RangeId {
        endpoint,
        topic: Arc::from("events"),
        partition,
        start,
    }
}

pub(crate) fn key(name: &str) -> OrderKey {
    OrderKey::new("", "events", 0, name.as_bytes())
}

/// What is owed of a key: its place in the log is its number.
pub(crate) fn owed(name: &str, number: u64, due_ms: i64) -> Owed {
    Owed {
        note: String::new(),
        endpoint: ENDPOINT,
        notification: NotificationId(Uuid::from_u128(number.into())),
        content: "{}".into(),
        failures: 1,
        due_ms,
        reason: String::new(),
        place: Some(KeyPlace {
            of: partition(0),
            key: key(name),
            offset: number,
            log: None,
        }),
    }
}

fn id(number: u64) -> OwedId {
    (ENDPOINT, NotificationId(Uuid::from_u128(number.into())))
}

/// What a dispatcher claims that reads the partition: the numbers, and the keys that are complete.
pub(crate) async fn claim(store: &Store, now_ms: i64, most: usize) -> Result<(Vec<u64>, usize)> {
    let claiming = Claiming {
        now_ms,
        most,
        partitions: vec![partition(0)],
        ..Claiming::default()
    };
    let Claimed { owed, complete, .. } = store.claim(claiming).await?;
    let numbers = owed.iter().filter_map(|owed| owed.place.as_ref());
    Ok((numbers.map(|place| place.offset).collect(), complete.len()))
}

pub(crate) async fn begin(test: &Test, all: Vec<Owed>) -> Result<Store> {
    let store = test.open().await?;
    store.beat(0, 1_000_000).await?;
    store.record(&each(Happened::Owed, all)).await?;
    Ok(store)
}

async fn of_a_key_the_first_is_claimed_with_what_follows_it(test: Test) -> Result<()> {
    let all = vec![
        owed("b", 8, BEHIND),
        owed("a", 3, BEHIND),
        owed("a", 1, 100),
        owed("b", 4, 50),
        owed("a", 2, BEHIND),
    ];
    let store = begin(&test, all).await?;
    ensure!(claim(&store, 49, 10).await? == (vec![], 0));
    ensure!(claim(&store, 99, 10).await? == (vec![4, 8], 1));
    ensure!(claim(&store, 100, 10).await? == (vec![1, 2, 3], 1));
    ensure!(claim(&store, 200, 10).await? == (vec![], 0));
    Ok(())
}

/// A delivery of a mailbox transaction.
pub(crate) fn of_transaction(transaction: u128, is_last: bool, owed: Owed) -> Owed {
    let (txn, last) = (Uuid::from_u128(transaction), u8::from(is_last));
    let content = format!(
        r#"{{"notification":{{"application":"a","event_type":"e","level":null,"timestamp":0,"message":0,"account_id":"1"}},"headers":[["dovecast-txn","{txn}"],["dovecast-txn-seq","0"],["dovecast-txn-last","{last}"]]}}"#
    );
    Owed {
        content: content.into(),
        ..owed
    }
}

async fn mailbox_transactions_are_claimed_whole(test: Test) -> Result<()> {
    let due = |number: u64| if number % 10 == 1 { 0 } else { BEHIND };
    // Three of three.
    let of_key = |name: &'static str, first: u64| {
        (0..9).map(move |place| {
            let one = owed(name, first + place, due(first + place));
            of_transaction((first + place / 3).into(), place % 3 == 2, one)
        })
    };
    let store = begin(&test, of_key("a", 1).collect()).await?;
    // There is room for one.
    for first in [1, 4, 7] {
        let done = [first, first + 1, first + 2];
        let claimed = claim(&store, 9, 3).await?;
        ensure!(claimed.0 == done, "{claimed:?} of {done:?}");
        store.record(&each(Done, done.map(id))).await?;
    }
    store.record(&each(Owes, of_key("b", 11))).await?;
    // There is room for two and some more.
    ensure!(claim(&store, 9, 8).await? == (vec![11, 12, 13, 14, 15, 16], 0));
    store
        .record(&each(Done, [11, 12, 13, 14, 15, 16].map(id)))
        .await?;
    // The first one may be larger than what there is room for.
    ensure!(claim(&store, 9, 1).await? == (vec![17, 18, 19], 1));
    store.record(&each(Done, [17, 18, 19].map(id))).await?;

    // Of more keys than there is room for each gets its turn, and is whole.
    let keys = ["c", "d", "e", "f", "g"];
    let all = keys.into_iter().zip(2_u64..).flat_map(|(name, ten)| {
        let of_key = |place| {
            of_transaction(
                ten.into(),
                place == 2,
                owed(name, ten * 10 + 1 + place, due(place + 1)),
            )
        };
        (0..3).map(of_key).collect::<Vec<_>>()
    });
    store.record(&each(Owes, all)).await?;
    let mut turns = Vec::new();
    while turns.len() < keys.len() {
        let claiming = Claiming {
            now_ms: 9,
            most: 4,
            partitions: vec![partition(0)],
            ..Claiming::default()
        };
        let claimed = store.claim(claiming).await?;
        let numbers = claimed.owed.iter().filter_map(|owed| owed.place.as_ref());
        let numbers: Vec<_> = numbers.map(|place| place.offset % 10).collect();
        ensure!(
            numbers == [1, 2, 3] && claimed.complete.len() == 1,
            "{claimed:?}"
        );
        ensure!(
            claimed.is_more == (turns.len() + 1 < keys.len()),
            "{claimed:?} after {turns:?}"
        );
        turns.push(claimed);
    }
    Ok(())
}

async fn what_has_failed_holds_back_its_key_and_no_other(test: Test) -> Result<()> {
    let all = vec![owed("a", 1, 0), owed("a", 2, BEHIND), owed("b", 3, 0)];
    let store = begin(&test, all).await?;
    ensure!(claim(&store, 1, 10).await?.0.len() == 3);
    let happened = [
        Owes(owed("a", 5, BEHIND)),
        Owes(owed("b", 6, 0)),
        FailedAgain(owed("a", 1, 500)),
        GivenBack(owed("a", 2, BEHIND)),
        Done(id(3)),
    ];
    store.record(&happened).await?;
    ensure!(claim(&store, 499, 10).await? == (vec![6], 1));
    ensure!(claim(&store, 500, 10).await? == (vec![1, 2, 5], 1));
    Ok(())
}

async fn behind_what_is_done_the_next_of_the_key_is_due(test: Test) -> Result<()> {
    let all = vec![owed("a", 1, 0), owed("a", 2, BEHIND), owed("a", 3, BEHIND)];
    let store = begin(&test, all).await?;
    ensure!(claim(&store, 1, 2).await? == (vec![1, 2], 0));
    store.record(&each(Done, [1, 2].map(id))).await?;
    ensure!(claim(&store, 1, 10).await? == (vec![3], 1));
    // What is for an endpoint that is gone.
    let happened = [Owes(owed("a", 4, BEHIND)), Unwanted(id(3))];
    store.record(&happened).await?;
    ensure!(claim(&store, 1, 10).await? == (vec![4], 1));
    Ok(())
}

async fn what_is_given_back_keeps_its_place(test: Test) -> Result<()> {
    let all = (1..=4).map(|number| owed("a", number, if number == 1 { 0 } else { BEHIND }));
    let store = begin(&test, all.collect()).await?;
    ensure!(claim(&store, 1, 10).await? == (vec![1, 2, 3, 4], 1));
    let happened = [
        Done(id(1)),
        GivenBack(owed("a", 2, 300)),
        GivenBack(owed("a", 3, BEHIND)),
        GivenBack(owed("a", 4, BEHIND)),
    ];
    store.record(&happened).await?;
    ensure!(claim(&store, 299, 10).await? == (vec![], 0));
    ensure!(claim(&store, 300, 10).await? == (vec![2, 3, 4], 1));
    // As where the first was dead, and what waits behind it is given back later than that is
    // written.
    store.record(&[Done(id(2))]).await?;
    let back = [owed("a", 3, BEHIND), owed("a", 4, BEHIND)];
    store.record(&each(GivenBack, back)).await?;
    ensure!(claim(&store, 300, 10).await? == (vec![3, 4], 1));
    Ok(())
}

async fn what_is_due_before_its_turn_waits_for_it(test: Test) -> Result<()> {
    let store = begin(&test, vec![owed("a", 2, 10), owed("a", 1, 900)]).await?;
    ensure!(claim(&store, 100, 10).await? == (vec![], 0));
    ensure!(test.count(&format!("owed WHERE due_ms = {BEHIND}"))? == 1);
    ensure!(claim(&store, 900, 10).await? == (vec![1, 2], 1));
    Ok(())
}

async fn what_another_dispatcher_has_under_way_is_not_overtaken(test: Test) -> Result<()> {
    let store = begin(&test, vec![owed("a", 1, 0), owed("a", 2, BEHIND)]).await?;
    let happened = [
        Owes(owed("a", 4, BEHIND)),
        Owes(owed("b", 6, BEHIND)),
        UnderWay(owed("a", 3, 0)),
        UnderWay(owed("b", 5, 0)),
    ];
    store.record(&happened).await?;
    ensure!(claim(&store, 1, 10).await? == (vec![1, 2], 0));
    store.record(&each(Done, [1, 2, 5].map(id))).await?;
    ensure!(claim(&store, 1, 10).await? == (vec![6], 1));
    store.record(&[Done(id(3))]).await?;
    ensure!(claim(&store, 1, 10).await? == (vec![4], 1));
    Ok(())
}

async fn a_partition_of_another_dispatcher_is_left_to_it_for_a_while(test: Test) -> Result<()> {
    let mut unordered = owed("x", 9, 0);
    unordered.place = None;
    let store = begin(
        &test,
        vec![owed("a", 1, 0), owed("a", 2, BEHIND), unordered],
    )
    .await?;
    let other = |now_ms| Claiming {
        now_ms,
        most: 10,
        partitions: vec![partition(1)],
        ..Claiming::default()
    };
    let claimed = store.claim(other(1)).await?.owed;
    ensure!(
        claimed.len() == 1 && claimed[0].place.is_none(),
        "{claimed:?}"
    );
    ensure!(store.claim(other(LEFT_ALONE_MS - 1)).await? == Claimed::default());
    let claimed = store.claim(other(LEFT_ALONE_MS)).await?;
    ensure!(claimed.owed.len() == 2 && claimed.complete.len() == 1);
    Ok(())
}

async fn what_an_endpoint_owes_of_a_partition_is_taken_over(test: Test) -> Result<()> {
    let store = begin(
        &test,
        vec![owed("a", 1, 0), owed("b", 2, 0), owed("b", 3, BEHIND)],
    )
    .await?;
    let other = EndpointId(Uuid::from_u128(8));
    let all = [
        range(ENDPOINT, 0, 10),
        range(ENDPOINT, 0, 50),
        range(ENDPOINT, 1, 10),
        range(other, 0, 10),
    ];
    store.record(&grown(all.map(|id| (id, 60)))).await?;
    // A free range, and one that is claimed.
    let happened = [
        Happened::Progress(range(ENDPOINT, 0, 10), 20),
        Happened::Released(range(ENDPOINT, 0, 10)),
    ];
    store.record(&happened).await?;
    let mut debtors = store.debtors(partition(0)).await?;
    debtors.sort();
    ensure!(debtors == [ENDPOINT, other]);
    ensure!(store.debtors(partition(2)).await? == []);
    let free = store.free_ranges(vec![ENDPOINT, other]).await?;
    ensure!(free == [(ENDPOINT, partition(0))], "{free:?}");
    let mut debts = store.take_over(1, ENDPOINT, partition(0)).await?;
    let claimed = OwedRange {
        id: range(ENDPOINT, 0, 10),
        from: 20,
        to: 60,
    };
    ensure!(debts.claimed == [claimed] && debts.others == [range(ENDPOINT, 0, 50)]);
    debts.keys.sort();
    let mut keys = [key("a"), key("b")];
    keys.sort();
    ensure!(debts.keys == keys, "{debts:?}");
    // It is ours now.
    ensure!(store.free_ranges(vec![ENDPOINT]).await? == []);
    ensure!(
        store
            .take_over(1, ENDPOINT, partition(0))
            .await?
            .others
            .len()
            == 2
    );
    // What a dispatcher has claimed that is dead is free.
    let next = test.open().await?;
    store.leave().await?;
    next.beat(2, 1_000_000).await?;
    ensure!(
        next.take_over(2, ENDPOINT, partition(0))
            .await?
            .claimed
            .len()
            == 2
    );
    Ok(())
}

async fn what_an_endpoint_owes_under_two_rows_of_one_name_is_taken_over(test: Test) -> Result<()> {
    let former = test.open().await?;
    former.beat(1, 1_000_000).await?;
    former
        .record(&grown([(range(ENDPOINT, 0, 10), 11)]))
        .await?;
    // It is cut off from the log, and what it has read is read again by who gets the partition.
    let next = test.open().await?;
    next.beat(1, 1_000_000).await?;
    next.record(&grown([(range(ENDPOINT, 0, 10), 40)])).await?;
    former
        .record(&[Happened::Released(range(ENDPOINT, 0, 10))])
        .await?;
    // All that is owed is part of the range of the next one: it waits for nobody.
    let debts = next.take_over(1, ENDPOINT, partition(0)).await?;
    ensure!(
        debts.claimed.is_empty() && debts.others == [range(ENDPOINT, 0, 10)],
        "{debts:?}"
    );
    // What the former one has left comes again when that is done.
    next.record(&[Happened::Ended(range(ENDPOINT, 0, 10), 40)])
        .await?;
    let left = OwedRange {
        id: range(ENDPOINT, 0, 10),
        from: 10,
        to: 11,
    };
    let debts = next.take_over(1, ENDPOINT, partition(0)).await?;
    ensure!(
        debts.claimed == [left] && debts.others.is_empty(),
        "{debts:?}"
    );
    Ok(())
}
