//! The time in which deliveries are due: of the database where several nodes share one.
//!
//! A node decides by its own clock when a delivery is due. On PostgreSQL rows hold that in the time
//! of the database, and each node reads it in its own: so a node whose clock is ahead or behind
//! retries neither at once nor late, and takes nothing of other nodes for set back. A file of
//! SQLite has one node, and its clock is the time.

use std::sync::{MutexGuard, PoisonError};

use dovecast_dispatch::ledger::Millis;

use super::claims::POSTGRES_NOW;
use crate::error::Result;
use crate::open::Store;
use crate::row;

/// How long what the database's clock has shown is gone on from by the steady clock: one that is
/// set is noticed after that at the latest, and by a dispatcher at its next heartbeat.
const KNOWN_MS: i64 = 60_000;

/// What the database's clock has shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    now_ms: Millis,
    /// When that was, by the steady clock.
    steady_ms: i64,
}

impl Store {
    /// By how much the time in which deliveries are due is ahead of this node's clock.
    pub(crate) async fn due_ahead_ms(&self) -> Result<i64> {
        if !self.database.is_postgres || self.clock.is_standing() {
            return Ok(0);
        }
        let known = *self.database_time();
        let steady_ms = self.clock.steady_ms();
        let is_recent = |shown: &Shown| steady_ms.saturating_sub(shown.steady_ms) < KNOWN_MS;
        let shown = if let Some(shown) = known.filter(is_recent) {
            shown
        } else {
            let found = sqlx::query(POSTGRES_NOW)
                .fetch_one(&self.database.pool)
                .await?;
            self.database_shows(row::number(&found, "now_ms")?)
        };
        let passed_ms = self.clock.steady_ms().saturating_sub(shown.steady_ms);
        let now_ms = shown.now_ms.saturating_add(passed_ms);
        Ok(now_ms.saturating_sub(self.clock.now_ms()))
    }

    /// The clock of the database is asked for anew the next time: what a host that was suspended
    /// goes on from is hours old, and its steady clock does not know it.
    pub(crate) fn forget_database_time(&self) {
        *self.database_time() = None;
    }

    /// The database has said just now what its clock shows.
    pub(super) fn database_shows(&self, now_ms: Millis) -> Shown {
        let shown = Shown {
            now_ms,
            steady_ms: self.clock.steady_ms(),
        };
        *self.database_time() = Some(shown);
        shown
    }

    /// Now, in the time in which deliveries are due.
    pub(super) async fn due_now_ms(&self) -> Result<Millis> {
        let ahead_ms = self.due_ahead_ms().await?;
        Ok(self.clock.now_ms().saturating_add(ahead_ms))
    }

    fn database_time(&self) -> MutexGuard<'_, Option<Shown>> {
        self.database_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
