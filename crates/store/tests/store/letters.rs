//! Dead letters, many at once.

use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::ledger::{
    DeadLetter, Happened, KeyPlace, Ledger, RecordPlace, RedeliveredWith, TopicPartition,
};
use dovecast_notification::{EndpointId, OrderKey};
use dovecast_store::Store;
use uuid::Uuid;

use crate::bodies::{endpoints, letter, numbers};
use crate::setup::{Test, cases, each};

cases![
    many_letters_and_their_bodies_are_written_by_few_statements,
    letters_of_all_kinds_are_kept_as_they_are_however_many_are_written,
];

/// Statements that a transaction takes at most: its own, and a few for each kind of row. On
/// PostgreSQL changes are asked for meanwhile.
const FEW: u64 = 30;

/// Records letters; how many statements that takes.
async fn record(store: &Store, letters: &[DeadLetter]) -> Result<u64> {
    let happened = each(Happened::Dead, letters.iter().cloned());
    let before = store.statements();
    store.record(&happened).await?;
    Ok(store.statements() - before)
}

/// A letter of a mailbox transaction.
fn of_transaction(endpoint: EndpointId, number: u32) -> DeadLetter {
    let place = KeyPlace {
        log: None,
        of: TopicPartition {
            topic: Arc::from("events"),
            partition: 3,
        },
        key: OrderKey::of_redelivery("events", 3, b"ann"),
        offset: number.into(),
    };
    DeadLetter {
        together: Some(RedeliveredWith {
            transaction: Uuid::from_u128(7),
            place,
        }),
        note: "noted".to_owned(),
        ..letter(endpoint, number.into())
    }
}

async fn many_letters_and_their_bodies_are_written_by_few_statements(test: Test) -> Result<()> {
    let store = test.open().await?;
    let two = endpoints(&store, "1", 2).await?;
    let letters: Vec<_> = (1..=250)
        .flat_map(|number| {
            [
                of_transaction(two[0], number),
                letter(two[1], number.into()),
            ]
        })
        .collect();
    // The second time as after an answer that was lost.
    for _ in 0..2 {
        let sent = record(&store, &letters).await?;
        ensure!(sent < FEW, "{sent} statements");
        for endpoint in &two {
            let numbers = numbers(&store, *endpoint).await?;
            ensure!(numbers == (1..=250).collect::<Vec<_>>(), "{numbers:?}");
        }
        let account = "account_id = (SELECT id FROM account WHERE number = '1')";
        let placed = format!(
            "order_log IS NOT NULL AND order_topic = 'events' AND order_part = 3 \
             AND order_offset = time_ms AND order_key = '{}' AND txn = '{}' AND note = 'noted'",
            OrderKey::of_redelivery("events", 3, b"ann"),
            Uuid::from_u128(7),
        );
        let placeless = "order_log IS NULL AND order_topic IS NULL AND order_part IS NULL \
             AND order_offset IS NULL AND order_key IS NULL AND txn IS NULL AND note = ''";
        for (rows, expected) in [
            ("dead_body".to_owned(), 250),
            (format!("dead_body WHERE {account}"), 250),
            ("dead_letter".to_owned(), 500),
            (format!("dead_letter WHERE {account}"), 500),
            (format!("dead_letter WHERE {placed}"), 250),
            (format!("dead_letter WHERE {placeless}"), 250),
        ] {
            ensure!(test.count(&rows)? == expected, "{rows}");
        }
    }
    Ok(())
}

/// A letter of each kind in turn: of an endpoint or of a record, text or none.
fn of_kind(endpoint: EndpointId, number: u32) -> DeadLetter {
    let text = format!("{{\"number\":{number}}}");
    let content = if number.is_multiple_of(2) {
        text.into_bytes()
    } else {
        [text.as_bytes(), b"\0\xff"].concat()
    };
    let is_record = number % 4 > 1;
    DeadLetter {
        endpoint: (!is_record).then_some(endpoint),
        record: is_record.then(|| RecordPlace {
            topic: "t".into(),
            partition: 3,
            offset: number.into(),
        }),
        content: Bytes::from(content),
        attempts: number,
        ..letter(endpoint, number.into())
    }
}

async fn letters_of_all_kinds_are_kept_as_they_are_however_many_are_written(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let endpoint = endpoints(&store, "1", 1).await?[0];
    let letters: Vec<_> = (1..=500).map(|number| of_kind(endpoint, number)).collect();
    // A record that is refused twice is one letter, the first.
    let again = DeadLetter {
        time_ms: 1_000,
        ..of_kind(endpoint, 2)
    };
    let sent = record(&store, &[&letters[..], &[again]].concat()).await?;
    ensure!(sent < FEW, "{sent} statements");
    let kept = store.dead_letters(None, 10_000).await?.letters;
    let mut kept: Vec<_> = kept.into_iter().map(|kept| kept.letter).collect();
    kept.reverse();
    ensure!(kept == letters, "{kept:?}");
    ensure!(test.count("dead_body")? == 125);
    ensure!(test.count("dead_letter WHERE account_id = ''")? == 250);
    Ok(())
}
