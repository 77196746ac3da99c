//! What is in the write-ahead file is brought into the file, and the write-ahead file is emptied of
//! what was removed.

use std::time::{Duration, Instant};

use super::Writer;
use crate::LogError;
use crate::embedded::store::Store;

/// How long what was removed may stay in the write-ahead file of a log that is never idle: half of
/// the hour that docs/operations.md says.
const TRUNCATION_LATEST: Duration = Duration::from_mins(30);
/// How long after an attempt in vain the next one is made: somebody was reading just then.
const TRUNCATION_RETRY: Duration = Duration::from_secs(1);

/// When the write-ahead file is emptied, though the log is not idle.
#[derive(Debug, Default)]
pub(super) struct Truncation {
    /// `None`: nothing was removed that the file still has.
    latest: Option<Instant>,
}

impl Truncation {
    /// Records were removed that the write-ahead file still has.
    pub(super) fn want(&mut self, now: Instant) {
        self.latest.get_or_insert(now + TRUNCATION_LATEST);
    }

    /// Whether it was put off for too long.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.latest.is_some_and(|latest| now >= latest)
    }

    /// An attempt is over.
    fn tried(&mut self, is_done: bool, now: Instant) {
        let again = now + TRUNCATION_RETRY;
        self.latest = match self.latest {
            Some(latest) if !is_done => Some(latest.max(again)),
            _ => None,
        };
    }
}

impl Writer {
    pub(super) fn checkpoint(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        if self.unchecked_bytes == 0 {
            return;
        }
        match connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            Ok(()) => self.unchecked_bytes = 0,
            // Nothing is lost: it stays in the WAL, and the next checkpoint tries again.
            Err(error) => {
                let error = self.reported(&error);
                tracing::warn!(%error, "the log's write-ahead file could not be checkpointed");
            }
        }
    }

    /// The error of a checkpoint; damage that only a checkpoint meets is seen to as well.
    fn reported(&self, error: &rusqlite::Error) -> LogError {
        let shared = &self.shared;
        shared.report(shared.store.error("checkpoint", error))
    }

    /// Empties the write-ahead file of what was removed, unless somebody reads.
    pub(super) fn truncate(&mut self) {
        let (Some(connection), Some(_)) = (&self.connection, self.truncation.latest) else {
            return;
        };
        let is_busy = Store::truncate(connection);
        if let Err(error) = &is_busy {
            let error = self.reported(error);
            tracing::warn!(%error, "the log's write-ahead file could not be emptied");
        }
        let is_done = is_busy.is_ok_and(|is_busy| !is_busy);
        self.truncation.tried(is_done, Instant::now());
    }

    pub(super) fn close(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        self.shared.pool.clear();
        let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = done {
            tracing::warn!(%error, "the log's write-ahead file could not be checkpointed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_never_idle_is_truncated_all_the_same() {
        let begin = Instant::now();
        let mut truncation = Truncation::default();
        assert!(!truncation.is_overdue(begin + 2 * TRUNCATION_LATEST));
        truncation.want(begin);
        // More was removed, which does not put it off.
        truncation.want(begin + TRUNCATION_LATEST / 2);
        assert!(!truncation.is_overdue(begin));
        let late = begin + TRUNCATION_LATEST;
        assert!(truncation.is_overdue(late));
        truncation.tried(false, late);
        assert!(!truncation.is_overdue(late));
        let late = late + TRUNCATION_RETRY;
        assert!(truncation.is_overdue(late));
        truncation.tried(true, late);
        assert!(!truncation.is_overdue(late + 2 * TRUNCATION_LATEST));
        // An attempt of an idle log comes before, and changes nothing if it is in vain.
        truncation.want(begin);
        truncation.tried(false, begin);
        assert!(!truncation.is_overdue(begin + TRUNCATION_RETRY));
        assert!(truncation.is_overdue(begin + TRUNCATION_LATEST));
    }
}
