//! The past of each account, kept within bounds, so that one with very much of it takes neither the
//! disk nor the past of the others: of what is more the oldest goes. Accounts of which nothing was
//! written are not looked at.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{MutexGuard, PoisonError};

use dovecast_notification::EndpointId;
use sqlx::any::AnyRow;

use super::dead_bodies::{self, remove_unnamed};
use crate::connection::deadlock;
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

/// Rows that one statement removes or looks up, so that others need not wait long.
const AT_A_TIME: i64 = 500;
/// Letters of no endpoint that are kept: what was no notification is no account's, and whoever may
/// write to a topic can make any number of them.
const OF_NO_ENDPOINT: i64 = 10_000;
/// The account of letters of no endpoint.
const NO_ACCOUNT: &str = "";
/// Bodies whose letters one statement removes: each may have one for each endpoint.
const BODIES_AT_A_TIME: i64 = 10;

const ALL_ACCOUNTS: &str = "SELECT id FROM account WHERE id > $1 ORDER BY id LIMIT $2";
// Each of these is the newest of what is too much; it and what is older goes. Ids rise with time.
const LAST_LETTER: &str =
    "SELECT id FROM dead_letter WHERE account_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2";
const LAST_ATTEMPTS: &str = "SELECT attempts.id FROM attempts JOIN endpoint ON endpoint.id = endpoint_id \
    WHERE account_id = $1 ORDER BY attempts.id DESC LIMIT 1 OFFSET $2";
const LAST_BODY: &str = "SELECT id, made_ms FROM \
    (SELECT id, made_ms, SUM(bytes) OVER (ORDER BY made_ms DESC, id DESC) AS total FROM dead_body WHERE account_id = $1) AS sums \
    WHERE total > CAST($2 AS BIGINT) ORDER BY made_ms DESC, id DESC LIMIT 1";
const LETTERS: &str = "DELETE FROM dead_letter WHERE id IN \
    (SELECT id FROM dead_letter WHERE account_id = $1 AND id <= $2 ORDER BY id LIMIT $3) RETURNING body_id";
const ATTEMPTS: &str = "DELETE FROM attempts WHERE id IN (SELECT attempts.id FROM attempts \
    JOIN endpoint ON endpoint.id = endpoint_id WHERE account_id = $1 AND attempts.id <= $2 LIMIT $3)";
const BODIES: &str = "SELECT id FROM dead_body WHERE account_id = $1 AND (made_ms < $2 OR made_ms = $2 AND id <= $3) \
    ORDER BY made_ms, id LIMIT $4";
/// Letters of before accounts were counted, and of nodes of before; of no endpoint they stay so.
const UNCOUNTED: &str =
    "SELECT id FROM dead_letter WHERE account_id = '' AND id > $1 ORDER BY id LIMIT $2";

/// How much of the past one account has; 0 is without a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountPast {
    /// Dead letters.
    pub dead_letters: i64,
    /// Bytes of what they are of, each notification once.
    pub dead_letter_bytes: i64,
    /// Rows of attempts; a row holds the attempts at one endpoint that were noted together.
    pub attempt_rows: i64,
}

/// What was removed because its account had too much of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Dead letters.
    pub dead_letters: u64,
    /// Rows of attempts.
    pub attempt_rows: u64,
}

/// Counts of what was removed since the start.
#[derive(Debug, Default)]
pub(crate) struct TrimCounts {
    dead_letters: AtomicU64,
    attempt_rows: AtomicU64,
}

/// How far the past was looked at.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// Endpoints of which something was written since accounts were looked at last: an account of
    /// which nothing was has no more than it had then.
    pub(super) grown: BTreeSet<EndpointId>,
    /// Bounds by which all accounts were looked at since the start: of what was written before,
    /// nobody knows.
    seen_all: Option<AccountPast>,
    /// Last letter of which it was looked whose it is.
    counted_to: String,
    /// Last body of which it was looked whether a letter names it.
    pub(super) bodies_after: String,
}

impl Default for AccountPast {
    fn default() -> Self {
        Self {
            dead_letters: 100_000,
            dead_letter_bytes: 256 * 1024 * 1024,
            attempt_rows: 100_000,
        }
    }
}

