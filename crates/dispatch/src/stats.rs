//! What the dispatcher has done, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::timings::{Counting, Timings};

/// Counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records read.
    pub records: u64,
    /// Records that were no notification.
    pub bad_records: u64,
    /// Records that were no notification and became no dead letter, because there were too many.
    pub bad_records_not_kept: u64,
    /// Places of the log that could not be read.
    pub damaged: u64,
    /// Notifications that at least one filter matched.
    pub matched: u64,
    /// Deliveries that endpoints have taken.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Deliveries that ended as dead letters.
    pub dead: u64,
    /// Dead letters that another endpoint gets instead.
    pub fallen_back: u64,
    /// Deliveries to endpoints that are not active.
    pub dropped: u64,
    /// Deliveries that were left to a range.
    pub deferred: u64,
    /// Deliveries in order that are owed because another one of their key is.
    pub held_back: u64,
    /// Deferred deliveries whose condition would have exceeded what its account may have evaluated.
    pub conditions_deferred: u64,
    /// Times that a delivery waited because its account has as many attempts as it may.
    pub account_waits: u64,
    /// Deferred deliveries for which there was no room in memory.
    pub crowded_out: u64,
    /// Conditions that were not run, because they would cost too much on a notification: they do
    /// not hold.
    pub conditions_not_run: u64,
    /// Records that the log had removed before they were read, live or in a range.
    pub expired: u64,
    /// Records of a range that lie behind the end of the log: it was made anew, truncated or
    /// restored.
    pub missing: u64,
    /// Times that the ledger could not be written or read.
    pub ledger_errors: u64,
    /// Attempts that were not noted because the ledger was away.
    pub attempts_lost: u64,
    /// Attempts that were cut off because too many hang.
    pub cut_off: u64,
    /// Times that no attempt was begun because it would have been cut off if it hung.
    pub in_vain: u64,
    /// Panics of parts of the dispatcher.
    pub panics: u64,
    /// Times that the dispatcher was begun anew after a fault.
    pub restarts: u64,
    /// Deliveries under way or waiting, now.
    pub in_flight: u64,
    /// Notifications that wait for costly conditions, now.
    pub conditions_waiting: u64,
    /// Attempts that are under way for long, now; they are owed and not in flight.
    pub hanging: u64,
    /// Bytes of notifications in memory, now.
    pub in_flight_bytes: u64,
    /// Readers that catch up, now.
    pub readers: u64,
    /// How long attempts and deliveries took.
    pub timings: Timings,
}

macro_rules! counters {
    ($($name:ident),+ $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)+
            pub(crate) timings: Counting,
        }

        impl Counters {
            pub(crate) fn stats(&self) -> Stats {
                Stats {
                    $($name: self.$name.load(Ordering::Relaxed),)+
                    timings: self.timings.read(),
                    ..Stats::default()
                }
            }
        }
    };
}

counters![
    records,
    bad_records,
    bad_records_not_kept,
    damaged,
    matched,
    delivered,
    failed,
    dead,
    fallen_back,
    dropped,
    deferred,
    held_back,
    conditions_deferred,
    conditions_not_run,
    account_waits,
    crowded_out,
    expired,
    missing,
    ledger_errors,
    attempts_lost,
    panics,
    restarts,
    cut_off,
    in_vain,
    in_flight,
    hanging,
];

/// Counts up.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
