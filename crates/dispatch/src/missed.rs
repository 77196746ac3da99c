//! Records that a queue (lane) misses while it is behind: noted as stretches, from the first record
//! of a partition to the last one, until its ranges grow by them (`defer_missed`).

use std::sync::Arc;

use crate::lane::Lane;
use crate::ledger::TopicPartition;
use crate::locks::Lock;
use crate::permits::{Permit, Permits};

/// From the first record of a partition to the last one that an endpoint misses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) of: TopicPartition,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// How many of the records between them are for the endpoint.
    pub(crate) records: u64,
}

/// Stretches that a lane misses, and that are not part of its ranges yet.
#[derive(Debug, Default)]
pub(crate) struct Missed {
    /// As long as the lane is behind: whatever is read for it now is missed.
    open: Option<Permit>,
    stretches: Vec<Stretch>,
    /// How many threads have taken stretches out of here, and are deferring them at this moment.
    deferring: usize,
}

/// Stretches that a thread has taken out of a lane, to have its ranges grow by them. What it has
/// not done when this is dropped the lane misses as before.
pub(crate) struct Deferring {
    lane: Arc<Lane>,
    stretches: Vec<Stretch>,
    is_alone: bool,
}

/// The answer to whether a lane misses a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// The record is noted; `is_first`: nothing else was.
    Yes { is_first: bool },
    /// The record has to be offered.
    No,
    /// The log has gone back: the record has to be offered, behind what was noted before.
    Back,
}

impl Missed {
    /// The lane is behind: until it has caught up whatever is read for it is missed.
    pub(crate) fn open(&mut self, all: &AllMissed) {
        self.open.get_or_insert_with(|| all.open.take());
    }

    /// Whatever is read for the lane is offered to it from now on.
    pub(crate) fn close(&mut self) {
        self.open = None;
    }

    /// Closes it if nothing is missed; `true`: nothing is.
    pub(crate) fn close_if_empty(&mut self) -> bool {
        let is_empty = self.deferring == 0 && self.stretches.is_empty();
        if is_empty {
            self.close();
        }
        is_empty
    }

    /// Whether another thread is deferring some of it.
    pub(crate) fn is_being_deferred(&self) -> bool {
        self.deferring > 0
    }

    /// Notes a record that the lane misses, if it is behind.
    pub(crate) fn note(&mut self, of: &TopicPartition, offset: u64) -> Noted {
        if self.open.is_none() {
            return Noted::No;
        }
        let is_first = self.stretches.is_empty();
        let mut same = self.stretches.iter_mut();
        match same.find(|stretch| stretch.of == *of) {
            Some(stretch) if offset <= stretch.last => return Noted::Back,
            Some(stretch) => {
                stretch.last = offset;
                stretch.records += 1;
            }
            None => self.stretches.push(Stretch {
                of: of.clone(),
                first: offset,
                last: offset,
                records: 1,
            }),
        }
        Noted::Yes { is_first }
    }
}

impl Deferring {
    /// Takes out what a lane misses.
    pub(crate) fn begin(lane: &Arc<Lane>) -> Self {
        let mut missed = lane.missed.lock();
        missed.deferring += 1;
        Self {
            lane: Arc::clone(lane),
            stretches: std::mem::take(&mut missed.stretches),
            is_alone: missed.deferring == 1,
        }
    }

    pub(crate) fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// Whether no other thread was deferring anything of the lane when this was begun.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// All of it is part of the lane's ranges.
    pub(crate) fn done(mut self) {
        self.stretches.clear();
    }
}

impl Drop for Deferring {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.stretches);
        let mut missed = self.lane.missed.lock();
        missed.deferring -= 1;
        // What is newer is behind these.
        missed.stretches.splice(0..0, left);
    }
}

/// Lanes that miss something.
#[derive(Debug)]
pub(crate) struct AllMissed {
    /// How many lanes are behind, so that nothing has to be looked up where none is.
    open: Permits,
    /// Lanes with stretches that are to be deferred.
    lanes: Lock<Vec<Arc<Lane>>>,
}

impl Default for AllMissed {
    fn default() -> Self {
        Self {
            open: Permits::default(),
            lanes: Lock::new("missing", Vec::new()),
        }
    }
}

impl AllMissed {
    /// Whether any lane is behind.
    pub(crate) fn is_any_open(&self) -> bool {
        self.open.is_any()
    }

    /// A lane has stretches that are to be deferred.
    pub(crate) fn push(&self, lane: Arc<Lane>) {
        self.lanes.lock().push(lane);
    }

    /// Takes out the lanes that have any.
    pub(crate) fn take(&self) -> Vec<Arc<Lane>> {
        std::mem::take(&mut *self.lanes.lock())
    }
}

#[cfg(test)]
mod tests;
