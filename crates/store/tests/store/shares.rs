//! What is claimed at a time: each account has its share of it, in deliveries and in bytes, however
//! much others owe.

use anyhow::{Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::ledger::{BEHIND, Claimed, Claiming, Happened, Ledger, Owed};
use dovecast_notification::{EndpointId, NotificationId};
use dovecast_store::Store;
use uuid::Uuid;

use crate::order;
use crate::setup::{self, Test, cases, create, each};

cases![
    an_account_with_many_endpoints_leaves_another_its_share,
    a_key_has_the_share_of_its_account,
    a_key_has_its_share_beside_long_transactions_of_others,
    shares_that_are_not_used_are_for_the_next_claim,
    no_more_bytes_are_claimed_than_there_is_room_for,
    what_follows_the_first_of_a_key_has_no_more_bytes_than_there_is_room_for,
    accounts_have_the_same_share_of_the_bytes,
];

/// More than are looked at from the front of what is due, for [`MOST`].
const ENDPOINTS: usize = 30;
const MOST: usize = 20;

fn owed(endpoint: EndpointId, number: usize, bytes: usize, due_ms: i64) -> Owed {
    Owed {
        notification: NotificationId(Uuid::from_u128(number as u128)),
        content: Bytes::from(vec![b'x'; bytes]),
        ..setup::owed(endpoint, due_ms)
    }
}

/// An account with many endpoints, each of which owes deliveries of so many bytes that are due for
/// long, and the one endpoint of another account.
async fn beside_many(test: &Test, bytes: usize) -> Result<(Store, EndpointId)> {
    let (store, many, _) = test.filled().await?;
    store.beat(0, 1_000_000).await?;
    for number in 0..ENDPOINTS {
        let endpoint = create(&store, &many, &format!("e{number}"), None).await?;
        let id = endpoint.endpoint.id;
        let all = (0..MOST).map(|number| owed(id, number, bytes, 1));
        store.record(&each(Happened::Owed, all)).await?;
    }
    let other = store.account_seen("other").await?;
    let endpoint = create(&store, &other, "e", None).await?;
    Ok((store, endpoint.endpoint.id))
}

async fn claim(store: &Store, bytes: usize) -> Result<Claimed> {
    let claiming = Claiming {
        now_ms: 50,
        most: MOST,
        bytes,
        partitions: vec![order::partition(0)],
        ..Claiming::default()
    };
    Ok(store.claim(claiming).await?)
}

/// What was claimed of an endpoint, by its place in the log or 0, and how much of others.
fn of(claimed: &Claimed, endpoint: EndpointId) -> (Vec<u64>, usize) {
    let all = claimed.owed.iter();
    let (its, others): (Vec<_>, Vec<_>) = all.partition(|owed| owed.endpoint == endpoint);
    let offset = |owed: &&Owed| owed.place.as_ref().map_or(0, |place| place.offset);
    (its.iter().map(offset).collect(), others.len())
}

async fn an_account_with_many_endpoints_leaves_another_its_share(test: Test) -> Result<()> {
    let (store, one) = beside_many(&test, 2).await?;
    let all = (0..15).map(|number| owed(one, number, 2, 2));
    store.record(&each(Happened::Owed, all)).await?;
    let claimed = of(&claim(&store, usize::MAX).await?, one);
    ensure!(claimed == (vec![0; 10], 10), "{claimed:?}");
    Ok(())
}

async fn a_key_has_the_share_of_its_account(test: Test) -> Result<()> {
    let (store, one) = beside_many(&test, 2).await?;
    let all = (1..=15).map(|number| Owed {
        endpoint: one,
        ..order::owed("a", number, if number == 1 { 2 } else { BEHIND })
    });
    store.record(&each(Happened::Owed, all)).await?;
    let claimed = of(&claim(&store, usize::MAX).await?, one);
    ensure!(claimed == ((1..=10).collect(), 10), "{claimed:?}");
    Ok(())
}

async fn a_key_has_its_share_beside_long_transactions_of_others(test: Test) -> Result<()> {
    let (store, many, _) = test.filled().await?;
    store.beat(0, 1_000_000).await?;
    for number in 0..ENDPOINTS {
        let endpoint = create(&store, &many, &format!("e{number}"), None).await?;
        // Each endpoint has two keys, which begin with transactions that do not end.
        let all = ["a", "b"]
            .into_iter()
            .zip([100, 200])
            .flat_map(|(key, first)| {
                let id = endpoint.endpoint.id;
                (first..first + 30).map(move |number| {
                    let due_ms = if number == first { 1 } else { BEHIND };
                    let owed = order::owed(key, number, due_ms);
                    let owed = Owed {
                        endpoint: id,
                        ..owed
                    };
                    order::of_transaction(first.into(), false, owed)
                })
            });
        store.record(&each(Happened::Owed, all)).await?;
    }
    let other = store.account_seen("other").await?;
    let one = create(&store, &other, "e", None).await?.endpoint.id;
    let all = (1..=15).map(|number| Owed {
        endpoint: one,
        ..order::owed("a", number, if number == 1 { 2 } else { BEHIND })
    });
    store.record(&each(Happened::Owed, all)).await?;
    let claimed = claim(&store, usize::MAX).await?;
    let (numbers, others) = of(&claimed, one);
    ensure!(
        numbers == (1..=10).collect::<Vec<u64>>() && others > 0 && claimed.is_more,
        "{numbers:?} and {others} others"
    );
    Ok(())
}

async fn shares_that_are_not_used_are_for_the_next_claim(test: Test) -> Result<()> {
    let (store, one) = beside_many(&test, 2).await?;
    let all = [Owed {
        endpoint: one,
        ..order::owed("a", 1, 2)
    }];
    store.record(&each(Happened::Owed, all)).await?;
    let claimed = claim(&store, usize::MAX).await?;
    ensure!(
        of(&claimed, one) == (vec![1], 10) && claimed.is_more,
        "{claimed:?}"
    );
    Ok(())
}

async fn no_more_bytes_are_claimed_than_there_is_room_for(test: Test) -> Result<()> {
    let store = test.open().await?;
    store.beat(0, 1_000_000).await?;
    let all = (1..10).map(|number| owed(order::ENDPOINT, number, 100, 1));
    store.record(&each(Happened::Owed, all)).await?;
    // One may be larger than what there is room for.
    for (bytes, expected) in [(250, 2), (99, 1), (0, 1), (399, 3), (1_000, 2)] {
        let claimed = claim(&store, bytes).await?;
        ensure!(
            claimed.owed.len() == expected && claimed.is_more == (bytes < 1_000),
            "{claimed:?} of {bytes} bytes"
        );
    }
    Ok(())
}

async fn what_follows_the_first_of_a_key_has_no_more_bytes_than_there_is_room_for(
    test: Test,
) -> Result<()> {
    let all = (1..=9).map(|number| Owed {
        content: Bytes::from(vec![b'x'; 100]),
        ..order::owed("a", number, if number == 1 { 0 } else { BEHIND })
    });
    let store = order::begin(&test, all.collect()).await?;
    for (bytes, expected) in [(350, 3), (99, 1), (100, 1), (1_000, 4)] {
        let claimed = claim(&store, bytes).await?;
        ensure!(
            claimed.owed.len() == expected && claimed.complete.len() == usize::from(bytes == 1_000),
            "{claimed:?} of {bytes} bytes"
        );
        let done = claimed.owed.iter();
        let done = done.map(|owed| (owed.endpoint, owed.notification));
        store.record(&each(Happened::Done, done)).await?;
    }
    Ok(())
}

async fn accounts_have_the_same_share_of_the_bytes(test: Test) -> Result<()> {
    let (store, one) = beside_many(&test, 1_000).await?;
    let all = (0..15).map(|number| owed(one, number, 100, 2));
    store.record(&each(Happened::Owed, all)).await?;
    // Half of the bytes for one, the other half for ten small ones; what these leave is for more.
    let claimed = claim(&store, 4_000).await?;
    ensure!(
        of(&claimed, one) == (vec![0; 10], 3) && claimed.is_more,
        "{claimed:?}"
    );
    Ok(())
}
