//! Dead letters that are dropped as was asked for: those of one endpoint, and no others.

use anyhow::{Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::ledger::{DeadLetter, Happened, Ledger};
use dovecast_notification::NotificationId;
use dovecast_store::EndpointId;
use uuid::Uuid;

use crate::setup::{Test, cases, each};

const ENDPOINT: EndpointId = EndpointId(Uuid::from_u128(7));
const OTHER: EndpointId = EndpointId(Uuid::from_u128(8));

cases![dead_letters_of_one_endpoint_are_listed_and_dropped_however_many];

fn letter(endpoint: Option<EndpointId>, number: u128) -> DeadLetter {
    DeadLetter {
        note: String::new(),
        together: None,
        record: None,
        endpoint,
        notification: NotificationId(Uuid::from_u128(number)),
        // What is no text is dropped as well.
        content: Bytes::from_static(if number.is_multiple_of(2) {
            b"{}"
        } else {
            b"\xff"
        }),
        reason: "refused".to_owned(),
        time_ms: i64::try_from(number).unwrap_or(0),
        attempts: 1,
    }
}

async fn dead_letters_of_one_endpoint_are_listed_and_dropped_however_many(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let many = (1..=1_234).map(|number| letter(Some(ENDPOINT), number));
    let others = [letter(Some(OTHER), 1_000), letter(None, 1_000)];
    let dead = each(Happened::Dead, many.chain(others));
    store.record(&dead).await?;
    let newest = store.dead_letters_of(ENDPOINT, None, 2).await?.letters;
    let numbers = |kept: &[dovecast_store::KeptDeadLetter]| -> Vec<u128> {
        let numbers = kept.iter();
        numbers
            .map(|kept| kept.letter.notification.0.as_u128())
            .collect()
    };
    ensure!(numbers(&newest) == [1_234, 1_233], "{newest:?}");
    let before = newest.last().map(|kept| kept.id);
    let older = store.dead_letters_of(ENDPOINT, before, 1).await?.letters;
    ensure!(numbers(&older) == [1_232], "{older:?}");

    let notification = |number| NotificationId(Uuid::from_u128(number));
    ensure!(
        store
            .drop_dead_letter(ENDPOINT, notification(1_234))
            .await?
    );
    ensure!(
        !store
            .drop_dead_letter(ENDPOINT, notification(1_234))
            .await?
    );
    ensure!(!store.drop_dead_letter(OTHER, notification(1_233)).await?);
    ensure!(store.drop_dead_letters_since(ENDPOINT, 101).await? == 1_133);
    ensure!(store.drop_dead_letters_since(ENDPOINT, 101).await? == 0);
    let left = store.dead_letters_of(ENDPOINT, None, 10_000).await?.letters;
    ensure!(left.len() == 100 && left[0].letter.time_ms == 100);
    ensure!(store.dead_letters(None, 10_000).await?.letters.len() == 102);
    Ok(())
}
