//! A transaction whose earlier parts are handed over again, to a process that has not seen them:
//! how far that is, where it takes longer than one attempt may.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::lua::Handled;

/// Transactions that are being handed over again, by their ids. A script is asked one thing at a
/// time, but several users may have one.
#[derive(Debug, Default)]
pub(super) struct Repeating(Mutex<HashMap<String, Progress>>);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Progress {
    process: u64,
    /// Parts that this process has taken.
    done: usize,
}

impl Repeating {
    /// How many parts of a transaction the process with this number has taken in attempts before;
    /// from now on nothing is known of it.
    pub(super) fn done(&self, transaction: &str, process: Option<u64>) -> usize {
        let known = self.lock().remove(transaction);
        let known = known.filter(|progress| Some(progress.process) == process);
        known.map_or(0, |progress| progress.done)
    }

    /// The next attempt goes on behind so many parts.
    pub(super) fn note(&self, transaction: &str, process: Option<u64>, done: usize) {
        let Some(process) = process else {
            return;
        };
        let mut known = self.lock();
        // As many as may be open in one process.
        known.retain(|_, progress| progress.process == process);
        known.insert(transaction.to_owned(), Progress { process, done });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is time for another part until then, where the longest one took so long.
pub(super) fn is_time(until: Instant, longest: Duration) -> bool {
    Instant::now() + 2 * longest <= until
}

/// The next attempt goes on: the script has failed with nothing.
pub(super) fn goes_on(done: usize, of: usize) -> Handled {
    Handled::Failed {
        reason: format!(
            "the script is handed over what it has taken before its process died: {done} of {of} parts, and goes on at the next attempt"
        ),
        // Not in this attempt: its time is over.
        retry_after: None,
        was_called: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_has_taken_is_known_of_that_process_and_transaction() {
        let repeating = Repeating::default();
        repeating.note("a", Some(1), 7);
        repeating.note("b", Some(1), 3);
        assert_eq!(repeating.done("c", Some(1)), 0);
        assert_eq!(repeating.done("a", Some(1)), 7);
        assert_eq!(repeating.done("b", Some(1)), 3);
        assert_eq!(repeating.done("a", Some(1)), 0, "known once");
        repeating.note("a", Some(1), 7);
        assert_eq!(repeating.done("a", Some(2)), 0);
        repeating.note("a", None, 7);
        assert_eq!(repeating.done("a", None), 0);
        repeating.note("a", Some(1), 7);
        repeating.note("b", Some(2), 1);
        assert_eq!(repeating.done("a", Some(1)), 0, "its process is gone");
    }
}
