//! Order by key: which keys have deliveries in the ledger (the database) besides those in the queue
//! of the endpoint, and when such a key is free again.
//!
//! What joins it is written some time later, so what the ledger says about a key counts only when
//! everything that was noted of the key had been written before it was asked.

use dovecast_notification::OrderKey;

use super::{Line, Order};

/// What the ledger owes of a key, besides what is here.
#[derive(Debug, Default)]
pub(super) struct Owes {
    /// Whether deliveries are owed; else only something has still to be written.
    pub(super) has_rows: bool,
    /// Deliveries that are about to be given to the recorder.
    pub(super) unrecorded: u32,
    /// The batch of the recorder with which everything is written.
    pub(super) batch: u64,
    /// Changes when anything is noted of it.
    pub(super) note: u64,
}

/// A key that owes something, at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owing {
    pub(crate) key: OrderKey,
    note: u64,
}

impl Owes {
    pub(super) fn is_written(&self, written: u64) -> bool {
        self.unrecorded == 0 && self.batch <= written
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

    /// Deliveries that have joined what is owed are with the recorder, which writes them with this
    /// batch at the latest.
    pub(crate) fn joined(&mut self, key: OrderKey, deliveries: u32, batch: u64) {
        if let Some(line) = self.lines.get_mut(&key)
            && let Some(owes) = &mut line.owes
        {
            owes.unrecorded = owes.unrecorded.saturating_sub(deliveries);
            owes.batch = owes.batch.max(batch);
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
