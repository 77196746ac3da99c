//! A database that fails for a while, in statements and in commits: no connection is spoiled,
//! nothing is done by half, and afterwards everything goes on.
//!
//! What a full disk does is done here by triggers: SQLite rolls back by itself, PostgreSQL refuses
//! the statement or the commit. The real full disk is a test of the server.

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{Happened, Ledger, RangeId};
use dovecast_notification::EndpointId;
use dovecast_store::{Scope, Store};
use uuid::Uuid;

use crate::cuts::until;
use crate::setup::{self, Kind, SLEEPING, Test, cases, soon};

cases![
    a_statement_that_fails_spoils_no_connection,
    a_commit_that_fails_spoils_no_connection,
    a_call_that_is_given_up_spoils_no_connection,
    a_write_that_hangs_keeps_no_dispatcher_from_saying_that_it_lives,
    a_database_that_takes_no_writes_is_told_from_one_that_is_wrong,
    what_has_happened_and_cannot_be_written_is_a_store_that_takes_no_writes,
    what_was_claimed_before_a_claim_fails_is_given_to_who_asked,
];

/// More than there are connections.
const CALLS: usize = 12;

/// Tokens cannot be made. `when`: in the statement, or else in the commit.
fn fail(test: &Test, in_commit: bool) -> Result<()> {
    match (&test.kind, in_commit) {
        // As SQLite itself does when the disk is full: the transaction is over when the statement
        // returns.
        (Kind::Sqlite, false) => test.execute(
            "CREATE TRIGGER failing BEFORE INSERT ON api_token BEGIN SELECT RAISE(ROLLBACK, 'full'); END",
        ),
        // A reference that is looked at in the commit, to what is not there.
        (Kind::Sqlite, true) => test.execute(
            "CREATE TABLE looked_at_late (id TEXT REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED); \
             CREATE TRIGGER failing BEFORE INSERT ON api_token BEGIN INSERT INTO looked_at_late VALUES ('x'); END",
        ),
        (Kind::Postgres(_), _) => {
            test.execute(
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$",
            )?;
            test.execute(if in_commit {
                "CREATE CONSTRAINT TRIGGER failing AFTER INSERT ON api_token DEFERRABLE INITIALLY DEFERRED \
                 FOR EACH ROW EXECUTE FUNCTION fail()"
            } else {
                "CREATE TRIGGER failing BEFORE INSERT ON api_token FOR EACH ROW EXECUTE FUNCTION fail()"
            })
        }
    }
}

fn mend(test: &Test) -> Result<()> {
    match test.kind {
        Kind::Sqlite => test.execute("DROP TRIGGER failing"),
        Kind::Postgres(_) => test.execute("DROP TRIGGER failing ON api_token"),
    }
}

async fn goes_on(store: &Store) -> Result<()> {
    for _ in 0..CALLS {
        soon(store.create_token("t", Scope::Admin)).await??;
        soon(store.check_writable()).await??;
    }
    Ok(())
}

async fn a_statement_that_fails_spoils_no_connection(test: Test) -> Result<()> {
    let store = test.open().await?;
    fail(&test, false)?;
    for _ in 0..CALLS {
        ensure!(soon(store.create_token("t", Scope::Admin)).await?.is_err());
        // Others are not concerned.
        soon(store.check_writable()).await??;
    }
    mend(&test)?;
    goes_on(&store).await?;
    ensure!(store.tokens().await?.len() == CALLS);
    Ok(())
}

async fn a_commit_that_fails_spoils_no_connection(test: Test) -> Result<()> {
    let store = test.open().await?;
    fail(&test, true)?;
    for _ in 0..CALLS {
        ensure!(soon(store.create_token("t", Scope::Admin)).await?.is_err());
        soon(store.check_writable()).await??;
    }
    mend(&test)?;
    goes_on(&store).await?;
    ensure!(store.tokens().await?.len() == CALLS);
    Ok(())
}

