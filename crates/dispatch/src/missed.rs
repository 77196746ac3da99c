//! Records that endpoints miss which are behind: noted by the consumer at the price of a look, and
//! deferred to the ranges of their queues (lanes) all at once.
//!
//! A notification may be for thousands of endpoints that are behind. All that becomes of it there
//! is that a range of the log grows, so the consumer takes no lane's state: it notes the first and
//! the last record of a stretch that the lane misses. The recorder has the ranges grow by these
//! stretches before it takes what it writes, so no offset of them is committed before the ranges
//! are written. Records in a stretch that are not for the endpoint are left out when the range is
//! read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dovecast_log::Log;

use crate::endpoint::Endpoint;
use crate::lane::{Lane, Shed, State};
use crate::ledger::{Ledger, TopicPartition};
use crate::live::Live;
use crate::locks::Lock;
use crate::panics::caught_now;
use crate::shared::Shared;
use crate::stats::count;
use crate::trace;

/// Lanes that are looked up together.
const LANES_AT_A_TIME: usize = 64;

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
    is_open: bool,
    stretches: Vec<Stretch>,
    /// How many threads have taken stretches out of here, and are deferring them at this moment.
    deferring: usize,
}

/// The answer to whether a lane misses a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    /// The record is noted; `is_first`: nothing else was.
    Yes { is_first: bool },
    /// The record has to be offered.
    No,
    /// The log has gone back: the record has to be offered, behind what was noted before.
    Back,
}

impl Missed {
    fn note(&mut self, of: &TopicPartition, offset: u64) -> Noted {
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
    open: AtomicUsize,
    /// Lanes with stretches that are to be deferred.
    lanes: Lock<Vec<Arc<Lane>>>,
}

impl Default for AllMissed {
    fn default() -> Self {
        Self {
            open: AtomicUsize::new(0),
            lanes: Lock::new("missing", Vec::new()),
        }
    }
}

impl State {
    /// Has the ranges grow by what was missed.
    fn miss(&mut self, stretches: &[Stretch]) -> Shed {
        self.used = Instant::now();
        let mut shed = self.fall_behind();
        for stretch in stretches {
            if self.gate.endpoint().is_ordered {
                // In order since then: what comes before them is asked for.
                self.order.doubt(Some(&stretch.of));
                self.behind.get_or_insert_default().ask(stretch.of.clone());
            }
            for offset in [stretch.first, stretch.last] {
                self.grow(&mut shed, (&stretch.of.topic, stretch.of.partition), offset);
            }
        }
        shed
    }
}

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// Notes that a lane is behind: until it has caught up whatever is read for it is missed.
    pub(crate) fn is_missing(&self, lane: &Lane) {
        let was_open = std::mem::replace(&mut lane.missed.lock().is_open, true);
        if !was_open {
            self.missed.open.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Notes a notification for the endpoints that are behind, and takes those out of the list.
    pub(crate) fn note_missed(self: &Arc<Self>, live: &Live, wanted: &mut Vec<Arc<Endpoint>>) {
        if self.missed.open.load(Ordering::Acquire) == 0 {
            return;
        }
        let of = TopicPartition {
            topic: Arc::clone(&live.topic),
            partition: live.partition,
        };
        let mut others = Vec::new();
        for endpoints in wanted.chunks(LANES_AT_A_TIME) {
            let lanes: Vec<Option<Arc<Lane>>> = {
                let lanes = self.lanes();
                let lane = |endpoint: &Arc<Endpoint>| {
                    let may_be_behind = endpoint.is_active && !endpoint.is_ordered;
                    let lane = may_be_behind.then(|| lanes.get(&endpoint.id))?;
                    lane.cloned()
                };
                endpoints.iter().map(lane).collect()
            };
            for (endpoint, lane) in endpoints.iter().zip(lanes) {
                let noted = match &lane {
                    Some(lane) => lane.missed.lock().note(&of, live.offset),
                    None => Noted::No,
                };
                match (noted, lane) {
                    (Noted::Yes { is_first }, Some(lane)) => {
                        if is_first {
                            self.missed.lanes.lock().push(lane);
                        }
                        trace::deferred(&live.span, endpoint.id);
                    }
                    (Noted::Back, Some(lane)) => {
                        self.defer_missed(&lane);
                        others.push(Arc::clone(endpoint));
                    }
                    _ => others.push(Arc::clone(endpoint)),
                }
            }
        }
        *wanted = others;
    }

    /// Has the ranges of all lanes grow by what they have missed; `false`: not of all.
    pub(crate) fn defer_all_missed(&self) -> bool {
        let missing = std::mem::take(&mut *self.missed.lanes.lock());
        let mut are_all_deferred = true;
        for lane in missing {
            are_all_deferred &= self.defer_missed(&lane);
        }
        are_all_deferred
    }

    /// Whether a lane that has read all of its ranges has missed nothing since: then everything is
    /// offered to it from now on. Else its ranges grow by what it has missed.
    pub(crate) fn has_missed_nothing(&self, lane: &Arc<Lane>) -> bool {
        let (was_open, has_missed) = {
            let mut missed = lane.missed.lock();
            if missed.deferring > 0 {
                return false;
            }
            let was_open = std::mem::take(&mut missed.is_open);
            (was_open, !missed.stretches.is_empty())
        };
        if was_open {
            self.missed.open.fetch_sub(1, Ordering::AcqRel);
        }
        if has_missed {
            self.defer_missed(lane);
        }
        !has_missed
    }

    /// Has the ranges of a lane grow by what it has missed. `false`: not by all of it, because that
    /// has failed, or because another thread is about it and has not come to its end.
    fn defer_missed(&self, lane: &Arc<Lane>) -> bool {
        let (mut stretches, others) = {
            let mut missed = lane.missed.lock();
            let others = missed.deferring;
            missed.deferring += 1;
            (std::mem::take(&mut missed.stretches), others)
        };
        let deferred = caught_now(|| self.miss(lane, &stretches));
        if deferred.is_ok() {
            stretches.clear();
        }
        {
            let mut missed = lane.missed.lock();
            missed.deferring -= 1;
            // What is newer is behind these.
            missed.stretches.splice(0..0, stretches);
        }
        if let Err(panicked) = &deferred {
            self.panicked("missed", panicked);
        }
        let are_all = deferred.is_ok() && others == 0;
        if !are_all {
            self.missed.lanes.lock().push(Arc::clone(lane));
        }
        are_all
    }

    fn miss(&self, lane: &Arc<Lane>, stretches: &[Stretch]) {
        if stretches.is_empty() {
            return;
        }
        let records = stretches.iter().map(|stretch| stretch.records).sum();
        let missed = |state: &mut State| state.miss(stretches);
        // Another lane may be the endpoint's by now.
        let own = lane.unless_retired(missed);
        let (lane, shed) = match own {
            Some(shed) => (Arc::clone(lane), shed),
            None => match self.directory.endpoint(lane.id) {
                Some(endpoint) => self.with_lane(&endpoint, missed),
                None => {
                    count(&self.counters.dropped, records);
                    return;
                }
            },
        };
        count(&self.counters.deferred, records);
        self.deferred(&lane, shed);
    }
}

#[cfg(test)]
mod tests;
