//! Order by key: which keys have deliveries in the ledger (the database) besides those in the queue
//! of the endpoint, and when such a key is free again.
//!
//! What joins it is written some time later. So that a key is free counts only when everything that
//! was noted of the key had been written before the ledger was asked; and what was claimed of it,
//! when everything had been that stands before that in the log. What comes behind holds it back no
//! longer: of a key of which more and more comes there is always something unwritten.

use std::collections::VecDeque;

use dovecast_notification::OrderKey;

use super::{Line, Order};

/// Batches of which the first unwritten offset of a key is known each; those before are one.
const BATCHES: usize = 8;

/// What the ledger owes of a key, besides what is here.
#[derive(Debug, Default)]
pub(super) struct Owes {
    /// Whether deliveries are owed; else only something has still to be written.
    pub(super) has_rows: bool,
    /// Deliveries that are about to be given to the recorder.
    unrecorded: u32,
    /// The batch of the recorder with which everything is written.
    batch: u64,
    /// Offset of the first of those that are about to be given to it.
    first_unrecorded: Option<u64>,
    /// Batches with which something is written, and the first offset of each, the oldest first.
    first_of_batches: VecDeque<(u64, u64)>,
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

    /// A delivery is about to be given to the recorder.
    pub(super) fn joins(&mut self, offset: Option<u64>) {
        self.unrecorded += 1;
        let first = self.first_unrecorded.into_iter().chain(offset).min();
        self.first_unrecorded = first;
    }

    /// Deliveries, so many, are with the recorder, which writes them with this batch at the latest.
    fn joined(&mut self, deliveries: u32, batch: u64) {
        let first = self.first_unrecorded;
        self.unrecorded = self.unrecorded.saturating_sub(deliveries);
        if self.unrecorded == 0 {
            self.first_unrecorded = None;
        }
        self.is_noted(first.unwrap_or(0), batch);
    }

    /// The recorder writes what is from this offset on with this batch at the latest.
    pub(super) fn is_noted(&mut self, first: u64, batch: u64) {
        self.batch = self.batch.max(batch);
        let of_batches = &mut self.first_of_batches;
        match of_batches.back_mut() {
            Some((last, of_last)) if *last >= batch => *of_last = first.min(*of_last),
            _ => of_batches.push_back((batch, first)),
        }
        if of_batches.len() > BATCHES
            && let Some((_, before)) = of_batches.pop_front()
            && let Some((_, first)) = of_batches.front_mut()
        {
            *first = before.min(*first);
        }
    }

    /// The first offset of the key that was noted and is not written with these batches.
    fn first_unwritten(&self, written: u64) -> Option<u64> {
        let unwritten = self.first_of_batches.iter();
        let unwritten = unwritten.filter(|(batch, _)| *batch > written);
        let unwritten = unwritten.map(|(_, first)| *first);
        unwritten.chain(self.first_unrecorded).min()
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

    /// Whether what was claimed of a key, up to this offset, is the first of it: whether everything
    /// was written before that stands before it.
    pub(crate) fn accepts(&self, key: OrderKey, last: u64, written: u64) -> bool {
        let owes = self.lines.get(&key).and_then(|line| line.owes.as_ref());
        let first = owes.and_then(|owes| owes.first_unwritten(written));
        first.is_none_or(|first| first > last)
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
            owes.joined(deliveries, batch);
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
