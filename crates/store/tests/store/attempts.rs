//! Attempts at many endpoints in one record: each endpoint is after it as after a record of its
//! own, and nodes that write about the same endpoints at the same time do not fail.

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{AttemptRow, Happened, Ledger};
use dovecast_notification::{EndpointId, NotificationId};
use dovecast_store::Store;
use uuid::Uuid;

use crate::setup::{Test, cases, create, each};

cases![
    each_endpoint_is_after_a_record_of_many_as_after_one_of_its_own,
    attempts_at_more_endpoints_than_one_statement_takes_are_all_kept,
    nodes_that_record_attempts_at_the_same_endpoints_do_not_fail,
];

fn attempt(endpoint: EndpointId, (time_ms, is_delivered): (i64, bool)) -> AttemptRow {
    AttemptRow {
        endpoint,
        notification: NotificationId(Uuid::from_u128(1)),
        time_ms,
        number: 1,
        is_delivered,
        status: None,
        latency_us: 1,
        said: "a \"word\", \\ and \0".to_owned(),
    }
}

/// Attempts at an endpoint in three records: when they ended, and whether they were delivered.
type History = [&'static [(i64, bool)]; 3];

const HISTORIES: [History; 10] = [
    [&[(20, true)], &[(30, true)], &[]],
    [&[(20, false)], &[(30, false), (40, false)], &[(50, false)]],
    [&[(20, false)], &[(30, false)], &[(40, true)]],
    [
        &[(20, false), (30, false)],
        &[(40, true), (50, false)],
        &[(60, false)],
    ],
    // Late, and older than what is known.
    [&[(40, true)], &[(30, false)], &[(35, true)]],
    [&[(40, false)], &[(30, true)], &[(35, false)]],
    [&[(20, false), (40, false)], &[(30, true)], &[(50, false)]],
    [&[], &[(30, false), (20, true)], &[(40, false)]],
    // Ahead of now by more than clocks differ, and not believed later.
    [&[(900_000, true)], &[(30, false)], &[(40, true)]],
    [&[], &[], &[(10, true), (20, false), (30, true)]],
];

async fn each_endpoint_is_after_a_record_of_many_as_after_one_of_its_own(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let mut endpoints = Vec::new();
    for number in 0..HISTORIES.len() {
        let alone = create(&store, &account, &format!("alone {number}"), None).await?;
        let among = create(&store, &account, &format!("among {number}"), None).await?;
        endpoints.push((alone.endpoint.id, among.endpoint.id));
    }
    for record in 0..HISTORIES[0].len() {
        let mut all = Vec::new();
        for (history, (alone, among)) in HISTORIES.iter().zip(&endpoints) {
            let of = |endpoint| {
                history[record]
                    .iter()
                    .map(move |end| attempt(endpoint, *end))
            };
            store.record(&each(Happened::Attempt, of(*alone))).await?;
            all.extend(of(*among));
        }
        store.record(&each(Happened::Attempt, all)).await?;
        test.clock.pass(7);
        for (number, history) in HISTORIES.iter().enumerate() {
            let same = format!(
                "endpoint AS alone JOIN endpoint AS among ON alone.name = 'alone {number}' AND among.name = 'among {number}' \
                AND alone.failing_ms = among.failing_ms \
                AND COALESCE(alone.last_delivery_status, '') = COALESCE(among.last_delivery_status, '') \
                AND COALESCE(alone.last_delivery_ms, 0) = COALESCE(among.last_delivery_ms, 0) \
                AND COALESCE(alone.first_failure_ms, 0) = COALESCE(among.first_failure_ms, 0)"
            );
            ensure!(
                test.count(&same)? == 1,
                "{history:?}, after record {record}"
            );
        }
    }
    Ok(())
}

/// Endpoints that take several statements.
const MANY: u128 = 1_234;

async fn attempts_at_more_endpoints_than_one_statement_takes_are_all_kept(
    test: Test,
) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    // The last of all.
    let created = create(&store, &account, "one", None).await?;
    let last = created.endpoint.id;
    let of = |number| EndpointId(Uuid::from_u128(number));
    let ids = (1..MANY).map(of).chain([last]);
    let all = each(Happened::Attempt, ids.map(|id| attempt(id, (20, true))));
    // The answer to the first was lost.
    for _ in 0..2 {
        store.record(&all).await?;
    }
    ensure!(test.count("attempts")? == i64::try_from(MANY)?);
    for id in [of(1), of(501), of(MANY - 1), last] {
        let kept = store.attempts(id, 10).await?;
        ensure!(kept.len() == 1, "{kept:?}");
        ensure!(kept[0].said == "a \"word\", \\ and \0", "{kept:?}");
        ensure!((kept[0].time_ms, kept[0].is_delivered) == (20, true));
    }
    let shown = store.endpoint(account.id, last).await?;
    ensure!(shown.is_some_and(|shown| shown.last_delivery_ms == Some(20)));
    Ok(())
}

const SHARED: usize = 60;
const ROUNDS: i64 = 30;

async fn nodes_that_record_attempts_at_the_same_endpoints_do_not_fail(test: Test) -> Result<()> {
    let (one, account, _) = test.filled().await?;
    let two = test.open().await?;
    let mut ids = Vec::new();
    for number in 0..SHARED {
        let created = create(&one, &account, &number.to_string(), None).await?;
        ids.push(created.endpoint.id);
    }
    let record = async |store: &Store, is_delivered| {
        for round in 1..=ROUNDS {
            let all = ids.iter().map(|id| attempt(*id, (round, is_delivered)));
            store.record(&each(Happened::Attempt, all)).await?;
        }
        anyhow::Ok(())
    };
    let (first, second) = tokio::join!(record(&one, true), record(&two, false));
    first?;
    second?;
    let done = test.count(&format!("endpoint WHERE last_delivery_ms = {ROUNDS}"))?;
    ensure!(done == i64::try_from(SHARED)?, "{done}");
    Ok(())
}
