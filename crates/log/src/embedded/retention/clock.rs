//! The time that age is measured against: a clock that is set ahead ages no record at once.
//!
//! The retention clock follows the time of day, and is never ahead of it, but moves on at most
//! [`CATCH_UP`] times as fast as time does by the steady clock. It is a mark in the log: after a
//! restart it goes on where it was, so what grew old while no process ran stays a while longer, and
//! nothing goes early.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::super::Mark;
use super::super::additions::write_mark;

/// How many times faster than time the clock may move, so that it comes up with what has passed
/// while no process ran. A time of day that is wrong for an hour costs four hours of the oldest
/// records.
const CATCH_UP: u32 = 4;
/// Milliseconds that the time of day may gain on the steady clock between two steps without being a
/// clock that was set: more than what the kernel slews, and than what two steps are apart.
const SKEW_MS: i64 = 60_000;
/// Milliseconds that the clock moves before its mark is written anew: each is a commit of the log.
const MARK_INTERVAL_MS: i64 = 60_000;
const MARK: &str = "retention clock";

/// What the clocks of the machine say.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Now {
    /// Milliseconds since the epoch.
    pub(super) time_ms: i64,
    pub(super) steady: Instant,
}

impl Now {
    pub(in super::super) fn read() -> Self {
        Self {
            time_ms: crate::now_ms(),
            steady: Instant::now(),
        }
    }
}

/// The retention clock of one log.
#[derive(Debug)]
pub(in super::super) struct RetentionClock {
    /// When it was looked at last.
    looked: Now,
    /// Milliseconds since the epoch. `None`: the mark was not read yet.
    time_ms: Option<i64>,
    /// What the mark says.
    marked_ms: Option<i64>,
    /// How long it has been behind the time of day, since that was set last.
    behind: Duration,
}

impl RetentionClock {
    pub(in super::super) fn new(now: Now) -> Self {
        Self {
            looked: now,
            time_ms: None,
            marked_ms: None,
            behind: Duration::ZERO,
        }
    }

    /// The clock's time, moved on to now. `oldest_ms`: the time of the oldest record, which begins
    /// the clock of a log that has no mark: it has to be as old as is kept before anything goes.
    pub(super) fn go_on(
        &mut self,
        now: Now,
        connection: &Connection,
        age_ms: i64,
        oldest_ms: Option<i64>,
    ) -> rusqlite::Result<i64> {
        let before_ms = if let Some(time_ms) = self.time_ms {
            time_ms
        } else {
            self.marked_ms = read(connection)?;
            let begun_ms = || oldest_ms.map_or(now.time_ms, |oldest| oldest.saturating_add(age_ms));
            self.marked_ms.unwrap_or_else(begun_ms)
        };
        let passed = now.steady.saturating_duration_since(self.looked.steady);
        let gained_ms = now.time_ms.saturating_sub(self.looked.time_ms);
        let was_set = gained_ms > millis(passed).saturating_add(SKEW_MS);
        self.behind = if was_set {
            Duration::ZERO
        } else {
            self.behind.saturating_add(passed)
        };
        self.looked = now;
        let moved_ms = before_ms.saturating_add(millis(passed.saturating_mul(CATCH_UP)));
        // What was in the log when the clock was set is as old by now as is kept, whatever its
        // times say: a clock that was right again after decades would otherwise keep it for years.
        let is_behind_for_long = millis(self.behind) >= age_ms;
        let time_ms = if moved_ms >= now.time_ms || is_behind_for_long {
            self.behind = Duration::ZERO;
            now.time_ms
        } else {
            moved_ms
        };
        self.time_ms = Some(time_ms);
        Ok(time_ms)
    }

    /// Writes the mark, where it is due. Whether it was is for [`Self::marked`], behind the commit.
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<i64>> {
        let is_fresh = |marked: i64| {
            self.time_ms
                .is_some_and(|time| time.abs_diff(marked) < MARK_INTERVAL_MS.cast_unsigned())
        };
        let Some(time_ms) = self
            .time_ms
            .filter(|_| !self.marked_ms.is_some_and(is_fresh))
        else {
            return Ok(None);
        };
        let mark = Mark {
            name: MARK.to_owned(),
            value: time_ms.max(0).cast_unsigned(),
        };
        write_mark(transaction, Some(&mark))?;
        Ok(Some(time_ms))
    }

    /// The mark that was written is committed.
    pub(super) fn marked(&mut self, written_ms: Option<i64>) {
        self.marked_ms = written_ms.or(self.marked_ms);
    }
}

fn read(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .query_row("SELECT value FROM mark WHERE name = ?1", [MARK], |row| {
            row.get(0)
        })
        .optional()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