impl Store {
    /// Removes the oldest of what accounts have more of than they may. The first call after the
    /// start looks at all of them, others at those that have more than before.
    pub async fn trim_past(&self, most: &AccountPast) -> Result<Trimmed> {
        self.count_letters().await?;
        let (grown, has_seen_all) = {
            let mut sweep = self.sweep();
            (
                std::mem::take(&mut sweep.grown),
                sweep.seen_all == Some(*most),
            )
        };
        let trimmed = if has_seen_all {
            self.trim_grown(&grown, most).await
        } else {
            self.trim_all(most).await
        };
        let trimmed = match trimmed {
            Ok(trimmed) => self.trim_ownerless(trimmed).await,
            failed => failed,
        };
        let mut sweep = self.sweep();
        match trimmed {
            Ok(_) => sweep.seen_all = Some(*most),
            // They are looked at the next time.
            Err(_) => sweep.grown.extend(grown),
        }
        trimmed
    }

    /// Removes the oldest of the letters of no endpoint.
    async fn trim_ownerless(&self, mut trimmed: Trimmed) -> Result<Trimmed> {
        if let Some(last) = self.beyond(LAST_LETTER, NO_ACCOUNT, OF_NO_ENDPOINT).await? {
            let last = row::text(&last, "id")?;
            let letters = self.remove_letters(NO_ACCOUNT, &last).await?;
            let count = &self.trim_counts.dead_letters;
            count.fetch_add(letters, Ordering::Relaxed);
            trimmed.dead_letters += letters;
        }
        Ok(trimmed)
    }

    async fn trim_all(&self, most: &AccountPast) -> Result<Trimmed> {
        let (mut trimmed, mut after) = (Trimmed::default(), String::new());
        loop {
            let rows = sqlx::query(ALL_ACCOUNTS)
                .bind(after.clone())
                .bind(AT_A_TIME)
                .fetch_all(&self.database.pool)
                .await?;
            let accounts = texts(&rows, "id")?;
            let Some(last) = accounts.last() else {
                return Ok(trimmed);
            };
            after.clone_from(last);
            for account in &accounts {
                self.trim_account(account, most, &mut trimmed).await?;
            }
        }
    }

    async fn trim_grown(
        &self,
        grown: &BTreeSet<EndpointId>,
        most: &AccountPast,
    ) -> Result<Trimmed> {
        let mut trimmed = Trimmed::default();
        let ids: Vec<String> = grown.iter().map(ToString::to_string).collect();
        let mut accounts = BTreeSet::new();
        for part in ids.chunks(usize::try_from(AT_A_TIME).unwrap_or(1)) {
            let mut of = Statement::new("SELECT DISTINCT account_id FROM endpoint WHERE id IN (");
            of.bind_list(part.iter().cloned(), ", ");
            of.push(")");
            let mut connection = self.database.pool.acquire().await?;
            accounts.extend(texts(&of.fetch_all(&mut connection).await?, "account_id")?);
        }
        for account in &accounts {
            self.trim_account(account, most, &mut trimmed).await?;
        }
        Ok(trimmed)
    }

    async fn trim_account(
        &self,
        account: &str,
        most: &AccountPast,
        trimmed: &mut Trimmed,
    ) -> Result<()> {
        let mut letters = 0;
        if let Some(last) = self.beyond(LAST_LETTER, account, most.dead_letters).await? {
            letters += self
                .remove_letters(account, &row::text(&last, "id")?)
                .await?;
        }
        if let Some(last) = self
            .beyond(LAST_BODY, account, most.dead_letter_bytes)
            .await?
        {
            letters += self.remove_bodies(account, &last).await?;
        }
        let counts = &self.trim_counts;
        counts.dead_letters.fetch_add(letters, Ordering::Relaxed);
        trimmed.dead_letters += letters;
        if let Some(last) = self
            .beyond(LAST_ATTEMPTS, account, most.attempt_rows)
            .await?
        {
            let rows = self
                .remove_attempts(account, &row::text(&last, "id")?)
                .await?;
            counts.attempt_rows.fetch_add(rows, Ordering::Relaxed);
            trimmed.attempt_rows += rows;
        }
        Ok(())
    }

