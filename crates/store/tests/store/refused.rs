//! Dead letters of records that are refused.

use anyhow::{Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::ledger::{DeadLetter, Happened, Ledger, RecordPlace};
use dovecast_notification::NotificationId;
use dovecast_store::StoreOptions;
use uuid::Uuid;

use crate::setup::{Test, cases, each};

cases![a_record_that_is_refused_again_after_a_crash_is_one_dead_letter];

fn letter(notification: u128, (topic, partition, offset): (&str, u32, u64)) -> DeadLetter {
    DeadLetter {
        note: String::new(),
        together: None,
        endpoint: None,
        record: Some(RecordPlace {
            topic: topic.into(),
            partition,
            offset,
        }),
        notification: NotificationId(Uuid::from_u128(notification)),
        content: Bytes::from_static(b"x"),
        reason: "not a notification".to_owned(),
        time_ms: 5,
        attempts: 0,
    }
}

async fn a_record_that_is_refused_again_after_a_crash_is_one_dead_letter(test: Test) -> Result<()> {
    let letters = [
        letter(1, ("t", 3, 9)),
        letter(1, ("t", 3, 10)),
        letter(1, ("t", 4, 9)),
        letter(1, ("u", 3, 9)),
        // The log was made anew.
        letter(2, ("t", 3, 9)),
    ];
    let open = async |log: &str| {
        let options = StoreOptions {
            log: log.to_owned(),
            ..test.options()?
        };
        anyhow::Ok(dovecast_store::Store::open(&options).await?)
    };
    for (log, expected) in [("here", letters.len()), ("there", 2 * letters.len())] {
        // What was not committed is read again, in any order and at another time.
        for (time_ms, order) in [(5, [0, 1, 2, 3, 4]), (9, [4, 3, 2, 1, 0])] {
            let again = order.map(|place: usize| DeadLetter {
                time_ms,
                ..letters[place].clone()
            });
            let happened = each(Happened::Dead, again);
            open(log).await?.record(&happened).await?;
        }
        let store = open(log).await?;
        let kept = store.dead_letters(None, 100).await?.letters;
        ensure!(kept.len() == expected, "{log}: {kept:?}");
        let all_are_kept = letters
            .iter()
            .all(|letter| kept.iter().any(|kept| kept.letter == *letter));
        ensure!(all_are_kept, "{log}: {kept:?}");
    }
    Ok(())
}