/// Dropped after each number of steps in turn, so somewhere in the middle of each statement.
async fn a_call_that_is_given_up_spoils_no_connection(test: Test) -> Result<()> {
    let store = test.open().await?;
    for steps in 0..40 {
        let mut call = Box::pin(store.create_token("t", Scope::Admin));
        for _ in 0..steps {
            if futures_util::future::poll_immediate(&mut call)
                .await
                .is_some()
            {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        soon(store.check_writable()).await??;
    }
    let made = store.tokens().await?.len();
    goes_on(&store).await?;
    ensure!(store.tokens().await?.len() == made + CALLS);
    Ok(())
}

async fn a_write_that_hangs_keeps_no_dispatcher_from_saying_that_it_lives(
    test: Test,
) -> Result<()> {
    let (Kind::Postgres(_), store) = (&test.kind, test.open().await?) else {
        // A file has one writer at a time.
        return Ok(());
    };
    store.beat(0, 5_000).await?;
    test.execute(
        "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN NEW; END $$; \
         CREATE CONSTRAINT TRIGGER hanging AFTER INSERT OR UPDATE ON probe FOR EACH ROW EXECUTE FUNCTION hang()",
    )?;
    let hanging = tokio::spawn({
        let store = store.clone();
        async move { store.check_writable().await }
    });
    let hangs = || Ok((test.count(SLEEPING)? > 0).then_some(()));
    soon(until(hangs)).await??;
    store.beat(1, 5_001).await?;
    // It ends by the limit of a statement.
    ensure!(soon(hanging).await??.is_err());
    Ok(())
}

async fn a_database_that_takes_no_writes_is_told_from_one_that_is_wrong(test: Test) -> Result<()> {
    let Kind::Postgres(postgres) = &test.kind else {
        // Of a file that is full or fails the server's own tests tell.
        return Ok(());
    };
    let store = test.open().await?;
    goes_on(&store).await?;
    // As after a failover, when the connections are to what was the primary.
    let database = postgres.query(&test.url, "SELECT current_database()")?;
    let database = database.trim();
    let read_only =
        |on| format!("ALTER DATABASE \"{database}\" SET default_transaction_read_only = {on}");
    test.execute(&read_only("on"))?;
    // Who is connected is so still; connections that are made from now on are read only.
    test.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )?;
    soon(async { while store.ping().await.is_err() {} }).await?;
    for _ in 0..CALLS {
        let error = soon(store.create_token("t", Scope::Admin)).await?;
        let error = error.err().map(|error| error.is_unavailable());
        ensure!(error == Some(true), "{error:?}");
        ensure!(soon(store.check_writable()).await?.is_err());
    }
    test.execute(&format!("BEGIN READ WRITE; {}; COMMIT", read_only("off")))?;
    // Each connection that cannot write is found out once, and replaced by one that can.
    soon(async { while goes_on(&store).await.is_err() {} }).await?;
    test.execute("ALTER TABLE feed RENAME TO elsewhere")?;
    let error = store.check_writable().await.err();
    ensure!(error.is_some_and(|error| !error.is_unavailable()));
    Ok(())
}

async fn what_has_happened_and_cannot_be_written_is_a_store_that_takes_no_writes(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let owed = setup::owed(EndpointId(Uuid::from_u128(7)), 0);
    let happened = [Happened::Owed(owed)];
    store.check_writable().await?;
    test.execute("ALTER TABLE owed RENAME TO elsewhere")?;
    ensure!(store.record(&happened).await.is_err());
    ensure!(store.check_writable().await.is_err());
    test.execute("ALTER TABLE elsewhere RENAME TO owed")?;
    store.record(&happened).await?;
    store.check_writable().await?;
    // Where nothing happens any more nothing is recorded; what failed once is no failure for ever.
    test.execute("ALTER TABLE owed RENAME TO elsewhere")?;
    ensure!(store.record(&happened).await.is_err());
    test.execute("ALTER TABLE elsewhere RENAME TO owed")?;
    test.clock.pass(59_000);
    ensure!(store.check_writable().await.is_err());
    test.clock.pass(1_000);
    store.check_writable().await?;
    Ok(())
}

async fn what_was_claimed_before_a_claim_fails_is_given_to_who_asked(test: Test) -> Result<()> {
    // One more than are asked for in one statement.
    const ENDPOINTS: u64 = 501;
    let store = test.open().await?;
    let endpoints: Vec<_> = (1..=ENDPOINTS)
        .map(|id| EndpointId(Uuid::from_u128(id.into())))
        .collect();
    let range = |(start, endpoint): (u64, &EndpointId)| RangeId {
        endpoint: *endpoint,
        topic: "hooks.outbox".into(),
        partition: 0,
        start,
    };
    let all: Vec<RangeId> = (1..).zip(&endpoints).map(range).collect();
    let grown = setup::grown(all.iter().map(|id| (id.clone(), id.start + 1)));
    store.record(&grown).await?;
    store.leave().await?;
    test.execute(&match test.kind {
        Kind::Sqlite => format!(
            "CREATE TRIGGER failing BEFORE UPDATE ON owed_range WHEN NEW.start_offset = {ENDPOINTS} \
             AND NEW.claimed_by IS NOT NULL BEGIN SELECT RAISE(ABORT, 'full'); END"
        ),
        Kind::Postgres(_) => format!(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$; \
             CREATE TRIGGER failing BEFORE UPDATE ON owed_range FOR EACH ROW \
             WHEN (NEW.start_offset = {ENDPOINTS} AND NEW.claimed_by IS NOT NULL) EXECUTE FUNCTION fail()"
        ),
    })?;
    let claimed = store
        .claim_ranges_of(1, 10, endpoints, vec!["hooks.outbox".into()])
        .await?;
    ensure!(claimed.len() == 500, "{} claimed", claimed.len());
    Ok(())
}
