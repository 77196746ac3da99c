//! What is in the log, as everybody in the process sees it: topics, partitions, their ends. Kept by
//! the writer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::retention::Needed;
use crate::{PartitionStatus, TopicStatus};

/// A topic. Its partitions never change.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) partitions: Vec<Partition>,
}

/// A partition. Its bounds tell only what is committed.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) id: u64,
    pub(super) number: u32,
    begin: AtomicU64,
    end: AtomicU64,
    /// Bytes of all batches there ever were, and of those that are gone.
    end_pos: AtomicU64,
    begin_pos: AtomicU64,
    /// Bytes that are gone from between its batches.
    thinned: AtomicU64,
    /// Records that were removed as their key had most of the partition.
    thinned_records: AtomicU64,
    /// The time that the last batch counted with that was removed.
    removed_ms: AtomicI64,
}

impl Partition {
    /// An empty one.
    pub(super) fn new(id: u64, number: u32) -> Self {
        Self {
            id,
            number,
            begin: AtomicU64::new(0),
            end: AtomicU64::new(0),
            end_pos: AtomicU64::new(0),
            begin_pos: AtomicU64::new(0),
            thinned: AtomicU64::new(0),
            thinned_records: AtomicU64::new(0),
            removed_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// Bytes of its batches.
    pub(super) fn bytes(&self) -> u64 {
        let all = self
            .end_pos()
            .saturating_sub(self.begin_pos.load(Ordering::Acquire));
        all.saturating_sub(self.thinned())
    }

    /// Bytes that are gone from between its batches.
    pub(super) fn thinned(&self) -> u64 {
        self.thinned.load(Ordering::Acquire)
    }

    pub(super) fn set_thinned(&self, bytes: u64) {
        self.thinned.store(bytes, Ordering::Release);
    }

    /// Counts what was removed from between its batches, and what of that is before its first one
    /// by now.
    pub(super) fn thin(&self, removed_bytes: u64, passed_bytes: u64) {
        let thinned = self.thinned() + removed_bytes;
        self.set_thinned(thinned.saturating_sub(passed_bytes));
    }

    pub(super) fn count_thinned(&self, records: u64) {
        self.thinned_records.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn thinned_records(&self) -> u64 {
        self.thinned_records.load(Ordering::Relaxed)
    }

    pub(super) fn end_pos(&self) -> u64 {
        self.end_pos.load(Ordering::Acquire)
    }

    pub(super) fn set_begin_pos(&self, pos: u64) {
        self.begin_pos.store(pos, Ordering::Release);
    }

    pub(super) fn set_end_pos(&self, pos: u64) {
        self.end_pos.store(pos, Ordering::Release);
    }

    pub(super) fn begin(&self) -> u64 {
        self.begin.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn removed_ms(&self) -> i64 {
        self.removed_ms.load(Ordering::Acquire)
    }

    pub(super) fn set_removed_ms(&self, time_ms: i64) {
        self.removed_ms.store(time_ms, Ordering::Release);
    }

    pub(super) fn set_begin(&self, begin: u64) {
        self.begin.store(begin, Ordering::Release);
    }

    pub(super) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }
}

/// All topics.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_name: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    /// What is needed of them besides what groups have not read.
    pub(super) needed: Needed,
}

impl Topics {
    pub(super) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        let topics = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(name).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.by_name
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        let topics = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().cloned().collect()
    }

    /// Takes what was read anew for all there is, at once: nobody sees a log without its topics.
    pub(super) fn replace(&self, read: BTreeMap<Arc<str>, Arc<Topic>>) {
        let mut topics = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        *topics = read;
    }

    pub(super) fn insert(&self, topic: Arc<Topic>) {
        let mut topics = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        topics.insert(Arc::clone(&topic.name), topic);
    }

    pub(super) fn remove(&self, name: &str) {
        let mut topics = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        topics.remove(name);
    }

    pub(super) fn status(&self) -> Vec<TopicStatus> {
        let status = |topic: &Arc<Topic>| TopicStatus {
            name: topic.name.to_string(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| PartitionStatus {
                    begin: partition.begin(),
                    end: partition.end(),
                })
                .collect(),
        };
        self.all().iter().map(status).collect()
    }
}