    pub(super) fn sweep(&self) -> MutexGuard<'_, Sweep> {
        self.sweep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down whose letters are of which that is not known: those of before accounts had a
    /// bound, which the schema leaves to us, and those that a node of before writes meanwhile.
    async fn count_letters(&self) -> Result<()> {
        loop {
            let after = self.sweep().counted_to.clone();
            let rows = sqlx::query(UNCOUNTED)
                .bind(after)
                .bind(AT_A_TIME)
                .fetch_all(&self.database.pool)
                .await?;
            let ids = texts(&rows, "id")?;
            let Some(last) = ids.last().cloned() else {
                return Ok(());
            };
            let mut of = Statement::new(
                "UPDATE dead_letter SET account_id = (SELECT endpoint.account_id FROM endpoint WHERE endpoint.id = dead_letter.endpoint_id) \
                 WHERE EXISTS (SELECT 1 FROM endpoint WHERE endpoint.id = dead_letter.endpoint_id) AND id IN (",
            );
            of.bind_list(ids, ", ");
            of.push(")");
            of.execute_on(&self.database.pool).await?;
            self.sweep().counted_to = last;
        }
    }

    /// What was removed since the start because its account had too much of it.
    pub fn trimmed(&self) -> Trimmed {
        Trimmed {
            dead_letters: self.trim_counts.dead_letters.load(Ordering::Relaxed),
            attempt_rows: self.trim_counts.attempt_rows.load(Ordering::Relaxed),
        }
    }

    /// The newest of what an account has too much of; `None`: it has no more than it may.
    async fn beyond(
        &self,
        which: &'static str,
        account: &str,
        most: i64,
    ) -> Result<Option<AnyRow>> {
        if most == 0 {
            return Ok(None);
        }
        let found = sqlx::query(which)
            .bind(account.to_owned())
            .bind(most)
            .fetch_optional(&self.database.pool)
            .await?;
        Ok(found)
    }

    async fn remove_letters(&self, account: &str, last: &str) -> Result<u64> {
        let some = || async move {
            let mut tx = self.database.begin_writing().await?;
            let removed = sqlx::query(LETTERS)
                .bind(account.to_owned())
                .bind(last.to_owned())
                .bind(AT_A_TIME)
                .fetch_all(&mut *tx)
                .await?;
            dead_bodies::remove_unused(&self.database, &mut tx, &removed).await?;
            tx.commit().await?;
            Ok(removed.len() as u64)
        };
        let mut count = 0;
        loop {
            let removed = deadlock::again(&some).await?;
            count += removed;
            if removed < AT_A_TIME.unsigned_abs() {
                return Ok(count);
            }
        }
    }

    /// Removes letters of bodies up to one, and the bodies; how many letters.
    async fn remove_bodies(&self, account: &str, last: &AnyRow) -> Result<u64> {
        let (last_ms, last) = (row::number(last, "made_ms")?, row::text(last, "id")?);
        let last = &last;
        let some = || async move {
            let mut tx = self.database.begin_writing().await?;
            let rows = sqlx::query(BODIES)
                .bind(account.to_owned())
                .bind(last_ms)
                .bind(last.clone())
                .bind(BODIES_AT_A_TIME)
                .fetch_all(&mut *tx)
                .await?;
            let ids = texts(&rows, "id")?;
            if ids.is_empty() {
                return Ok(None);
            }
            let mut letters = Statement::new("DELETE FROM dead_letter WHERE body_id IN (");
            letters.bind_list(ids.iter().cloned(), ", ");
            letters.push(")");
            let removed = letters.execute(&mut tx).await?;
            let ids = ids.into_iter().collect();
            remove_unnamed(&self.database, &mut tx, ids).await?;
            tx.commit().await?;
            Ok(Some(removed))
        };
        let mut count = 0;
        while let Some(removed) = deadlock::again(&some).await? {
            count += removed;
        }
        Ok(count)
    }

    async fn remove_attempts(&self, account: &str, last: &str) -> Result<u64> {
        let mut count = 0;
        loop {
            let done = sqlx::query(ATTEMPTS)
                .bind(account.to_owned())
                .bind(last.to_owned())
                .bind(AT_A_TIME)
                .execute(&self.database.pool)
                .await?;
            count += done.rows_affected();
            if done.rows_affected() < AT_A_TIME.unsigned_abs() {
                return Ok(count);
            }
        }
    }
}

fn texts(rows: &[AnyRow], column: &str) -> Result<Vec<String>> {
    rows.iter().map(|found| row::text(found, column)).collect()
}
