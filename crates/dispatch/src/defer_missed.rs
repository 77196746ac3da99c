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
use std::time::Instant;

use dovecast_log::Log;

use crate::endpoint::Endpoint;
use crate::lane::{Lane, Shed, State};
use crate::ledger::{Ledger, TopicPartition};
use crate::live::Live;
use crate::matching::Found;
use crate::missed::{Deferring, Noted, Stretch};
use crate::panics::caught_now;
use crate::shared::Shared;
use crate::stats::count;
use crate::trace;

/// Lanes that are looked up together.
const LANES_AT_A_TIME: usize = 64;

impl State {
    /// Has the ranges grow by what was missed.
    pub(crate) fn miss(&mut self, stretches: &[Stretch]) -> Shed {
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
    /// Notes a notification for the endpoints that are behind, and takes those out of what was
    /// found. Those whose conditions are costly, too: the range is read with its condition, and
    /// what is noted may not be overtaken by what is left to the range.
    pub(crate) fn note_missed(&self, live: &Live, found: &mut Found) {
        if !self.missed.is_any_open() {
            return;
        }
        let wanted = self.not_missed(live, &found.wanted, |endpoint| endpoint);
        let costly = self.not_missed(live, &found.costly, |(endpoint, _)| endpoint);
        (found.wanted, found.costly) = (wanted, costly);
    }

    /// Notes a notification for those that are behind, and gives the others.
    fn not_missed<T: Clone>(
        &self,
        live: &Live,
        all: &[T],
        endpoint: impl Fn(&T) -> &Arc<Endpoint>,
    ) -> Vec<T> {
        let of = TopicPartition {
            topic: Arc::clone(&live.topic),
            partition: live.partition,
        };
        let mut others = Vec::new();
        for some in all.chunks(LANES_AT_A_TIME) {
            let lanes: Vec<Option<Arc<Lane>>> = {
                let lanes = self.lanes();
                let lane = |one: &T| {
                    let endpoint = endpoint(one);
                    let may_be_behind = !endpoint.takes_nothing() && !endpoint.is_ordered;
                    let lane = may_be_behind.then(|| lanes.get(&endpoint.id))?;
                    lane.cloned()
                };
                some.iter().map(lane).collect()
            };
            for (one, lane) in some.iter().zip(lanes) {
                let noted = match &lane {
                    Some(lane) => lane.missed.lock().note(&of, live.offset),
                    None => Noted::No,
                };
                match (noted, lane) {
                    (Noted::Yes { is_first }, Some(lane)) => {
                        let id = lane.id;
                        if is_first {
                            self.missed.push(lane);
                        }
                        trace::deferred(&live.span, id);
                    }
                    (Noted::Back, Some(lane)) => {
                        self.defer_missed(&lane);
                        others.push(one.clone());
                    }
                    _ => others.push(one.clone()),
                }
            }
        }
        others
    }

    /// Has the ranges of all lanes grow by what they have missed; `false`: not of all.
    pub(crate) fn defer_all_missed(&self) -> bool {
        let mut are_all_deferred = true;
        for lane in self.missed.take() {
            are_all_deferred &= self.defer_missed(&lane);
        }
        are_all_deferred
    }

    /// Whether a lane that has read all of its ranges has missed nothing since: then everything is
    /// offered to it from now on. Else its ranges grow by what it has missed, and what is read
    /// meanwhile is noted behind that.
    pub(crate) fn has_missed_nothing(&self, lane: &Arc<Lane>) -> bool {
        {
            let mut missed = lane.missed.lock();
            if missed.is_being_deferred() {
                return false;
            }
            if missed.close_if_empty() {
                return true;
            }
        }
        self.defer_missed(lane);
        false
    }

    /// Has the ranges of a lane grow by what it has missed. `false`: not by all of it, because that
    /// has failed, or because another thread is about it and has not come to its end.
    fn defer_missed(&self, lane: &Arc<Lane>) -> bool {
        let deferring = Deferring::begin(lane);
        let is_alone = deferring.is_alone();
        let deferred = caught_now(|| self.miss(lane, deferring.stretches()));
        let are_all = match deferred {
            Ok(()) => {
                deferring.done();
                is_alone
            }
            Err(panicked) => {
                drop(deferring);
                self.panicked("missed", &panicked);
                false
            }
        };
        if !are_all {
            self.missed.push(Arc::clone(lane));
        }
        are_all
    }

    fn miss(&self, lane: &Arc<Lane>, stretches: &[Stretch]) {
        if stretches.is_empty() {
            return;
        }
        let records = stretches.iter().map(|stretch| stretch.records).sum();
        let missed = |state: &mut State| state.miss(stretches);
        let (lane, shed) = if let Some(shed) = lane.unless_retired(missed) {
            (Arc::clone(lane), shed)
        } else if let Some(endpoint) = self.directory.endpoint(lane.id) {
            // Another lane is the endpoint's by now.
            self.with_lane(&endpoint, missed)
        } else {
            count(&self.counters.dropped, records);
            return;
        };
        count(&self.counters.deferred, records);
        self.deferred(&lane, shed);
    }
}
