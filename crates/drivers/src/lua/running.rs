//! A process of a script that is loaded, and the transactions that have begun in it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::process::Script;
use super::transaction::Transaction;

/// A process with the script loaded.
pub(super) struct Running {
    pub(super) script: Script,
    pub(super) since: Instant,
    /// Transactions that have begun, and when they were last heard of.
    pub(super) open: HashMap<String, Instant>,
    pub(super) is_traced: bool,
    /// Whether the script keeps so much that there is no room for what comes next.
    pub(super) is_full: bool,
    /// Which process of the script it is.
    pub(super) number: u64,
}

impl Running {
    /// Whether a function has all its time until then. A process that was there `began` is asked
    /// in any case; one that took long to load is kept for the next attempt.
    pub(super) fn has_time(&self, began: Instant, until: Instant, limit: Duration) -> bool {
        self.since < began || Instant::now() + limit <= until
    }

    /// Remembers whether a transaction is open.
    pub(super) fn note(&mut self, transaction: &Transaction, has_failed: bool) {
        if transaction.is_last || has_failed {
            self.open.remove(&transaction.id);
        } else {
            self.open.insert(transaction.id.clone(), Instant::now());
        }
    }
}
