//! Counters of one script.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use dovecast_lua_host::wire::Done;

/// Counters of a script since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LuaStats {
    /// Transactions that were handled to their end.
    pub transactions: u64,
    /// Functions that were called.
    pub calls: u64,
    /// Errors of functions.
    pub errors: u64,
    /// Errors that were told one by one, by the function that dovecast has called.
    pub errors_by_function: BTreeMap<String, u64>,
    /// Processes that were started.
    pub starts: u64,
    /// Processes that were not ready, or whose script could not be loaded.
    pub load_failures: u64,
    /// Processes that died, or were killed.
    pub deaths: u64,
    /// Processes among them that were late.
    pub late: u64,
    /// Times that the script had changed.
    pub reloads: u64,
    /// Lines that the script has logged or printed, and that were dropped.
    pub dropped_lines: u64,
    /// What the interpreter had allocated last, in bytes.
    pub memory_bytes: u64,
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    transactions: AtomicU64,
    calls: AtomicU64,
    errors: AtomicU64,
    errors_by_function: Mutex<BTreeMap<String, u64>>,
    starts: AtomicU64,
    load_failures: AtomicU64,
    deaths: AtomicU64,
    late: AtomicU64,
    reloads: AtomicU64,
    dropped_lines: AtomicU64,
    memory_bytes: AtomicU64,
}

impl Counters {
    pub(super) fn stats(&self) -> LuaStats {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        LuaStats {
            transactions: of(&self.transactions),
            calls: of(&self.calls),
            errors: of(&self.errors),
            errors_by_function: self
                .errors_by_function
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            starts: of(&self.starts),
            load_failures: of(&self.load_failures),
            deaths: of(&self.deaths),
            late: of(&self.late),
            reloads: of(&self.reloads),
            dropped_lines: of(&self.dropped_lines),
            memory_bytes: of(&self.memory_bytes),
        }
    }

    pub(super) fn transactions(&self, is_last: bool) {
        self.transactions.fetch_add(u64::from(is_last), Relaxed);
    }

    pub(super) fn started(&self) {
        self.starts.fetch_add(1, Relaxed);
    }

    pub(super) fn not_loaded(&self) {
        self.load_failures.fetch_add(1, Relaxed);
    }

    pub(super) fn died(&self) {
        self.deaths.fetch_add(1, Relaxed);
    }

    pub(super) fn late(&self) {
        self.late.fetch_add(1, Relaxed);
    }

    pub(super) fn reloaded(&self) {
        self.reloads.fetch_add(1, Relaxed);
    }

    pub(super) fn dropped_lines(&self, lines: u64) {
        self.dropped_lines.fetch_add(lines, Relaxed);
    }

    pub(super) fn told(&self, done: &Done) {
        self.calls.fetch_add(done.calls, Relaxed);
        let told = u64::try_from(done.errors.len()).unwrap_or(u64::MAX);
        let errors = told.saturating_add(done.more_errors);
        self.errors.fetch_add(errors, Relaxed);
        if !done.errors.is_empty() {
            // The names are those of the functions that there may be: sixteen.
            let by_function = self.errors_by_function.lock();
            let mut by_function = by_function.unwrap_or_else(PoisonError::into_inner);
            for error in &done.errors {
                *by_function.entry(error.function.clone()).or_default() += 1;
            }
        }
        self.dropped_lines(done.dropped_lines);
        self.memory_bytes.store(done.memory_bytes, Relaxed);
    }
}
