//! How many rows a claim reads: no more where a hundred times as much is owed. SQLite's steps are
//! counted beside the statements; here the real claims run, and PostgreSQL counts for itself.

use anyhow::{Context, Result, ensure};
use dovecast_dispatch::ledger::{BEHIND, Happened, Ledger};
use dovecast_notification::{EndpointId, NotificationId};
use dovecast_store::Store;
use uuid::Uuid;

use crate::cuts::until;
use crate::setup::{Kind, Test, cases};

cases![
    a_claim_finds_what_is_due_behind_many_that_must_wait_and_reads_no_more_for_them,
    a_plan_that_was_made_while_nothing_was_owed_is_not_kept,
    what_is_shown_of_one_endpoint_reads_nothing_of_the_others,
];

const MUST_WAIT: EndpointId = EndpointId(Uuid::from_u128(1));
const IS_UP: EndpointId = EndpointId(Uuid::from_u128(3));
const CLAIMS: u64 = 3;
/// Deliveries that each of them gets.
const EACH: u64 = 3;
/// How long the other dispatcher is taken for alive.
const ALIVE_MS: i64 = 50_000;
/// Rows that say nothing: what PostgreSQL finds of its own accord by one more level of an index,
/// and dead ones that are not swept yet.
const SLACK: u64 = 200;

/// Owed since long ago: as many as `number` says of an endpoint that must wait, of one whose
/// deliveries another dispatcher has claimed, and of one key; and since now some of one that is up,
/// which has many that are not due yet.
fn owe(test: &Test, number: u64) -> Result<()> {
    let id = "'00000000-0000-0000-0000-' || SUBSTR(CAST(1000000000000 + value AS VARCHAR(13)), 2)";
    let numbers = format!(
        "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {number})"
    );
    let fill = |endpoint: u128, due_ms: &str, claimed_by: &str| {
        let endpoint = Uuid::from_u128(endpoint);
        format!(
            "{numbers} INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, made_ms, claimed_by, reason) \
             SELECT '{endpoint}', {id}, '{{}}', 1, {due_ms}, -9000000, {claimed_by}, '' FROM n;"
        )
    };
    let due = CLAIMS * EACH;
    let of_key = format!(
        "{numbers} INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, made_ms, reason, log, topic, part, record_offset, order_key) \
         SELECT '{}', {id}, '{{}}', 1, {BEHIND}, -9000000, '', '', 't', 0, value, 'key' FROM n;",
        Uuid::from_u128(4)
    );
    for statement in [
        fill(1, "value - 9000000", "NULL"),
        fill(2, "value - 9000000", "'lives'"),
        fill(
            3,
            &format!("CASE WHEN value <= {due} THEN value - {due} ELSE value * 1000 END"),
            "NULL",
        ),
        of_key,
    ] {
        test.execute(&statement)?;
    }
    Ok(())
}

/// Rows and entries of indexes of a table that were read, by all connections that have ended.
async fn rows_read(test: &Test, table: &str) -> Result<u64> {
    let Kind::Postgres(postgres) = &test.kind else {
        return Ok(0);
    };
    let others = "SELECT COUNT(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    // A connection's counts are there for others when it has ended.
    until(|| Ok((postgres.query(&test.url, others)?.trim() == "0").then_some(()))).await?;
    let read = format!(
        "SELECT (SELECT seq_tup_read + COALESCE(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = '{table}') \
         + (SELECT SUM(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = '{table}')"
    );
    let read = postgres.query(&test.url, &read)?;
    read.trim()
        .parse()
        .with_context(|| format!("no number: {read}"))
}

async fn claim(store: &Store) -> Result<()> {
    for _ in 0..CLAIMS {
        let claimed = store
            .claim_owed_except(0, usize::try_from(EACH)?, vec![MUST_WAIT])
            .await?;
        ensure!(
            claimed.len() == usize::try_from(EACH)?
                && claimed.iter().all(|owed| owed.endpoint == IS_UP),
            "{claimed:?}"
        );
    }
    let claimed = store
        .claim_owed_except(0, usize::try_from(EACH)?, vec![MUST_WAIT])
        .await?;
    ensure!(claimed.is_empty(), "{claimed:?}");
    Ok(())
}

