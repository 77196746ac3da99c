//! Order by key: which keys have deliveries in the ledger (the database) besides those in the queue
//! of the endpoint, and when such a key is free again.
//!
//! What joins it is written some time later, so what the ledger says about a key counts only when
//! everything that was noted of the key had been written before it was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dovecast_notification::OrderKey;

use super::{Line, Order};
use crate::recorder::Recorder;

/// What the ledger owes of a key, besides what is here.
#[derive(Debug, Default)]
pub(super) struct Owes {
    /// Whether deliveries are owed; else only something has still to be written.
    pub(super) has_rows: bool,
    unwritten: Arc<Unwritten>,
    /// Changes when anything is noted of it.
    pub(super) note: u64,
}

/// What has still to be written of a key.
#[derive(Debug, Default)]
struct Unwritten {
    /// Deliveries that are about to be given to the recorder.
    unrecorded: AtomicUsize,
    /// The batch of the recorder with which everything else is written.
    batch: AtomicU64,
}

/// Counts a delivery that joins what is owed until the recorder has it, and this is dropped. One
/// that is dropped by a panic is with the recorder, too (`Drop` of `Item`).
#[derive(Debug)]
pub(super) struct Unrecorded {
    unwritten: Arc<Unwritten>,
    recorder: Arc<Recorder>,
}

/// A key that owes something, at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owing {
    pub(crate) key: OrderKey,
    note: u64,
}

impl Owes {
    /// Whether everything is written, where so many batches are.
    pub(super) fn is_written(&self, written: u64) -> bool {
        // In this order: a delivery counts until the batch of it is known.
        self.unwritten.unrecorded.load(Ordering::Acquire) == 0
            && self.unwritten.batch.load(Ordering::Acquire) <= written
    }

    /// Something more of the key is written with this batch at the latest.
    pub(super) fn wait_for(&self, batch: u64) {
        self.unwritten.batch.fetch_max(batch, Ordering::AcqRel);
    }

    /// A delivery is about to be given to the recorder.
    pub(super) fn begin_recording(&self, recorder: &Arc<Recorder>) -> Unrecorded {
        self.unwritten.unrecorded.fetch_add(1, Ordering::AcqRel);
        Unrecorded {
            unwritten: Arc::clone(&self.unwritten),
            recorder: Arc::clone(recorder),
        }
    }
}

impl Drop for Unrecorded {
    fn drop(&mut self) {
        let batch = self.recorder.batch();
        self.unwritten.batch.fetch_max(batch, Ordering::AcqRel);
        self.unwritten.unrecorded.fetch_sub(1, Ordering::AcqRel);
        // The batch may be one of nothing.
        self.recorder.news.notify_one();
    }
}

impl Order {
    /// The ledger owes a delivery of a key.
    pub(crate) fn hold(&mut self, key: OrderKey) {
        self.notes += 1;
        let owes = self
            .lines
            .entry(key)
            .or_default()
            .owes
            .get_or_insert_default();
        (owes.has_rows, owes.note) = (true, self.notes);
    }

    /// Whether what was claimed of a key is the first of it: whether everything of the key was
    /// written before it was claimed.
    pub(crate) fn accepts(&self, key: OrderKey, written: u64) -> bool {
        let owes = self.lines.get(&key).and_then(|line| line.owes.as_ref());
        owes.is_none_or(|owes| owes.is_written(written))
    }

    /// All that was owed of a key is here, when nothing was noted that was not written before it
    /// was claimed.
    pub(crate) fn is_complete(&mut self, key: OrderKey, written: u64) {
        if let Some(line) = self.lines.get_mut(&key)
            && line
                .owes
                .as_ref()
                .is_some_and(|owes| owes.is_written(written))
        {
            line.owes = None;
        }
    }

    /// Keys that owe something of which all is written, and of which nothing is here.
    pub(crate) fn owing(&self, written: u64) -> Vec<Owing> {
        let owing = |(key, line): (&OrderKey, &Line)| {
            let owes = line.owes.as_ref()?;
            let is_idle = !line.is_busy && line.waiting.is_empty();
            (is_idle && owes.is_written(written)).then_some(Owing {
                key: *key,
                note: owes.note,
            })
        };
        self.lines.iter().filter_map(owing).collect()
    }

    /// Nothing of a key is owed any more, if nothing was noted of it since.
    pub(crate) fn owes_nothing(&mut self, owing: &Owing) {
        if let Some(line) = self.lines.get_mut(&owing.key)
            && !line.is_busy
            && line.waiting.is_empty()
            && line
                .owes
                .as_ref()
                .is_some_and(|owes| owes.note == owing.note)
        {
            line.owes = None;
            if line.is_unused() {
                self.lines.remove(&owing.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::assembling::Ends;
    use super::super::tests::{item, place};
    use super::*;
    use crate::clock::Clock;
    use crate::lane::order::Entered;

    #[test]
    fn a_key_waits_for_what_was_dropped_before_it_has_joined_until_that_is_written() {
        let recorder = Arc::new(Recorder::new(&Clock::default()));
        let mut order = Order::default();
        let key = place(1, 0).key;
        order.hold(key);
        let newer = item(&recorder, place(1, 1), false);
        let Entered::Joins(joining) = order.enter(newer, 0, Ends::Awaited) else {
            panic!("something is owed");
        };
        assert!(
            !order.accepts(key, u64::MAX),
            "the recorder does not have it"
        );
        // As by a panic.
        drop(joining);
        let batch = recorder.batch();
        assert!(!order.accepts(key, batch - 1) && order.accepts(key, batch));
    }
}
