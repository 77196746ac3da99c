//! Records that a queue (lane) misses while it is behind: noted as stretches, from the first record
//! of a partition to the last one, until its ranges grow by them (`defer_missed`).

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::lane::Lane;
use crate::ledger::TopicPartition;
use crate::locks::Lock;

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
    /// Whether the lane is behind: whatever is read for it now is missed.
    pub(crate) is_open: bool,
    pub(crate) stretches: Vec<Stretch>,
    /// How many threads have taken stretches out of here, and are deferring them at this moment.
    pub(crate) deferring: usize,
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
    /// Notes a record that the lane misses, if it is behind.
    pub(crate) fn note(&mut self, of: &TopicPartition, offset: u64) -> Noted {
        if !self.is_open {
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

/// Lanes that miss something.
#[derive(Debug)]
pub(crate) struct AllMissed {
    /// How many lanes are behind, so that nothing has to be looked up where none is.
    pub(crate) open: AtomicUsize,
    /// Lanes with stretches that are to be deferred.
    pub(crate) lanes: Lock<Vec<Arc<Lane>>>,
}

impl Default for AllMissed {
    fn default() -> Self {
        Self {
            open: AtomicUsize::new(0),
            lanes: Lock::new("missing", Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests;
