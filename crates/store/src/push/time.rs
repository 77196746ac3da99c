//! The time in which pushes are due, and what becomes of it when a clock is set.
//!
//! Several nodes share the time of their PostgreSQL, as for deliveries (`deliveries/due_time.rs`):
//! a node whose clock is wrong rings nobody late and drops nothing. A file of SQLite has one node,
//! which sees its own clock being set: the steady clock says by how much, and what waits moves
//! along. What ends quiet hours is a time of the day, and stays.

use dovecast_mail_push::plan::{GATHER_AT_MOST_MS, deadline_ms};

use crate::clock::SKEW_MS;
use crate::error::Result;
use crate::open::Store;

/// How long sessions and subscriptions that have expired stay in the store, where nobody finds
/// them: a clock that is ahead for less than this deletes nothing.
pub(super) const EXPIRED_KEPT_MS: i64 = 24 * 3_600_000;

/// What was decided by a clock that was set by $1. A deadline that is further than $3 from the
/// beginning is that of a push that waits for the end of quiet hours, after $2.
const MOVE_WAITING: &str = "UPDATE push_waiting SET created_ms = created_ms + $1, \
    gathered_until_ms = CASE WHEN gathered_until_ms > 0 THEN gathered_until_ms + $1 ELSE 0 END, \
    claimed_until_ms = CASE WHEN claimed_until_ms > 0 THEN claimed_until_ms + $1 ELSE 0 END, \
    due_ms = CASE WHEN due_ms > $2 AND deadline_ms - created_ms > $3 THEN due_ms ELSE due_ms + $1 END, \
    deadline_ms = CASE WHEN due_ms > $2 AND deadline_ms - created_ms > $3 THEN deadline_ms ELSE deadline_ms + $1 END";
const MOVE_ACCEPTED: &str = "UPDATE push_accepted SET accepted_ms = accepted_ms + $1";
const MOVE_HELD: &str = "UPDATE push_held SET until_ms = until_ms + $1, asked_ms = asked_ms + $1";
/// What was written before a clock was set back that nobody saw: it counts as written now. What
/// ends quiet hours stays.
const RETURN_WAITING: &str = "UPDATE push_waiting SET \
    due_ms = CASE WHEN deadline_ms - created_ms > $3 THEN due_ms ELSE due_ms - created_ms + $1 END, \
    deadline_ms = CASE WHEN deadline_ms - created_ms > $3 THEN deadline_ms ELSE deadline_ms - created_ms + $1 END, \
    gathered_until_ms = CASE WHEN gathered_until_ms > 0 \
    THEN gathered_until_ms - created_ms + $1 ELSE 0 END, created_ms = $1 WHERE created_ms > $2";
/// Whether anything was: nearly never, and this holds nobody up.
pub(super) const AHEAD: &str = "SELECT 1 AS found WHERE EXISTS (SELECT 1 FROM push_waiting WHERE created_ms > $1) \
    OR EXISTS (SELECT 1 FROM push_accepted WHERE accepted_ms > $1) \
    OR EXISTS (SELECT 1 FROM push_held WHERE asked_ms > $1)";
const RETURN_ACCEPTED: &str = "UPDATE push_accepted SET accepted_ms = $1 WHERE accepted_ms > $2";

const RETURN_HELD: &str = "UPDATE push_held SET until_ms = until_ms - asked_ms + $1, asked_ms = $1 \
    WHERE asked_ms > $2";

/// What both clocks have shown at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Both {
    wall_ms: i64,
    steady_ms: i64,
}

/// Now, as rows of pushes have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PushNow {
    pub(super) now_ms: i64,
    /// By how much that is ahead of this node's clock.
    pub(super) ahead_ms: i64,
}

impl Store {
    /// Now, in the time in which pushes are due. Asked before a transaction is begun.
    pub(super) async fn push_now(&self) -> Result<PushNow> {
        let mut shown = self.push_clock.lock().await;
        self.push_now_of(&mut shown).await
    }

    /// Now, for who holds the clocks: nothing is moved until they are given back.
    pub(super) async fn push_now_of(&self, shown: &mut Option<Both>) -> Result<PushNow> {
        if self.database.is_postgres {
            let ahead_ms = self.due_ahead_ms().await?;
            let now_ms = self.clock.now_ms().saturating_add(ahead_ms);
            return Ok(PushNow { now_ms, ahead_ms });
        }
        let now_ms = self.follow_clock(shown).await?;
        let ahead_ms = 0;
        Ok(PushNow { now_ms, ahead_ms })
    }

    /// Now, in the time in which sessions and subscriptions expire: that of the database where
    /// nodes share one. Asked before a transaction is begun.
    pub(super) async fn expiry_now_ms(&self) -> Result<i64> {
        let ahead_ms = self.due_ahead_ms().await?;
        Ok(self.clock.now_ms().saturating_add(ahead_ms))
    }

    /// Moves what waits along with a clock that was set since this was asked last; what it shows.
    async fn follow_clock(&self, shown: &mut Option<Both>) -> Result<i64> {
        let (wall_ms, steady_ms) = (self.clock.now_ms(), self.clock.steady_ms());
        match *shown {
            None => self.return_pushes(wall_ms).await?,
            Some(last) => {
                let passed_ms = steady_ms.saturating_sub(last.steady_ms);
                let expected_ms = last.wall_ms.saturating_add(passed_ms);
                let set_by_ms = wall_ms.saturating_sub(expected_ms);
                if set_by_ms.saturating_abs() > SKEW_MS {
                    self.move_pushes(set_by_ms, expected_ms).await?;
                }
            }
        }
        *shown = Some(Both { wall_ms, steady_ms });
        Ok(wall_ms)
    }

    async fn move_pushes(&self, by_ms: i64, before_ms: i64) -> Result<()> {
        tracing::warn!(
            seconds = by_ms / 1000,
            "the clock was set: pushes that wait are due as long from now as before"
        );
        let mut tx = self.database.begin_writing().await?;
        sqlx::query(MOVE_WAITING)
            .bind(by_ms)
            .bind(before_ms.saturating_add(GATHER_AT_MOST_MS))
            .bind(longest_ms())
            .execute(&mut *tx)
            .await?;
        for moves in [MOVE_ACCEPTED, MOVE_HELD] {
            sqlx::query(moves).bind(by_ms).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// What was written in a time that has not come is as old as now.
    pub(super) async fn return_pushes(&self, now_ms: i64) -> Result<()> {
        let after_ms = now_ms.saturating_add(SKEW_MS);
        let ahead = sqlx::query(AHEAD).bind(after_ms);
        let ahead = ahead.fetch_optional(&self.database.pool).await?;
        if ahead.is_none() {
            return Ok(());
        }
        let mut tx = self.database.begin_writing().await?;
        sqlx::query(RETURN_WAITING)
            .bind(now_ms)
            .bind(after_ms)
            .bind(longest_ms())
            .execute(&mut *tx)
            .await?;
        for returns in [RETURN_ACCEPTED, RETURN_HELD] {
            sqlx::query(returns)
                .bind(now_ms)
                .bind(after_ms)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// How far a deadline is from when a push was written, unless that waits for the end of quiet
/// hours.
fn longest_ms() -> i64 {
    deadline_ms().saturating_add(GATHER_AT_MOST_MS)
}
