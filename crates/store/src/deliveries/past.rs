//! Forgetting the past: attempts and dead letters that are too old or too many.
//!
//! What is too old is so by a horizon that moves on as time passes, measured by the steady clock,
//! and never faster than that allows: a clock that is set a month ahead would otherwise drop
//! everything at once. Where a clock was decades off, the horizon does not go through the years in
//! which there is nothing: it is never further behind the oldest row than what is kept.

use std::sync::PoisonError;

use super::dead_bodies::remove_unused;
use crate::clean;
use crate::clock::SKEW_MS;
use crate::connection::deadlock;
use crate::error::{Result, with_sources};
use crate::id::repeatable;
use crate::open::Store;
use crate::row;

/// How many times faster than time the horizon may move, so that it comes up with what has passed
/// while no process ran. A clock that is wrong for an hour costs four hours of the past.
const CATCH_UP: i64 = 4;
/// Endpoints that have not failed for so long are not remembered as failing; longer than any delay
/// between two attempts.
const FAILING_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// Where there is none yet it is at the oldest row, and drops nothing. $3: how far it may move, $4:
/// where to, $5: where it is at least before it moves.
const MOVE: &str = "INSERT INTO horizon (kind, time_ms) VALUES ($1, $2) ON CONFLICT (kind) DO UPDATE SET time_ms = \
    CASE WHEN horizon.time_ms < $5 AND $5 + $3 < $4 THEN $5 + $3 \
        WHEN horizon.time_ms >= $5 AND horizon.time_ms + $3 < $4 THEN horizon.time_ms + $3 ELSE $4 END \
    RETURNING time_ms";

/// What processes have written that are gone, to find out whether they can.
const GONE: &str = "DELETE FROM probe WHERE id <> $1 AND id NOT IN (SELECT id FROM dispatcher)";

/// A table of the past.
struct Kind {
    name: &'static str,
    oldest: &'static str,
    /// Takes a time back that lies ahead of now, in rows behind an id.
    ahead: &'static str,
    by_age: &'static str,
    by_number: &'static str,
}

// Ids rise with time.
const ATTEMPTS: Kind = Kind {
    name: "attempts",
    oldest: "SELECT MIN(last_ms) AS time_ms FROM attempts",
    ahead: "UPDATE attempts SET last_ms = $1 WHERE id > $2 AND last_ms > $3",
    by_age: "DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE last_ms < $1 LIMIT $2) RETURNING CAST(NULL AS TEXT) AS body_id",
    by_number: "DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE id <= \
        (SELECT id FROM attempts ORDER BY id DESC LIMIT 1 OFFSET $1) LIMIT $2) RETURNING CAST(NULL AS TEXT) AS body_id",
};
const DEAD_LETTERS: Kind = Kind {
    name: "dead_letter",
    oldest: "SELECT MIN(time_ms) AS time_ms FROM dead_letter",
    ahead: "UPDATE dead_letter SET time_ms = $1 WHERE id > $2 AND time_ms > $3",
    by_age: "DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter WHERE time_ms < $1 LIMIT $2) RETURNING body_id",
    by_number: "DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter WHERE id <= \
        (SELECT id FROM dead_letter ORDER BY id DESC LIMIT 1 OFFSET $1) LIMIT $2) RETURNING body_id",
};

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptPast {
    /// Attempts that are older are dropped ...
    pub attempts_ms: i64,
    /// ... and the oldest of more than so many rows; a row holds the attempts at one endpoint that
    /// were noted together.
    pub attempt_rows: i64,
    /// Dead letters that are older are dropped ...
    pub dead_letters_ms: i64,
    /// ... and the oldest of more than so many.
    pub dead_letters: i64,
}

impl Default for KeptPast {
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        Self {
            attempts_ms: 3 * DAY_MS,
            attempt_rows: 500_000,
            dead_letters_ms: 30 * DAY_MS,
            dead_letters: 1_000_000,
        }
    }
}

