//! How many statements a dispatcher sends: what plans of large installations reckon with.

use std::sync::Arc;

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{AttemptRow, Happened, Ledger, OwedRange, RangeId};
use dovecast_notification::{EndpointId, NotificationId};
use dovecast_plan::measured;
use uuid::Uuid;

use crate::setup::{self, Kind, Test, cases};

cases![
    an_idle_dispatcher_sends_what_plans_say,
    attempts_cost_what_plans_say_however_many_endpoints_a_transaction_has,
    what_happens_to_many_deliveries_and_ranges_takes_few_statements,
    each_node_of_a_process_has_claims_of_its_own,
];

/// Statements of a second that others than the dispatcher send: one asks for changes, one for what
/// is to be announced.
const OTHERS: u64 = 2;

async fn an_idle_dispatcher_sends_what_plans_say(test: Test) -> Result<()> {
    let store = test.open().await?;
    // What is asked for once.
    store.beat(0, 5_000).await?;
    let before = store.statements();
    // Two seconds.
    for _ in 0..2 {
        store.beat(0, 5_000).await?;
        for _ in 0..2 {
            store.claim_owed(0, 500).await?;
        }
    }
    store.owing_ranges(0, vec!["t".into()]).await?;
    let asked = store.statements() - before;
    let planned = 2 * (measured::IDLE_STATEMENTS.value - OTHERS);
    ensure!(
        asked <= planned,
        "{asked} in two seconds, planned {planned}"
    );
    if matches!(test.kind, Kind::Postgres(_)) {
        // Others may ask meanwhile.
        ensure!(
            asked >= planned - 2,
            "{asked} in two seconds, planned {planned}"
        );
    }
    Ok(())
}

async fn attempts_cost_what_plans_say_however_many_endpoints_a_transaction_has(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    for (endpoints, each) in [(1, 1), (1, 40), (30, 1), (30, 40), (500, 1), (501, 2)] {
        let row = |number: u128| AttemptRow {
            endpoint: EndpointId(Uuid::from_u128(number % endpoints + 1)),
            notification: NotificationId(Uuid::from_u128(number)),
            time_ms: 0,
            number: 1,
            is_delivered: true,
            status: Some(204),
            latency_us: 0,
            said: String::new(),
        };
        let attempts = setup::each(Happened::Attempt, (0..endpoints * each).map(row));
        let before = store.statements();
        store.record(&attempts).await?;
        let asked = store.statements() - before;
        // The transaction's beginning and end; on PostgreSQL changes are asked for meanwhile.
        let parts = u64::try_from(endpoints)?.div_ceil(measured::STATEMENT_ROWS.value);
        let planned = 2 + measured::ATTEMPT_STATEMENTS.value * parts;
        ensure!(
            (planned..planned + 3).contains(&asked),
            "{asked}, planned {planned}"
        );
    }
    Ok(())
}

async fn what_happens_to_many_deliveries_and_ranges_takes_few_statements(test: Test) -> Result<()> {
    const MANY: u128 = 1_000;
    /// For a hundred rows each.
    const MOST: u64 = 15;
    let store = test.open().await?;
    let endpoint = |number| EndpointId(Uuid::from_u128(number));
    let owed = || (1..=MANY).map(|number| setup::owed(endpoint(number), 0));
    let range = |number| RangeId {
        endpoint: endpoint(number),
        topic: Arc::from("t"),
        partition: 0,
        start: 0,
    };
    let ranges = || (1..=MANY).map(range);
    let ids = || owed().map(|owed| (owed.endpoint, owed.notification));
    for happened in [
        setup::each(Happened::Owed, owed()),
        setup::each(Happened::FailedAgain, owed()),
        setup::each(Happened::GivenBack, owed()),
        setup::each(Happened::Done, ids()),
        ranges().map(|id| Happened::Begun(id, 5)).collect(),
        ranges().map(|id| Happened::Grown(id, 10)).collect(),
        ranges().map(|id| Happened::Progress(id, 7)).collect(),
        setup::each(Happened::Released, ranges()),
    ] {
        let before = store.statements();
        store.record(&happened).await?;
        let sent = store.statements() - before;
        ensure!(sent <= MOST, "{sent} for {} of {:?}", MANY, happened[0]);
    }
    ensure!(store.claim_owed(0, 10).await?.is_empty(), "all are done");
    let all = ranges().map(|id| id.endpoint).collect();
    let mut claimed = store
        .claim_ranges_of(0, usize::MAX, all, vec!["t".into()])
        .await?;
    claimed.sort_by(|one, other| one.id.cmp(&other.id));
    let known = ranges().map(|id| OwedRange {
        id,
        from: 7,
        to: 10,
    });
    ensure!(claimed.into_iter().eq(known), "not as they were left");
    let before = store.statements();
    let ended: Vec<_> = ranges().map(|id| Happened::Ended(id, 10)).collect();
    store.record(&ended).await?;
    let sent = store.statements() - before;
    ensure!(sent <= MOST, "{sent} for the end of {MANY}");
    ensure!(
        store.owing_ranges(0, vec!["t".into()]).await?.is_empty(),
        "nothing is owed any more"
    );
    Ok(())
}

async fn each_node_of_a_process_has_claims_of_its_own(test: Test) -> Result<()> {
    let one = test.open().await?;
    let two = one.another_node();
    for node in [&one, &two] {
        node.beat(0, 5_000).await?;
    }
    let owed = setup::owed(EndpointId(Uuid::from_u128(1)), 0);
    one.record(&[Happened::Owed(owed)]).await?;
    ensure!(one.claim_owed(0, 10).await?.len() == 1, "it is due");
    // The first lives still, though the second has said so later.
    two.beat(0, 5_000).await?;
    ensure!(two.claim_owed(0, 10).await?.is_empty(), "it is claimed");
    one.leave().await?;
    ensure!(two.claim_owed(0, 10).await?.len() == 1, "it is free");
    Ok(())
}
