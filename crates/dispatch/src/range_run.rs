//! Which offsets of a range of the log are done, and which are under way, while the range is
//! delivered to an endpoint.
//!
//! Its deliveries end in any order; everything before the first that has not ended is done, and
//! that is what is written down of the range.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ledger::RangeId;
use crate::locks::{Held, Lock};

/// A range that is being delivered: which of its offsets are done.
#[derive(Debug)]
pub(crate) struct RangeRun {
    pub(crate) id: RangeId,
    /// Whether another range has its name by now.
    is_void: AtomicBool,
    state: Lock<RunState>,
}

#[derive(Debug)]
struct RunState {
    /// Everything before is done.
    from: u64,
    /// What is under way, in order, and whether it is done.
    under_way: VecDeque<(u64, bool)>,
    /// Read up to here.
    read: u64,
    /// What was a probe that failed, and how often.
    probed: Option<(u64, u32)>,
}

impl RangeRun {
    pub(crate) fn new(id: RangeId, from: u64) -> Arc<Self> {
        Arc::new(Self {
            id,
            is_void: AtomicBool::new(false),
            state: Lock::new(
                "range",
                RunState {
                    from,
                    under_way: VecDeque::new(),
                    read: from,
                    probed: None,
                },
            ),
        })
    }

    pub(crate) fn void(&self) {
        self.is_void.store(true, Ordering::Release);
    }

    pub(crate) fn is_void(&self) -> bool {
        self.is_void.load(Ordering::Acquire)
    }

    fn state(&self) -> Held<MutexGuard<'_, RunState>> {
        self.state.lock()
    }

    /// A record is to be delivered.
    pub(crate) fn begin(&self, offset: u64) {
        let mut state = self.state();
        state.under_way.push_back((offset, false));
        state.read = offset + 1;
    }

    /// Everything up to here was looked at. Gives the place before which all is done, if that is
    /// news.
    pub(crate) fn read_to(&self, offset: u64) -> Option<u64> {
        let mut state = self.state();
        state.read = state.read.max(offset);
        state.advance()
    }

    /// A record is done.
    pub(crate) fn done(&self, offset: u64) -> Option<u64> {
        let mut state = self.state();
        if let Some(found) = state.under_way.iter_mut().find(|(of, _)| *of == offset) {
            found.1 = true;
        }
        state.advance()
    }

    /// Takes back what waits, but for what is behind something that does not: what was begun last,
    /// so that it is read again. Gives the first offset that was taken back.
    pub(crate) fn take_back(&self, waiting: &[(u64, u32)]) -> Option<u64> {
        let mut state = self.state();
        let mut first = None;
        while let Some((offset, false)) = state.under_way.back().copied()
            && let Some((_, probes)) = waiting.iter().find(|(of, _)| *of == offset)
        {
            state.under_way.pop_back();
            state.read = offset;
            if *probes > 0 {
                state.probed = Some((offset, *probes));
            }
            first = Some(offset);
        }
        first
    }

    /// How often a record was a probe that failed before it was taken back.
    pub(crate) fn probes(&self, offset: u64) -> u32 {
        let probed = self.state().probed;
        probed.map_or(0, |(of, probes)| if of == offset { probes } else { 0 })
    }

    pub(crate) fn under_way(&self) -> usize {
        self.state().under_way.len()
    }
}

impl RunState {
    fn advance(&mut self) -> Option<u64> {
        let before = self.from;
        while let Some((_, true)) = self.under_way.front() {
            self.under_way.pop_front();
        }
        self.from = match self.under_way.front() {
            Some((offset, _)) => *offset,
            None => self.read,
        };
        (self.from > before).then_some(self.from)
    }
}
