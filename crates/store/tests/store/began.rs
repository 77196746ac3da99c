//! Which attempt is an endpoint's last: the one that began last, whenever it ended.

use anyhow::{Context, Result, ensure};
use dovecast_dispatch::ledger::{AttemptRow, Happened, Ledger};
use dovecast_notification::{EndpointId, NotificationId};
use dovecast_store::DeliveryStatus;
use uuid::Uuid;

use crate::setup::{Test, cases, create};

cases![the_last_attempt_is_the_one_that_began_last];

/// Attempts end within the minute that a time may lie ahead of the clock of the tests.
const START_MS: i64 = 1_000;

fn attempt(
    endpoint: EndpointId,
    (began_ms, took_ms): (i64, u32),
    is_delivered: bool,
) -> AttemptRow {
    AttemptRow {
        endpoint,
        notification: NotificationId(Uuid::from_u128(1)),
        time_ms: START_MS + began_ms + i64::from(took_ms),
        number: 1,
        is_delivered,
        status: is_delivered.then_some(204),
        latency_us: u64::from(took_ms) * 1_000,
        said: String::new(),
    }
}

async fn the_last_attempt_is_the_one_that_began_last(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    // What ends late has begun before what has succeeded, in one record and in two.
    for at_a_time in [2, 1] {
        let name = format!("{at_a_time} at a time");
        let id = create(&store, &account, &name, None).await?.endpoint.id;
        let rows = [
            attempt(id, (10_000, 100), true),
            attempt(id, (0, 45_000), false),
        ];
        for attempts in rows.chunks(at_a_time) {
            let happened: Vec<_> = attempts.iter().cloned().map(Happened::Attempt).collect();
            store.record(&happened).await?;
        }
        let shown = store.endpoint(account.id, id).await?;
        let shown = shown.context("it is gone")?;
        let last = (shown.last_delivery_status, shown.last_delivery_ms);
        let expected = (Some(DeliveryStatus::Success), Some(START_MS + 10_000));
        ensure!(
            last == expected && shown.first_failure_ms.is_none(),
            "{shown:?}"
        );
    }
    Ok(())
}
