//! The past of each account, kept within bounds, so that one with very much of it takes neither the
//! disk nor the past of the others: of what is more the oldest goes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::dead_bodies;
use crate::error::Result;
use crate::open::Store;
use crate::row;

/// Rows that one statement removes, so that others need not wait long.
const AT_A_TIME: i64 = 500;
/// Bodies whose letters one statement removes: each may have one for each endpoint.
const BODIES_AT_A_TIME: i64 = 10;

const TOO_MANY_LETTERS: &str =
    "SELECT account_id FROM dead_letter GROUP BY account_id HAVING COUNT(*) > $1";
const TOO_MANY_BYTES: &str =
    "SELECT account_id FROM dead_body GROUP BY account_id HAVING SUM(bytes) > CAST($1 AS BIGINT)";
const TOO_MANY_ATTEMPTS: &str = "SELECT account_id FROM attempts JOIN endpoint ON endpoint.id = endpoint_id \
    GROUP BY account_id HAVING COUNT(*) > $1";
// Ids rise with time.
const OLDEST_LETTERS: &str = "DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter WHERE account_id = $1 AND id <= \
    (SELECT id FROM dead_letter WHERE account_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2) ORDER BY id LIMIT $3) \
    RETURNING body_id";
const OLDEST_BODIES: &str = "DELETE FROM dead_letter WHERE body_id IN (SELECT id FROM \
    (SELECT id, SUM(bytes) OVER (ORDER BY made_ms DESC, id DESC) AS total FROM dead_body WHERE account_id = $1) AS sums \
    WHERE total > CAST($2 AS BIGINT) LIMIT $3) RETURNING body_id";
const OLDEST_ATTEMPTS: &str = "DELETE FROM attempts WHERE id IN (SELECT attempts.id FROM attempts \
    JOIN endpoint ON endpoint.id = endpoint_id WHERE account_id = $1 AND attempts.id <= \
    (SELECT attempts.id FROM attempts JOIN endpoint ON endpoint.id = endpoint_id WHERE account_id = $1 \
    ORDER BY attempts.id DESC LIMIT 1 OFFSET $2) ORDER BY attempts.id LIMIT $3)";

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
    /// Removes the oldest of what accounts have more of than they may.
    pub async fn trim_past(&self, most: &AccountPast) -> Result<Trimmed> {
        let mut trimmed = Trimmed::default();
        let (letters, bytes) = (most.dead_letters, most.dead_letter_bytes);
        for (which, most, oldest) in [
            (TOO_MANY_LETTERS, letters, (OLDEST_LETTERS, AT_A_TIME)),
            (TOO_MANY_BYTES, bytes, (OLDEST_BODIES, BODIES_AT_A_TIME)),
        ] {
            for account in self.with_more(which, most).await? {
                let removed = self.remove_letters(&account, most, oldest).await?;
                let counts = &self.trim_counts.dead_letters;
                counts.fetch_add(removed, Ordering::Relaxed);
                trimmed.dead_letters += removed;
            }
        }
        for account in self.with_more(TOO_MANY_ATTEMPTS, most.attempt_rows).await? {
            let removed = self.remove_attempts(&account, most.attempt_rows).await?;
            let counts = &self.trim_counts.attempt_rows;
            counts.fetch_add(removed, Ordering::Relaxed);
            trimmed.attempt_rows += removed;
        }
        Ok(trimmed)
    }

    /// What was removed since the start because its account had too much of it.
    pub fn trimmed(&self) -> Trimmed {
        Trimmed {
            dead_letters: self.trim_counts.dead_letters.load(Ordering::Relaxed),
            attempt_rows: self.trim_counts.attempt_rows.load(Ordering::Relaxed),
        }
    }

    async fn with_more(&self, which: &'static str, most: i64) -> Result<Vec<String>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(which)
            .bind(most)
            .fetch_all(&self.database.pool)
            .await?;
        rows.iter()
            .map(|found| row::text(found, "account_id"))
            .collect()
    }

    async fn remove_letters(
        &self,
        account: &str,
        most: i64,
        (oldest, at_a_time): (&'static str, i64),
    ) -> Result<u64> {
        let mut count = 0;
        loop {
            let mut tx = self.database.begin_writing().await?;
            let removed = sqlx::query(oldest)
                .bind(account.to_owned())
                .bind(most)
                .bind(at_a_time)
                .fetch_all(&mut *tx)
                .await?;
            dead_bodies::remove_unused(&self.database, &mut tx, &removed).await?;
            tx.commit().await?;
            if removed.is_empty() {
                return Ok(count);
            }
            count += removed.len() as u64;
        }
    }

    async fn remove_attempts(&self, account: &str, most: i64) -> Result<u64> {
        let mut count = 0;
        loop {
            let done = sqlx::query(OLDEST_ATTEMPTS)
                .bind(account.to_owned())
                .bind(most)
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
