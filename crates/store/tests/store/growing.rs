//! Ranges that grow after another dispatcher has claimed, finished or begun what they are of: each
//! row stays whose it is, what is behind it is owed once more, and nothing before.

use std::sync::Arc;

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{Happened, Ledger, RangeId};
use dovecast_notification::EndpointId;
use dovecast_store::Store;
use uuid::Uuid;

use crate::cuts::until;
use crate::setup::{Test, cases, soon};

cases![
    a_range_that_grows_takes_nothing_from_who_has_claimed_its_row,
    what_is_behind_a_row_of_another_is_written_again_when_the_database_has_lost_it,
];

const CLAIMED_BY_OTHER: &str = "UPDATE owed_range SET claimed_by = 'other'";
const FINISHED_BY_OTHER: &str = "DELETE FROM owed_range";
const BEGUN_BY_OTHER: &str = "UPDATE owed_range SET claimed_by = 'other', to_offset = 20";
const LEFT_BY_OTHER: &str = "UPDATE owed_range SET claimed_by = NULL, to_offset = 20";

/// Start, first offset that is owed, and the end.
type Row = (u64, u64, u64);

use Step::{Begins, Ends, Grows, Lapses, Other, Progress, Released};

/// What happens to the range that starts at 5.
#[derive(Clone, Copy, Debug)]
enum Step {
    Begins(u64),
    Grows(u64),
    Progress(u64),
    Ends(u64),
    Released,
    /// What another one does to all rows that there are.
    Other(&'static str),
    /// The holder is taken for dead, and knows it.
    Lapses,
}

/// What is done, what is free then, and what is owed in all.
type Check = (&'static [Step], &'static [Row], &'static [Row]);

const CHECKS: [Check; 16] = [
    (&[Begins(9), Grows(12)], &[], &[(5, 5, 12)]),
    (&[Begins(9), Lapses, Grows(12)], &[], &[(5, 5, 12)]),
    // Claimed by another one, who goes on with it, whether we know it or not.
    (
        &[Begins(9), Other(CLAIMED_BY_OTHER), Grows(12)],
        &[(5, 5, 9)],
        &[(5, 5, 9), (9, 9, 12)],
    ),
    (
        &[Begins(9), Lapses, Other(CLAIMED_BY_OTHER), Grows(12)],
        &[(5, 5, 9)],
        &[(5, 5, 9), (9, 9, 12)],
    ),
    (
        &[
            Begins(9),
            Other(CLAIMED_BY_OTHER),
            Grows(12),
            Grows(15),
            Progress(13),
        ],
        &[(5, 5, 9)],
        &[(5, 5, 9), (9, 13, 15)],
    ),
    (
        &[Begins(9), Other(CLAIMED_BY_OTHER), Grows(12), Ends(12)],
        &[(5, 5, 9)],
        &[(5, 5, 9)],
    ),
    (
        &[Begins(9), Other(CLAIMED_BY_OTHER), Grows(12), Released],
        &[(5, 5, 9), (9, 9, 12)],
        &[(5, 5, 9), (9, 9, 12)],
    ),
    // And that row as well.
    (
        &[
            Begins(9),
            Other(CLAIMED_BY_OTHER),
            Grows(12),
            Other(CLAIMED_BY_OTHER),
            Grows(15),
        ],
        &[(5, 5, 9), (9, 9, 12)],
        &[(5, 5, 9), (9, 9, 12), (12, 12, 15)],
    ),
    // Finished by another one: nothing of it comes back that is known to be done.
    (
        &[Begins(9), Lapses, Other(FINISHED_BY_OTHER), Grows(12)],
        &[],
        &[(5, 9, 12)],
    ),
    (
        &[Begins(9), Progress(7), Other(FINISHED_BY_OTHER), Grows(12)],
        &[],
        &[(5, 7, 12)],
    ),
    (
        &[
            Begins(9),
            Lapses,
            Other(FINISHED_BY_OTHER),
            Grows(12),
            Grows(15),
            Ends(15),
        ],
        &[],
        &[],
    ),
    // Begun by another one, at the same place, and longer.
    (
        &[Begins(9), Other(BEGUN_BY_OTHER), Begins(9)],
        &[(5, 5, 20)],
        &[(5, 5, 20)],
    ),
    (
        &[Begins(9), Other(BEGUN_BY_OTHER), Begins(9), Ends(9)],
        &[(5, 5, 20)],
        &[(5, 5, 20)],
    ),
    (
        &[Begins(9), Other(BEGUN_BY_OTHER), Begins(9), Grows(25)],
        &[(5, 5, 20)],
        &[(5, 5, 20), (20, 20, 25)],
    ),
    // Left by another one: what is behind ours is free when ours has ended.
    (
        &[Begins(9), Other(LEFT_BY_OTHER), Grows(12)],
        &[],
        &[(5, 5, 20)],
    ),
    (
        &[Begins(9), Other(LEFT_BY_OTHER), Grows(12), Ends(12)],
        &[(5, 12, 20)],
        &[(5, 12, 20)],
    ),
];

fn id() -> RangeId {
    RangeId {
        endpoint: EndpointId(Uuid::from_u128(7)),
        topic: Arc::from("t"),
        partition: 3,
        start: 5,
    }
}

async fn take(test: &Test, store: &Store, step: Step) -> Result<()> {
    let happened = match step {
        Step::Begins(to) => Happened::Begun(id(), to),
        Step::Grows(to) => Happened::Grown(id(), to),
        Step::Progress(from) => Happened::Progress(id(), from),
        Step::Ends(to) => Happened::Ended(id(), to),
        Step::Released => Happened::Released(id()),
        Step::Other(statement) => return test.execute(statement),
        Step::Lapses => {
            store.beat(0, -1).await?;
            return Ok(store.beat(20, 50_000).await?);
        }
    };
    Ok(store.record(&[happened]).await?)
}

/// What those who begin now find that is claimed by nobody who lives.
async fn free(test: &Test) -> Result<Vec<Row>> {
    let ranges = test.open().await?.claim_ranges(20, 10).await?;
    let row = |range: &dovecast_dispatch::ledger::OwedRange| (range.id.start, range.from, range.to);
    let mut rows: Vec<Row> = ranges.iter().map(row).collect();
    rows.sort_unstable();
    Ok(rows)
}

async fn a_range_that_grows_takes_nothing_from_who_has_claimed_its_row(test: Test) -> Result<()> {
    for (steps, expected_free, expected) in CHECKS {
        let store = test.open().await?;
        store.beat(0, 50_000).await?;
        for step in steps {
            take(&test, &store, *step).await?;
        }
        // Who lives keeps what it has claimed.
        store.beat(20, 50_000).await?;
        let found = free(&test).await?;
        ensure!(found == expected_free, "{steps:?}: {found:?} is free");
        store.leave().await?;
        let found = free(&test).await?;
        ensure!(found == expected, "{steps:?}: {found:?} is owed");
        test.execute("DELETE FROM owed_range")?;
    }
    Ok(())
}

async fn what_is_behind_a_row_of_another_is_written_again_when_the_database_has_lost_it(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    store.beat(0, 50_000).await?;
    for step in [
        Step::Begins(9),
        Step::Other(CLAIMED_BY_OTHER),
        Step::Grows(12),
    ] {
        take(&test, &store, step).await?;
    }
    test.execute("DELETE FROM owed_range; DELETE FROM dispatcher")?;
    store.beat(1, 50_001).await?;
    let is_there = || {
        let rows = test.count("owed_range WHERE start_offset = 9 AND to_offset = 12")?;
        Ok((rows == 1).then_some(()))
    };
    soon(until(is_there)).await??;
    store.leave().await?;
    let found = free(&test).await?;
    ensure!(found == [(9, 9, 12)], "{found:?}");
    Ok(())
}
