//! What of mailbox transactions was given up is redelivered as those transactions, in order.

use std::sync::Arc;

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{
    BEHIND, Claimed, Claiming, DeadLetter, Happened, KeyPlace, Ledger, Owed, RedeliveredWith,
    TopicPartition,
};
use dovecast_notification::{EndpointId, NotificationId, OrderKey};
use dovecast_store::Store;
use uuid::Uuid;

use crate::setup::{self, Test, cases, each};

cases![
    one_of_a_transaction_is_redelivered_with_the_others_in_order,
    what_is_redelivered_of_a_user_comes_in_order_however_much_that_is,
    what_a_driver_has_noted_stays_with_the_delivery,
    what_waits_for_others_is_delivered_with_them_when_it_is_redelivered,
];

const ENDPOINT: EndpointId = EndpointId(Uuid::from_u128(7));

fn partition() -> TopicPartition {
    TopicPartition {
        topic: Arc::from("events"),
        partition: 0,
    }
}

fn notification(number: u64) -> NotificationId {
    NotificationId(Uuid::from_u128(number.into()))
}

/// What was given up; its place in the log is its number.
fn dead(number: u64, transaction: Option<u128>) -> DeadLetter {
    let place = || KeyPlace {
        log: None,
        of: partition(),
        key: OrderKey::of_redelivery("events", 0, b"ann"),
        offset: number,
    };
    DeadLetter {
        note: String::new(),
        together: transaction.map(|transaction| RedeliveredWith {
            transaction: Uuid::from_u128(transaction),
            place: place(),
        }),
        record: None,
        endpoint: Some(ENDPOINT),
        notification: notification(number),
        content: format!("{{\"number\":{number}}}").into(),
        reason: "refused".to_owned(),
        time_ms: 5,
        attempts: 4,
    }
}

/// What is claimed now, by its numbers, and how many keys are complete with it.
async fn claim(store: &Store) -> Result<(Vec<u64>, usize)> {
    claim_at(store, i64::MAX - 1).await
}

/// See [`claim`].
async fn claim_at(store: &Store, now_ms: i64) -> Result<(Vec<u64>, usize)> {
    store.beat(0, i64::MAX).await?;
    let claiming = Claiming {
        now_ms,
        most: 10_000,
        partitions: vec![partition()],
        ..Claiming::default()
    };
    let Claimed { owed, complete, .. } = store.claim(claiming).await?;
    let mut numbers = Vec::new();
    for owed in &owed {
        let number = owed.notification.0.as_u128().try_into()?;
        ensure!(owed.content == dead(number, None).content && owed.failures == 0);
        ensure!(
            owed.place
                .as_ref()
                .is_none_or(|place| place.offset == number)
        );
        numbers.push(number);
    }
    Ok((numbers, complete.len()))
}

async fn one_of_a_transaction_is_redelivered_with_the_others_in_order(test: Test) -> Result<()> {
    let store = test.open().await?;
    // One of them was given up twice: it was delivered again after a crash.
    let letters = [3, 1, 2, 2].map(|number| dead(number, Some(1)));
    let others = [dead(4, None), dead(9, Some(2))];
    let letters: Vec<_> = letters.into_iter().chain(others).collect();
    store.record(&each(Happened::Dead, letters)).await?;
    ensure!(store.redeliver(ENDPOINT, notification(2)).await? >= 3);
    ensure!(claim(&store).await? == (vec![1, 2, 3], 1));
    let left = store.dead_letters(None, 10).await?.letters;
    ensure!(left.len() == 2, "{left:?}");
    // It is owed by now, and no more than that.
    ensure!(store.redeliver(ENDPOINT, notification(2)).await? == 1);
    ensure!(store.redeliver(ENDPOINT, notification(4)).await? == 1);
    ensure!(claim(&store).await? == (vec![4], 0));
    Ok(())
}

async fn what_is_redelivered_of_a_user_comes_in_order_however_much_that_is(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    // More than are redelivered in one part, three of each transaction.
    let all = (1..=1_200).map(|number| dead(number, Some(u128::from(number).div_ceil(3))));
    let letters: Vec<_> = all.rev().chain([dead(2_000, None)]).collect();
    store.record(&each(Happened::Dead, letters)).await?;
    ensure!(store.redeliver_since(ENDPOINT, 0).await? == 1_201);
    ensure!(store.dead_letters(None, 10).await?.letters == []);
    let (mut numbers, _) = claim(&store).await?;
    numbers.retain(|number| *number < 2_000);
    let expected: Vec<u64> = (1..).take(numbers.len()).collect();
    ensure!(!numbers.is_empty() && numbers == expected, "{numbers:?}");
    Ok(())
}

async fn what_a_driver_has_noted_stays_with_the_delivery(test: Test) -> Result<()> {
    let store = test.open().await?;
    store.beat(0, i64::MAX).await?;
    let noted = |note: &str| Owed {
        note: note.to_owned(),
        ..setup::owed(ENDPOINT, 0)
    };
    let note = async || -> Result<Vec<String>> {
        let claimed = store.claim_owed(i64::MAX - 1, 10).await?;
        Ok(claimed.into_iter().map(|owed| owed.note).collect())
    };
    store.record(&[Happened::Owed(noted("one"))]).await?;
    ensure!(note().await? == ["one"]);
    store
        .record(&[Happened::FailedAgain(noted("two\0"))])
        .await?;
    ensure!(note().await? == ["two\u{fffd}"]);
    let owed = noted("");
    let letters = [None, Some(1)].map(|transaction| DeadLetter {
        notification: owed.notification,
        endpoint: Some(owed.endpoint),
        content: owed.content.clone(),
        note: "three".to_owned(),
        ..dead(1, transaction)
    });
    for letter in letters {
        let done = Happened::Done((owed.endpoint, owed.notification));
        store.record(&[done, Happened::Dead(letter)]).await?;
        ensure!(store.redeliver(owed.endpoint, owed.notification).await? == 1);
        ensure!(note().await? == ["three"]);
    }
    Ok(())
}

async fn what_waits_for_others_is_delivered_with_them_when_it_is_redelivered(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let far = i64::MAX - 1;
    let owed = [(1, far), (2, BEHIND), (3, BEHIND)].map(|(number, due_ms)| {
        let letter = dead(number, Some(1));
        Owed {
            notification: letter.notification,
            content: letter.content,
            place: letter.together.map(|together| together.place),
            ..setup::owed(ENDPOINT, due_ms)
        }
    });
    store.record(&each(Happened::Owed, owed)).await?;
    ensure!(claim_at(&store, far - 1).await? == (vec![], 0));
    ensure!(store.redeliver(ENDPOINT, notification(3)).await? == 1);
    let claiming = Claiming {
        now_ms: far - 1,
        most: 10,
        partitions: vec![partition()],
        ..Claiming::default()
    };
    let claimed = store.claim(claiming).await?.owed;
    let offsets = claimed.iter().filter_map(|owed| owed.place.as_ref());
    let offsets: Vec<u64> = offsets.map(|place| place.offset).collect();
    ensure!(offsets == [1, 2, 3], "{offsets:?}");
    Ok(())
}
