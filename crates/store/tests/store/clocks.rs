//! Clocks that are set, forward and back, while deliveries are owed and endpoints fail: nothing
//! waits for the time that was, and nothing is dropped or disabled for time that has not passed.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::ledger::{AttemptRow, DeadLetter, Happened, Ledger, Owed};
use dovecast_notification::{EndpointId, NotificationId};
use dovecast_store::{DeliveryStatus, KeptPast, Store};
use uuid::Uuid;

use crate::setup::{self, Test, cases, create, each};

cases![
    what_is_owed_for_later_is_due_when_the_clock_was_set_back,
    what_is_owed_for_later_waits_where_clocks_differ_by_little,
    a_dispatcher_that_died_before_the_clock_was_set_back_holds_nothing,
    a_success_after_the_clock_was_set_back_counts,
    an_endpoint_is_disabled_for_time_that_has_passed_and_not_for_a_clock_that_is_set,
    an_endpoint_that_several_nodes_see_fail_fails_no_faster,
    a_clock_that_is_set_ahead_drops_nothing_of_the_past,
    after_a_clock_was_decades_off_the_past_is_dropped_as_ever,
    dead_letters_of_a_clock_that_was_ahead_are_owed_again,
];

const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 60 * 60 * SECOND_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// When these tests begin.
const START_MS: i64 = 1_000 * DAY_MS;
const ENDPOINT: EndpointId = EndpointId(Uuid::from_u128(7));

/// A store whose clock shows [`START_MS`].
async fn open(test: &Test) -> Result<Store> {
    test.clock.pass(START_MS);
    test.open().await
}

fn owed(due_ms: i64) -> Owed {
    setup::owed(ENDPOINT, due_ms)
}

async fn owe(store: &Store, due_ms: i64) -> Result<()> {
    Ok(store.record(&[Happened::Owed(owed(due_ms))]).await?)
}

async fn what_is_owed_for_later_is_due_when_the_clock_was_set_back(test: Test) -> Result<()> {
    let store = open(&test).await?;
    owe(&store, START_MS + 4 * SECOND_MS).await?;
    ensure!(store.claim_owed(START_MS, 10).await?.is_empty());
    let now_ms = START_MS - 2 * HOUR_MS;
    test.clock.set(now_ms - START_MS);
    // Also after a restart.
    let store = test.open().await?;
    let claimed = store.claim_owed(now_ms, 10).await?;
    ensure!(claimed == [owed(now_ms)], "{claimed:?}");
    // What is decided on by the new time is due by it.
    let again = Happened::FailedAgain(owed(now_ms + 9));
    store.record(&[again]).await?;
    ensure!(store.claim_owed(now_ms, 10).await?.is_empty());
    ensure!(store.claim_owed(now_ms + 9, 10).await?.len() == 1);
    Ok(())
}

async fn what_is_owed_for_later_waits_where_clocks_differ_by_little(test: Test) -> Result<()> {
    let store = open(&test).await?;
    owe(&store, START_MS + 4 * SECOND_MS).await?;
    let elsewhere_ms = START_MS - 30 * SECOND_MS;
    ensure!(store.claim_owed(elsewhere_ms, 10).await?.is_empty());
    Ok(())
}

async fn a_dispatcher_that_died_before_the_clock_was_set_back_holds_nothing(
    test: Test,
) -> Result<()> {
    let (dead, store) = (open(&test).await?, test.open().await?);
    owe(&dead, START_MS).await?;
    ensure!(dead.claim_owed(START_MS, 10).await?.len() == 1);
    dead.beat(START_MS, START_MS + 5 * SECOND_MS).await?;
    // By the clock of a database as well.
    test.execute(&format!(
        "UPDATE dispatcher SET alive_until_ms = alive_until_ms + {DAY_MS}"
    ))?;
    let claimed = store.claim_owed(START_MS, 10).await?;
    ensure!(claimed.len() == 1, "{claimed:?}");
    Ok(())
}

fn attempt(endpoint: EndpointId, time_ms: i64, is_delivered: bool) -> AttemptRow {
    AttemptRow {
        endpoint,
        notification: NotificationId(Uuid::from_u128(1)),
        time_ms,
        number: 1,
        is_delivered,
        status: None,
        latency_us: 1,
        said: String::new(),
    }
}

async fn note(store: &Store, attempts: Vec<AttemptRow>) -> Result<()> {
    Ok(store.record(&each(Happened::Attempt, attempts)).await?)
}

