//! How many statements a dispatcher sends: what plans of large installations reckon with.

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{AttemptRow, Happened, Ledger};
use dovecast_notification::{EndpointId, NotificationId};
use dovecast_plan::measured;
use uuid::Uuid;

use crate::setup::{self, Kind, Test, cases};

cases![
    an_idle_dispatcher_sends_what_plans_say,
    attempts_cost_what_plans_say_however_many_endpoints_a_transaction_has,
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
