//! What the log has counted since it was opened.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::Appended;

/// Upper bounds of the histogram's buckets, in microseconds; beyond the last is one more.
pub const COMMIT_BUCKETS_US: [u64; 10] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000,
];

/// Counters, as they are counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) appended: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) errors: AtomicU64,
    /// Whether the last records could not be written.
    pub(super) is_failing: AtomicBool,
    pub(super) damaged: AtomicU64,
    pub(super) retention_errors: AtomicU64,
    pub(super) removed: AtomicU64,
    pub(super) removed_unread: AtomicU64,
    pub(super) commit_us: Histogram,
}

impl Counters {
    /// Records cannot be written, or nothing can.
    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.is_failing.store(true, Ordering::Relaxed);
    }

    pub(super) fn count(&self, appended: &Appended) {
        self.appended
            .fetch_add(appended.appended as u64, Ordering::Relaxed);
        self.duplicates
            .fetch_add(appended.duplicates as u64, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> EmbeddedStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EmbeddedStats {
            commits: load(&self.commits),
            appended: load(&self.appended),
            duplicates: load(&self.duplicates),
            errors: load(&self.errors),
            is_failing: self.is_failing.load(Ordering::Relaxed),
            damaged: load(&self.damaged),
            retention_errors: load(&self.retention_errors),
            removed: load(&self.removed),
            removed_unread: load(&self.removed_unread),
            commit_buckets: std::array::from_fn(|i| load(&self.commit_us.buckets[i])),
            commit_sum_us: load(&self.commit_us.sum_us),
            removed_of_keys: BTreeMap::new(),
            bytes: 0,
        }
    }
}

/// How long commits took.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; COMMIT_BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    pub(super) fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = COMMIT_BUCKETS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

/// Counters of a log, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedStats {
    /// Transactions that are on the disk.
    pub commits: u64,
    /// Records in them.
    pub appended: u64,
    /// Records that were there already.
    pub duplicates: u64,
    /// Transactions that failed.
    pub errors: u64,
    /// Whether records cannot be written, as far as anybody has tried.
    pub is_failing: bool,
    /// Batches that were found damaged.
    pub damaged: u64,
    /// Times that old records could not be removed.
    pub retention_errors: u64,
    /// Records that retention has removed.
    pub removed: u64,
    /// Records among them that a consumer group had not read.
    pub removed_unread: u64,
    /// Records among them, by topic, that went from between others, as their key had more than any
    /// other of its partition.
    pub removed_of_keys: BTreeMap<String, u64>,
    /// Commits that took as long as [`COMMIT_BUCKETS_US`] says, not those of the buckets before;
    /// the last took longer.
    pub commit_buckets: [u64; COMMIT_BUCKETS_US.len() + 1],
    /// How long all commits took together.
    pub commit_sum_us: u64,
    /// What all batches take now.
    pub bytes: u64,
}
