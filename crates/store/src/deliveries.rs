//! The ledger of the dispatcher: what is owed, what is dead, what was tried.

mod attempts;
mod claims;
mod dead_letters;
mod record;
mod redelivery;

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dovecast_dispatch::EndpointId;
use dovecast_dispatch::work::ledger::{Happened, Ledger, Millis, Owed, OwedRange};
use dovecast_log::LogError;

use crate::error::{Result, StoreError, with_sources};
use crate::open::Store;

pub use attempts::KeptAttempt;
pub use claims::OwedCount;
pub(crate) use claims::Unsure;
pub use dead_letters::KeptDeadLetter;
pub(crate) use record::reason;

/// How long it may take to say that we live.
const BEAT: Duration = Duration::from_secs(3);

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
        // Ids rise with time.
        let attempt_rows = [
            (
                "DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE last_ms < $1 LIMIT $2)",
                now - kept.attempts_ms,
            ),
            (
                "DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE id <= \
                 (SELECT id FROM attempts ORDER BY id DESC LIMIT 1 OFFSET $1) LIMIT $2)",
                kept.attempt_rows,
            ),
        ];
        let dead_letters = [
            (
                "DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter WHERE time_ms < $1 LIMIT $2)",
                now - kept.dead_letters_ms,
            ),
            (
                "DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter WHERE id <= \
                 (SELECT id FROM dead_letter ORDER BY id DESC LIMIT 1 OFFSET $1) LIMIT $2)",
                kept.dead_letters,
            ),
        ];
        let mut dropped = Dropped::default();
        for (statement, value) in attempt_rows {
            dropped.attempt_rows += self.delete(statement, value).await?;
        }
        for (statement, value) in dead_letters {
            dropped.dead_letters += self.delete(statement, value).await?;
        }
        Ok(dropped)
    }

    /// Some at a time, so that no statement takes long.
    async fn delete(&self, statement: &'static str, value: i64) -> Result<u64> {
        const AT_A_TIME: u32 = 5_000;
        let mut rows = 0;
        loop {
            let done = sqlx::query(statement)
                .bind(value)
                .bind(i64::from(AT_A_TIME))
                .execute(&self.database.pool)
                .await?;
            rows += done.rows_affected();
            if done.rows_affected() < u64::from(AT_A_TIME) {
                return Ok(rows);
            }
        }
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
            reason: with_sources(error),
        }
    }
}

impl Ledger for Store {
    async fn record(&self, happened: Happened) -> Result<(), LogError> {
        let failed = |error| self.ledger_error("write to", &error);
        let recorded = self.record_happened(&happened).await;
        self.cannot_record
            .store(recorded.is_err(), Ordering::Release);
        recorded.map_err(failed)?;
        // A change of the registry, which has its own transaction; after a crash in between the next failure does it.
        for (endpoint, reason) in &happened.switched_off {
            let id = endpoint.0.into();
            self.disable(id, reason).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn beat(&self, now_ms: Millis, alive_until_ms: Millis) -> Result<(), LogError> {
        // Said again on another connection before we are taken for dead.
        let done = tokio::time::timeout(BEAT, self.say_alive(now_ms, alive_until_ms)).await;
        let done = done.unwrap_or_else(|_| {
            let said = format!("no answer within {} s", BEAT.as_secs());
            let late = io::Error::new(io::ErrorKind::TimedOut, said);
            Err(StoreError::Database(sqlx::Error::Io(late)))
        });
        done.map_err(|error| self.ledger_error("write to", &error))
    }

    async fn leave(&self) -> Result<(), LogError> {
        let done = self.say_dead().await;
        done.map_err(|error| self.ledger_error("write to", &error))
    }

    async fn claim_owed_except(
        &self,
        now_ms: Millis,
        most: usize,
        except: Vec<EndpointId>,
    ) -> Result<Vec<Owed>, LogError> {
        let claimed = self.claim_due(now_ms, most, &except).await;
        claimed.map_err(|error| self.ledger_error("read from", &error))
    }

    async fn owing_ranges(&self, now_ms: Millis) -> Result<Vec<EndpointId>, LogError> {
        let owing = self.owing_free_ranges(now_ms).await;
        owing.map_err(|error| self.ledger_error("read from", &error))
    }

    async fn claim_ranges_of(
        &self,
        now_ms: Millis,
        most: usize,
        endpoints: Vec<EndpointId>,
    ) -> Result<Vec<OwedRange>, LogError> {
        let claimed = self.claim_free_ranges(now_ms, most, &endpoints).await;
        claimed.map_err(|error| self.ledger_error("read from", &error))
    }
}
