//! Offers deliveries to lanes, and writes down what is owed instead of being made.
//!
//! No two locks are held at a time (`locks`), so each function here goes from one to the next:
//! first the lane decides, then the recorder hears of it, then the lane is told that the recorder
//! knows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::Log;

use crate::behind::Growth;
use crate::endpoint::Endpoint;
use crate::item::{Item, RangeRun};
use crate::lane::{Lane, Offered, State};
use crate::ledger::{Ledger, RangeId};
use crate::shared::Shared;
use crate::stats::count;
use crate::{catch_up, trace, worker};

/// When a delivery that cannot be made now is asked for again.
pub(crate) const NOT_NOW: Duration = Duration::from_secs(5);

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// Does something with the lane of an endpoint, which is told what the endpoint is now.
    fn with_lane<R>(
        &self,
        endpoint: &Arc<Endpoint>,
        act: impl FnOnce(&mut State) -> R,
    ) -> (Arc<Lane>, R) {
        loop {
            let lane = self.lane(endpoint);
            let mut state = lane.state();
            if !state.is_retired() {
                state.gate.follow(endpoint);
                let done = act(&mut state);
                drop(state);
                return (lane, done);
            }
            drop(state);
            self.forget(&lane);
        }
    }

    /// Takes a retired lane out.
    pub(crate) fn forget(&self, retired: &Arc<Lane>) {
        let mut lanes = self.lanes();
        if lanes
            .get(&retired.id)
            .is_some_and(|lane| Arc::ptr_eq(lane, retired))
        {
            lanes.remove(&retired.id);
        }
    }

    /// Offers what was just read from the log; gives it back where its lane is full and drains
    /// fast.
    pub(crate) fn offer_live(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        item: Item,
    ) -> Option<(Item, Arc<Lane>)> {
        let (lane, (offered, hired)) = self.with_lane(endpoint, |state| {
            let offered = state.offer_live(item);
            let hired = state.call(usize::from(matches!(offered, Offered::Queued)));
            (offered, hired)
        });
        match offered {
            Offered::Queued => self.hire(&lane, hired),
            Offered::Deferred { grown, shed } => {
                self.deferred(&lane, &grown, shed);
                catch_up::start(self, &lane);
            }
            Offered::Full(item) | Offered::NotNow(item, _) => return Some((item, lane)),
        }
        None
    }

    /// Leaves a notification to a range of an endpoint: whether it is for it is found out when that
    /// is read.
    pub(crate) fn leave_live(self: &Arc<Self>, endpoint: &Arc<Endpoint>, item: Item) {
        let (lane, offered) = self.with_lane(endpoint, |state| state.leave_live(item));
        if let Offered::Deferred { grown, shed } = offered {
            self.deferred(&lane, &grown, shed);
            catch_up::start(self, &lane);
        }
    }

    /// Offers what was owed and is due.
    pub(crate) fn offer_owed(self: &Arc<Self>, endpoint: &Arc<Endpoint>, item: Item) {
        let share = self.budget.lane_bytes();
        let (lane, (offered, hired)) = self.with_lane(endpoint, |state| {
            let offered = state.offer_owed(item, share);
            let hired = state.call(usize::from(matches!(offered, Offered::Queued)));
            (offered, hired)
        });
        if let Offered::NotNow(item, probe_at) = offered {
            let wait = probe_at.map_or(NOT_NOW, |at| at.saturating_duration_since(Instant::now()));
            self.give_back(vec![item], wait.max(NOT_NOW));
        } else {
            self.hire(&lane, hired);
        }
    }

    /// Begins workers that the lane counts already.
    pub(crate) fn hire(self: &Arc<Self>, lane: &Arc<Lane>, workers: usize) {
        for _ in 0..workers {
            worker::hire(self, lane);
        }
    }

    /// Sees to it that somebody takes what waits.
    pub(crate) fn wake_all(self: &Arc<Self>, lane: &Arc<Lane>) {
        let hired = lane.state().call_for_all();
        self.hire(lane, hired);
    }

    /// Ranges of a lane have grown, and these deliveries are part of them now.
    pub(crate) fn deferred(&self, lane: &Lane, grown: &[Growth], shed: Vec<Item>) {
        self.recorder.grown(grown);
        // From here on it may be delivered, and its end written down.
        lane.state().recorded(grown);
        count(&self.counters.deferred, shed.len() as u64);
        for item in shed {
            trace::deferred(&item.span, lane.id);
            item.settle();
        }
    }

    /// Owed deliveries that are not made now: they are owed as before.
    pub(crate) fn give_back(&self, items: Vec<Item>, wait: Duration) {
        // The reason which the ledger knows stays.
        let owed = |item: &Item| item.owed(self.recorder.due(item.id(), wait), "");
        let owed: Vec<_> = items.iter().map(owed).collect();
        self.recorder.happened().given_back.extend(owed);
        for item in items {
            self.recorder.hold(item.held.clone());
            item.settle();
        }
    }

    /// Nothing more is sent to a lane for a while: what waits is owed, as ranges or as it was.
    pub(crate) fn step_aside(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        item: Option<Item>,
        until: Instant,
    ) {
        let now = Instant::now();
        let (grown, shed, owed) = {
            let mut state = lane.state();
            if let Some(item) = item {
                state.put_back(item);
            }
            // It is asked again soon: others may find out that the host is there.
            state.gate.hold(until.min(now + NOT_NOW));
            let (grown, shed) = state.fall_behind();
            (grown, shed, state.take_owed())
        };
        self.deferred(lane, &grown, shed);
        catch_up::start(self, lane);
        let wait = until.saturating_duration_since(now);
        self.give_back(owed, wait.max(NOT_NOW));
    }

    /// Everything of a range is delivered that is before an offset.
    pub(crate) fn ended(&self, range: RangeId, to: u64) {
        self.recorder.happened().ended.insert(range, to);
        self.recorder.news.notify_one();
    }

    pub(crate) fn progress(&self, range: &RangeRun, from: u64) {
        self.recorder.progress(range, from);
        self.recorder.news.notify_one();
    }
}
