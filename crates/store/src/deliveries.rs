//! The ledger of the dispatcher: what is owed, what is dead, what was tried.

mod attempts;
mod claims;
mod dead_letters;
mod ours;
mod record;

use dovecast_dispatch::work::ledger::{Happened, Ledger, Millis, Owed, OwedRange};
use dovecast_log::LogError;

use crate::error::{Result, StoreError};
use crate::open::Store;

pub use attempts::KeptAttempt;
pub use claims::OwedCount;
pub use dead_letters::KeptDeadLetter;
pub(crate) use ours::Ours;
pub(crate) use record::reason;

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptPast {
    /// Attempts that are older are dropped ...
    pub attempts_ms: i64,
    /// ... and the oldest of more than so many rows; a row holds the attempts at one endpoint that were noted together.
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

impl Store {
    /// Drops what is not kept any more.
    pub async fn forget_past(&self, kept: KeptPast) -> Result<Dropped> {
        let now = crate::clock::now_ms();
        let mut dropped = Dropped::default();
        for (statement, value, count) in [
            (
                "DELETE FROM attempts WHERE last_ms < $1",
                now - kept.attempts_ms,
                &mut dropped.attempt_rows,
            ),
            (
                "DELETE FROM dead_letter WHERE time_ms < $1",
                now - kept.dead_letters_ms,
                &mut dropped.dead_letters,
            ),
        ] {
            *count += self.delete(statement, value).await?;
        }
        // Ids rise with time.
        dropped.attempt_rows += self
            .delete(
                "DELETE FROM attempts WHERE id <= (SELECT id FROM attempts ORDER BY id DESC LIMIT 1 OFFSET $1)",
                kept.attempt_rows,
            )
            .await?;
        dropped.dead_letters += self
            .delete(
                "DELETE FROM dead_letter WHERE id <= (SELECT id FROM dead_letter ORDER BY id DESC LIMIT 1 OFFSET $1)",
                kept.dead_letters,
            )
            .await?;
        Ok(dropped)
    }

    async fn delete(&self, statement: &'static str, value: i64) -> Result<u64> {
        let done = sqlx::query(statement)
            .bind(value)
            .execute(&self.database.pool)
            .await?;
        Ok(done.rows_affected())
    }

    fn ledger_error(&self, doing: &'static str, error: &StoreError) -> LogError {
        let place = if self.database.is_postgres {
            "PostgreSQL"
        } else {
            "SQLite"
        };
        LogError::Io {
            doing,
            place: format!("the store in {place}"),
            reason: error.to_string(),
        }
    }
}

impl Ledger for Store {
    async fn record(&self, happened: Happened) -> Result<(), LogError> {
        let failed = |error| self.ledger_error("write to", &error);
        self.ours.will_record(&happened);
        self.record_happened(&happened).await.map_err(failed)?;
        self.ours.recorded(&happened);
        // A change of the registry, which has its own transaction; after a crash in between the next failure does it.
        for (endpoint, reason) in &happened.switched_off {
            let id = endpoint.0.into();
            self.disable(id, reason).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn beat(&self, now_ms: Millis, alive_until_ms: Millis) -> Result<(), LogError> {
        let done = self.say_alive(now_ms, alive_until_ms).await;
        done.map_err(|error| self.ledger_error("write to", &error))
    }

    async fn leave(&self) -> Result<(), LogError> {
        let done = self.say_dead().await;
        done.map_err(|error| self.ledger_error("write to", &error))
    }

    async fn claim_owed(&self, now_ms: Millis, most: usize) -> Result<Vec<Owed>, LogError> {
        let claimed = self.claim_due(now_ms, most).await;
        claimed.map_err(|error| self.ledger_error("read from", &error))
    }

    async fn claim_ranges(&self, now_ms: Millis, most: usize) -> Result<Vec<OwedRange>, LogError> {
        let claimed = self.claim_free_ranges(now_ms, most).await;
        claimed.map_err(|error| self.ledger_error("read from", &error))
    }
}