async fn a_success_after_the_clock_was_set_back_counts(test: Test) -> Result<()> {
    test.clock.pass(START_MS);
    let (store, account, _) = test.filled().await?;
    let created = create(&store, &account, "one", None).await?;
    let id = created.endpoint.id;
    note(&store, vec![attempt(id, START_MS, false)]).await?;
    let back_ms = START_MS - 5 * DAY_MS;
    test.clock.set(-5 * DAY_MS);
    for (is_delivered, expected) in [
        (true, (DeliveryStatus::Success, None)),
        (false, (DeliveryStatus::Failure, Some(back_ms))),
    ] {
        note(&store, vec![attempt(id, back_ms, is_delivered)]).await?;
        let shown = store.endpoint(account.id, created.endpoint.id).await?;
        let shown = shown.context("it is gone")?;
        ensure!(shown.last_delivery_ms == Some(back_ms), "{shown:?}");
        let found = (shown.last_delivery_status, shown.first_failure_ms);
        ensure!(found == (Some(expected.0), expected.1), "{found:?}");
    }
    Ok(())
}

/// What happens between two failures.
#[derive(Clone, Copy, Debug)]
enum Between {
    Passes(i64),
    IsSet(i64),
    Restart,
    Success,
}

async fn an_endpoint_is_disabled_for_time_that_has_passed_and_not_for_a_clock_that_is_set(
    test: Test,
) -> Result<()> {
    use Between::{IsSet, Passes, Restart, Success};
    const FAILING_MS: i64 = 5 * DAY_MS;
    test.clock.pass(START_MS);
    let (mut store, account, _) = test.filled().await?;
    let mut now_ms = START_MS;
    for (number, (between, is_disabled)) in [
        (vec![Passes(HOUR_MS)], false),
        // A healthy endpoint that fails when the clock is set, and once more.
        (vec![IsSet(6 * DAY_MS)], false),
        (
            vec![Passes(10 * SECOND_MS), IsSet(6 * DAY_MS), Passes(HOUR_MS)],
            false,
        ),
        (vec![IsSet(6 * DAY_MS), Restart, Passes(HOUR_MS)], false),
        (vec![Passes(HOUR_MS); 120], true),
        (vec![Passes(10 * HOUR_MS); 12], true),
        // Most of it was seen, though nobody has seen all of it.
        (
            [
                vec![
                    Passes(DAY_MS),
                    Passes(DAY_MS),
                    Passes(DAY_MS),
                    Restart,
                    Passes(DAY_MS),
                ],
                vec![Passes(DAY_MS)],
            ]
            .concat(),
            true,
        ),
        (
            [
                vec![Passes(HOUR_MS); 119],
                vec![Success],
                vec![Passes(HOUR_MS); 2],
            ]
            .concat(),
            false,
        ),
        // It fails for as long as ever, whichever way the clock goes meanwhile.
        (
            [
                vec![Passes(DAY_MS); 3],
                vec![IsSet(-HOUR_MS)],
                vec![Passes(DAY_MS); 3],
            ]
            .concat(),
            true,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let created = create(&store, &account, &number.to_string(), None).await?;
        let id = created.endpoint.id;
        note(&store, vec![attempt(id, now_ms, false)]).await?;
        for step in &between {
            let mut is_delivered = false;
            match step {
                Passes(ms) => {
                    test.clock.pass(*ms);
                    now_ms += ms;
                }
                IsSet(ms) => {
                    test.clock.set(*ms);
                    now_ms += ms;
                }
                Restart => store = test.open().await?,
                Success => is_delivered = true,
            }
            note(&store, vec![attempt(id, now_ms, is_delivered)]).await?;
        }
        let disabled = store.disable_failing(FAILING_MS).await?;
        let expected: Vec<_> = is_disabled
            .then_some(created.endpoint.id)
            .into_iter()
            .collect();
        ensure!(disabled == expected, "{number} {between:?}: {disabled:?}");
        // Nothing of it is left for the next one.
        note(&store, vec![attempt(id, now_ms, true)]).await?;
    }
    Ok(())
}

async fn an_endpoint_that_several_nodes_see_fail_fails_no_faster(test: Test) -> Result<()> {
    const BEAT_MS: i64 = 30 * SECOND_MS;
    test.clock.pass(START_MS);
    let (one, account, _) = test.filled().await?;
    let two = one.another_node();
    let id = create(&one, &account, "one", None).await?.endpoint.id;
    let mut now_ms = START_MS;
    for _ in 0..HOUR_MS / BEAT_MS / 2 {
        for node in [&one, &two] {
            note(node, vec![attempt(id, now_ms, false)]).await?;
            test.clock.pass(BEAT_MS);
            now_ms += BEAT_MS;
        }
    }
    // Nobody has seen the beginning.
    let least_ms = HOUR_MS - 4 * BEAT_MS;
    let failing = format!("endpoint WHERE failing_ms BETWEEN {least_ms} AND {HOUR_MS}");
    ensure!(test.count(&failing)? == 1);
    Ok(())
}

fn letter(number: u128, time_ms: i64) -> DeadLetter {
    DeadLetter {
        note: String::new(),
        together: None,
        record: None,
        endpoint: Some(ENDPOINT),
        notification: NotificationId(Uuid::from_u128(number)),
        content: Bytes::from_static(b"{}"),
        reason: "refused".to_owned(),
        time_ms,
        attempts: 8,
    }
}

async fn a_clock_that_is_set_ahead_drops_nothing_of_the_past(test: Test) -> Result<()> {
    const ROUND_MS: i64 = HOUR_MS / 6;
    let store = open(&test).await?;
    let kept = KeptPast::default();
    let mut now_ms = START_MS;
    let write = async |number: u128, now_ms: i64| {
        let happened = [
            Happened::Attempt(attempt(ENDPOINT, now_ms, true)),
            Happened::Dead(letter(number, now_ms)),
        ];
        anyhow::Ok(store.record(&happened).await?)
    };
    write(1, now_ms).await?;
    store.forget_past(kept).await?;
    // A year ahead for an hour, and back.
    for by_ms in [365 * DAY_MS, -365 * DAY_MS] {
        test.clock.set(by_ms);
        now_ms += by_ms;
        write(2, now_ms).await?;
        for _ in 0..6 {
            test.clock.pass(ROUND_MS);
            now_ms += ROUND_MS;
            let dropped = store.forget_past(kept).await?;
            ensure!(
                (dropped.attempt_rows, dropped.dead_letters) == (0, 0),
                "{dropped:?}"
            );
        }
    }
    // As time passes it goes, also what was written by the clock that was ahead.
    let mut all = (0, 0);
    for _ in 0..31 {
        test.clock.pass(DAY_MS);
        let dropped = store.forget_past(kept).await?;
        all = (all.0 + dropped.attempt_rows, all.1 + dropped.dead_letters);
    }
    ensure!(all == (3, 3), "{all:?}");
    Ok(())
}

async fn after_a_clock_was_decades_off_the_past_is_dropped_as_ever(test: Test) -> Result<()> {
    const DECADES_MS: i64 = 10_000 * DAY_MS;
    let kept = KeptPast::default();
    test.clock.pass(START_MS + DECADES_MS);
    let store = test.open().await?;
    let mut now_ms = START_MS + DECADES_MS;
    // What a clock that is right finds when it was behind, and when it was ahead; and what one
    // finds that is ahead from now on.
    for steps in [&[-1, 1][..], &[1, -1], &[1]] {
        for step in steps {
            let happened = [
                Happened::Attempt(attempt(ENDPOINT, now_ms, true)),
                Happened::Dead(letter(1, now_ms)),
            ];
            store.record(&happened).await?;
            store.forget_past(kept).await?;
            test.clock.set(step * DECADES_MS);
            now_ms += step * DECADES_MS;
        }
        for _ in 0..45 {
            test.clock.pass(DAY_MS);
            now_ms += DAY_MS;
            let happened = [
                Happened::Attempt(attempt(ENDPOINT, now_ms, true)),
                Happened::Dead(letter(1, now_ms)),
            ];
            store.record(&happened).await?;
            store.forget_past(kept).await?;
        }
        for (column, table, age_ms) in [
            ("last_ms", "attempts", kept.attempts_ms),
            ("time_ms", "dead_letter", kept.dead_letters_ms),
        ] {
            let is_kept = format!("{table} WHERE {column} >= {}", now_ms - age_ms);
            let rows = (test.count(table)?, test.count(&is_kept)?);
            let days = age_ms / DAY_MS + 1;
            ensure!(rows == (days, days), "{steps:?}, {table}: {rows:?}");
        }
    }
    Ok(())
}

async fn dead_letters_of_a_clock_that_was_ahead_are_owed_again(test: Test) -> Result<()> {
    let store = open(&test).await?;
    let ahead_ms = START_MS + 100_000 * DAY_MS;
    let dead = [letter(1, ahead_ms), letter(2, START_MS)];
    store.record(&each(Happened::Dead, dead)).await?;
    ensure!(store.redeliver_since(ENDPOINT, START_MS).await? == 2);
    Ok(())
}
