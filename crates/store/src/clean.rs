//! Text that is sealed now, and was not before: taken out of the pages that the database does not
//! use any more.
//!
//! What an update or a dropped column leaves behind stays in the file until its page is used again.
//! So the file is written anew after the migration, once. Beside the table there is what a
//! PostgreSQL has taken down of it for its planner (`pg_statistic`: values of each column, as they
//! were), and the write-ahead log of SQLite. PostgreSQL keeps a row that is gone in the new file as
//! well, as long as a transaction may still see it, so those from before are waited for. Where it
//! fails it is retried, in the background where that holds up nobody, else by the next start.
//! PostgreSQL's own log of changes and its archives are left to the operator.

use std::sync::Weak;
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;

use crate::connection::{Connection, Line};
use crate::error::{Result, with_sources};
use crate::feed::ChangeFeed;
use crate::open::Database;
use crate::row;

/// What `feed.unclean` says: nothing is left.
const NOTHING: i64 = 0;
/// What `feed.unclean` says: pages and all else are still to be written anew.
const ALL: i64 = 1;
/// What `feed.unclean` says: the table was written anew, what is beside it was not.
const BESIDE: i64 = 2;
/// How long it may take to write a table anew: it was read whole, and is in memory mostly.
const REWRITE_TIMEOUT: Duration = Duration::from_hours(1);
/// How long it waits for whoever uses the table: all others that want it wait behind it. And for
/// transactions that may see what was there before.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long until what failed is retried.
const RETRY_INTERVAL: Duration = Duration::from_mins(1);

/// PostgreSQL's advisory lock of the node that writes the tables anew: "doveclea(n)" in ASCII. The
/// session holds it. Two at once would wait for each other, and undo what the other says of it.
const ADVISORY_LOCK: i64 = 0x646f_7665_636c_6561;

/// Which file the table and the statistics are in: another one, once they were written anew. A
/// `VACUUM` without the right to it is no error.
const FILES: &str = "SELECT CAST(pg_relation_filenode('endpoint') AS BIGINT) AS endpoint, \
    CAST(pg_relation_filenode('pg_catalog.pg_statistic') AS BIGINT) AS statistics";

/// A transaction of now: what was replaced before it is gone for all that begin later.
const TRANSACTION: &str = "SELECT CAST(txid_current() % 4294967296 AS TEXT) AS transaction";
/// How many others may see what that transaction sees as gone: those that began before, and those
/// of standbys.
const BEGUN_BEFORE: &str = "SELECT COUNT(*) AS begun_before FROM pg_stat_activity \
    WHERE (datname = current_database() OR datname IS NULL) AND pid <> pg_backend_pid() \
    AND GREATEST(age(backend_xid), age(backend_xmin)) >= age(CAST($1 AS xid))";
/// How often they are looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How far it has come.
enum Left {
    /// Nothing was left.
    Nothing,
    /// Nothing is left any more.
    Done,
    /// Another process is in the way for now.
    Busy,
    /// Another node is about it.
    Elsewhere,
    /// PostgreSQL does not let this user.
    NotAllowed,
}

/// Writes the database anew if it may hold such text. What goes wrong is logged: nothing depends on
/// it but secrecy.
pub(crate) async fn clean(database: &Database, alive: Weak<ChangeFeed>) {
    if may_be_retried(database, &clean_if_needed(database).await) {
        let database = database.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RETRY_INTERVAL).await;
                if alive.upgrade().is_none() || database.pool.is_closed() {
                    return;
                }
                if !may_be_retried(&database, &clean_if_needed(&database).await) {
                    return;
                }
            }
        });
    }
}

/// Logs what was done; tells whether it is worth to try it again while others work.
fn may_be_retried(database: &Database, done: &Result<Left>) -> bool {
    match done {
        Ok(Left::Nothing) => false,
        Ok(Left::Done) => {
            tracing::info!(
                "the database was written anew, without the secrets that were not sealed"
            );
            false
        }
        Ok(Left::Busy) => {
            tracing::warn!(
                "secrets that were not sealed may still be in the files of the database, as others use what was there before: this is retried"
            );
            true
        }
        Ok(Left::Elsewhere) => {
            tracing::info!(
                "another node writes the database anew, without the secrets that were not sealed"
            );
            // It may be killed over it.
            true
        }
        Ok(Left::NotAllowed) => {
            tracing::error!(
                "secrets that were not sealed may still be in what PostgreSQL keeps of its tables, and the user of the database may not write that anew: let its owner do `VACUUM (FULL, ANALYZE) endpoint; VACUUM FULL pg_statistic; UPDATE feed SET unclean = 0`"
            );
            false
        }
        Err(error) => {
            let error = with_sources(error);
            // To write a file of SQLite anew locks all others out for as long as it takes.
            let is_retried = database.is_postgres;
            tracing::error!(
                error,
                is_retried,
                "secrets that were not sealed may still be in unused pages of the database: it is written anew by the next start at the latest"
            );
            is_retried
        }
    }
}