/// Rows that are read by some claims where so much is owed.
async fn read_where(test: &Test, number: u64) -> Result<u64> {
    test.open().await?.close().await;
    owe(test, number)?;
    test.execute("ANALYZE owed")?;
    test.open().await?.close().await;
    let before = rows_read(test, "owed").await?;
    test.open().await?.close().await;
    let opened = rows_read(test, "owed").await?;
    let other = test.open().await?;
    other.beat(0, ALIVE_MS).await?;
    other.close().await;
    test.execute("UPDATE dispatcher SET id = 'lives'")?;
    let store = test.open().await?;
    claim(&store).await?;
    store.close().await;
    let read = rows_read(test, "owed").await? - opened;
    Ok(read.saturating_sub(2 * (opened - before)))
}

async fn a_claim_finds_what_is_due_behind_many_that_must_wait_and_reads_no_more_for_them(
    test: Test,
) -> Result<()> {
    let many = read_where(&test, 100_000).await?;
    if matches!(test.kind, Kind::Postgres(_)) {
        let few = read_where(&Test::new(test.kind.clone())?, 1_000).await?;
        ensure!(few > 0, "nothing was counted");
        ensure!(
            many <= few + SLACK,
            "{many} rows were read where much is owed, {few} where little is"
        );
    }
    Ok(())
}

async fn a_plan_that_was_made_while_nothing_was_owed_is_not_kept(test: Test) -> Result<()> {
    const OWED: u64 = 20_000;
    let mut options = test.options()?;
    // Plans belong to a connection.
    options.max_connections = 1;
    let store = Store::open(&options).await?;
    test.execute("VACUUM")?;
    for _ in 0..10 {
        let claimed = store.claim_owed_except(0, 3, vec![MUST_WAIT]).await?;
        ensure!(claimed.is_empty(), "{claimed:?}");
        let done = Happened::Done((MUST_WAIT, notification_id(1)));
        store.record(&[done]).await?;
    }
    owe(&test, OWED)?;
    test.execute("DELETE FROM owed WHERE claimed_by = 'lives'")?;
    claim(&store).await?;
    let done = (1..=20).map(|number| Happened::Done((MUST_WAIT, notification_id(number))));
    store.record(&done.collect::<Vec<_>>()).await?;
    store.close().await;
    let read = rows_read(&test, "owed").await?;
    // What was made to be read is read once, to be deleted.
    ensure!(read < OWED * 8, "{read} rows were read");
    Ok(())
}

/// The notification of this number, as [`owe`] writes its id.
fn notification_id(number: u64) -> NotificationId {
    let id = format!("00000000-0000-0000-0000-{number:012}");
    NotificationId(id.parse().unwrap_or_default())
}

async fn what_is_shown_of_one_endpoint_reads_nothing_of_the_others(test: Test) -> Result<()> {
    const OTHERS: u64 = 20_000;
    let store = test.open().await?;
    let numbers = format!(
        "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {OTHERS})"
    );
    let id = |from: u64| {
        format!(
            "'00000000-0000-0000-0000-' || SUBSTR(CAST(1000000000000 + {from} + value AS VARCHAR(13)), 2)"
        )
    };
    // One has some letters, which are older than the many of another one.
    for (endpoint, from, most) in [(IS_UP, 0, 20), (MUST_WAIT, 100_000, OTHERS)] {
        let id = id(from);
        test.execute(&format!(
            "{numbers} INSERT INTO dead_letter (id, endpoint_id, notification_id, reason, time_ms, attempts, content, is_base64, account_id) \
             SELECT {id}, '{endpoint}', {id}, '', value, 1, '{{}}', 0, '' FROM n WHERE value <= {most}"
        ))?;
        test.execute(&format!(
            "{numbers} INSERT INTO attempts (id, endpoint_id, first_ms, last_ms, content) \
             SELECT {id}, '{endpoint}', value, value, '{{\"said\":[],\"rows\":[]}}' FROM n WHERE value <= {most}"
        ))?;
    }
    test.execute("ANALYZE")?;
    store.close().await;
    let before = (
        rows_read(&test, "dead_letter").await?,
        rows_read(&test, "attempts").await?,
    );
    let store = test.open().await?;
    let letters = store.dead_letters_of(IS_UP, None, 10).await?.letters;
    ensure!(letters.len() == 10, "{}", letters.len());
    store.attempts(IS_UP, 10).await?;
    ensure!(store.redeliver(IS_UP, notification_id(7)).await? == 1);
    ensure!(store.redeliver_since(IS_UP, 0).await? == 19);
    store.close().await;
    let read = (
        rows_read(&test, "dead_letter").await? - before.0,
        rows_read(&test, "attempts").await? - before.1,
    );
    ensure!(
        read.0 < OTHERS / 10 && read.1 < OTHERS / 10,
        "{read:?} rows were read"
    );
    Ok(())
}