/// What was dropped of the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Rows of attempts.
    pub attempt_rows: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

/// How much of one kind is kept.
struct Kept {
    age_ms: i64,
    number: i64,
}

impl Store {
    /// Drops what is not kept any more.
    pub async fn forget_past(&self, kept: KeptPast) -> Result<Dropped> {
        let steady_ms = self.clock.steady_ms();
        let before = {
            let forgot = self.forgot_ms.lock();
            forgot
                .unwrap_or_else(PoisonError::into_inner)
                .replace(steady_ms)
        };
        sqlx::query(GONE)
            .bind(self.dispatcher_id())
            .execute(&self.database.pool)
            .await?;
        self.failing().forget_before(steady_ms - FAILING_MS);
        let passed_ms = before.map_or(0, |before| (steady_ms - before).max(0));
        let attempts = Kept {
            age_ms: kept.attempts_ms,
            number: kept.attempt_rows,
        };
        let dead_letters = Kept {
            age_ms: kept.dead_letters_ms,
            number: kept.dead_letters,
        };
        let dropped = Dropped {
            attempt_rows: self.forget(&ATTEMPTS, &attempts, passed_ms).await?,
            dead_letters: self.forget(&DEAD_LETTERS, &dead_letters, passed_ms).await?,
        };
        self.sweep_bodies().await?;
        if let Err(error) = clean::empty_log(&self.database).await {
            let error = with_sources(&error);
            tracing::warn!(
                error,
                "what was dropped may still be in the write-ahead log of the database: it is emptied later"
            );
        }
        Ok(dropped)
    }

    async fn forget(&self, kind: &Kind, kept: &Kept, passed_ms: i64) -> Result<u64> {
        let now_ms = self.clock.now_ms();
        let ahead_ms = now_ms.saturating_add(SKEW_MS);
        sqlx::query(kind.ahead)
            .bind(now_ms)
            .bind(repeatable(ahead_ms, 0, &[]).to_string())
            .bind(ahead_ms)
            .execute(&self.database.pool)
            .await?;
        let target_ms = now_ms.saturating_sub(kept.age_ms);
        let oldest = sqlx::query(kind.oldest)
            .fetch_one(&self.database.pool)
            .await?;
        let oldest = row::optional_number(&oldest, "time_ms")?;
        let first_ms = oldest.map_or(target_ms, |oldest| oldest.min(target_ms));
        let least_ms = oldest.map_or(target_ms, |oldest| oldest.saturating_sub(kept.age_ms));
        let horizon = sqlx::query(MOVE)
            .bind(kind.name)
            .bind(first_ms)
            .bind(passed_ms.saturating_mul(CATCH_UP))
            .bind(target_ms)
            .bind(least_ms)
            .fetch_one(&self.database.pool)
            .await?;
        let horizon = row::number(&horizon, "time_ms")?;
        let aged = self.delete(kind.by_age, horizon).await?;
        Ok(aged + self.delete(kind.by_number, kept.number).await?)
    }

    /// Some at a time, so that no statement takes long; bodies that are not needed any more go with
    /// the letters.
    async fn delete(&self, statement: &'static str, value: i64) -> Result<u64> {
        /// Most rows that one statement deletes.
        const AT_A_TIME: u32 = 5_000;
        let some = || async move {
            let mut tx = self.database.begin_writing().await?;
            let deleted = sqlx::query(statement)
                .bind(value)
                .bind(i64::from(AT_A_TIME))
                .fetch_all(&mut *tx)
                .await?;
            remove_unused(&self.database, &mut tx, &deleted).await?;
            tx.commit().await?;
            Ok(deleted.len() as u64)
        };
        let mut rows = 0;
        loop {
            let deleted = deadlock::again(&some).await?;
            rows += deleted;
            if deleted < u64::from(AT_A_TIME) {
                return Ok(rows);
            }
        }
    }
}