async fn clean_if_needed(database: &Database) -> Result<Left> {
    let mut connection = database.pool.acquire_in_turn(Line::Usual).await?;
    if unclean(&mut connection).await? == NOTHING {
        return Ok(Left::Nothing);
    }
    if database.is_postgres {
        let left = clean_postgres(&mut connection).await;
        // It has limits of its own now, and may hold the lock.
        connection.discard();
        left
    } else {
        clean_sqlite(&mut connection).await
    }
}

async fn unclean(connection: &mut Connection) -> Result<i64> {
    let found = sqlx::query("SELECT unclean FROM feed");
    let found = found.fetch_one(connection).await?;
    row::number(&found, "unclean")
}

async fn clean_postgres(connection: &mut Connection) -> Result<Left> {
    connection.limit(REWRITE_TIMEOUT);
    let limits = format!(
        "SET statement_timeout = {}; SET lock_timeout = {}",
        REWRITE_TIMEOUT.as_millis(),
        LOCK_TIMEOUT.as_millis()
    );
    let limits = sqlx::raw_sql(AssertSqlSafe(limits));
    limits.execute(&mut *connection).await?;
    let lock =
        sqlx::query("SELECT CAST(CAST(pg_try_advisory_lock($1) AS INTEGER) AS BIGINT) AS is_ours")
            .bind(ADVISORY_LOCK);
    if !row::truth(&lock.fetch_one(&mut *connection).await?, "is_ours")? {
        return Ok(Left::Elsewhere);
    }
    // Whoever had the lock before may have done it.
    let unclean = unclean(connection).await?;
    if unclean == NOTHING {
        return Ok(Left::Nothing);
    }
    let before = files(connection).await?;
    if unclean == ALL {
        if !are_older_over(connection).await? {
            return Ok(Left::Busy);
        }
        // What is said of the columns is taken down anew with it.
        tell(connection, "VACUUM (FULL, ANALYZE) endpoint").await?;
        if files(connection).await?.0 == before.0 {
            return Ok(Left::NotAllowed);
        }
        put(connection, BESIDE).await?;
    }
    // Rows that are not valid any more are in its pages as well.
    if !are_older_over(connection).await? {
        return Ok(Left::Busy);
    }
    tell(connection, "VACUUM FULL pg_statistic").await?;
    if files(connection).await?.1 == before.1 {
        return Ok(Left::NotAllowed);
    }
    put(connection, NOTHING).await?;
    Ok(Left::Done)
}

/// Waits until no transaction is left that began before now.
async fn are_older_over(connection: &mut Connection) -> Result<bool> {
    let ours = sqlx::query(TRANSACTION).fetch_one(&mut *connection).await?;
    let ours = row::text(&ours, "transaction")?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let count = sqlx::query(BEGUN_BEFORE).bind(&ours);
        let count = count.fetch_one(&mut *connection).await?;
        if row::number(&count, "begun_before")? == 0 {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn files(connection: &mut Connection) -> Result<(i64, i64)> {
    let found = sqlx::query(FILES).fetch_one(connection).await?;
    let endpoint = row::number(&found, "endpoint")?;
    Ok((endpoint, row::number(&found, "statistics")?))
}

async fn clean_sqlite(connection: &mut Connection) -> Result<Left> {
    if unclean(connection).await? == ALL {
        tell(connection, "VACUUM").await?;
        put(connection, BESIDE).await?;
    }
    // The pages from before are in the write-ahead log, too. Of its own accord SQLite only begins
    // to write over it.
    let done = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
    let done = done.fetch_one(&mut *connection).await?;
    if row::truth(&done, "busy")? {
        return Ok(Left::Busy);
    }
    put(connection, NOTHING).await?;
    Ok(Left::Done)
}

/// Empties the write-ahead log of SQLite, which has what was deleted since it was emptied last.
/// Where somebody reads it stays until the next time: nobody waits for it.
pub(crate) async fn empty_log(database: &Database) -> Result<()> {
    if database.is_postgres {
        return Ok(());
    }
    let mut connection = database.pool.acquire_in_turn(Line::Usual).await?;
    let emptied = tell(
        &mut connection,
        "PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE)",
    );
    let emptied = emptied.await;
    // It waits for others no more.
    connection.discard();
    emptied
}

async fn put(connection: &mut Connection, unclean: i64) -> Result<()> {
    let put = sqlx::query("UPDATE feed SET unclean = $1").bind(unclean);
    put.execute(connection).await?;
    Ok(())
}

async fn tell(connection: &mut Connection, statement: &'static str) -> Result<()> {
    sqlx::raw_sql(statement).execute(connection).await?;
    Ok(())
}
