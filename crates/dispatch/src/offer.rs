//! Offers deliveries to the queues of endpoints (lanes), and has written down what those do not
//! take: that is owed, and delivered later.
//!
//! No two locks are held at a time (`locks`), so each function here goes from one to the next:
//! first the lane decides, then the recorder hears of it, then the lane is told that the recorder
//! knows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::Log;

use crate::endpoint::Endpoint;
use crate::item::Item;
use crate::lane::order::{Due, Joining, Over};
use crate::lane::{Lane, NotNow, Offered, Run, Shed, State};
use crate::ledger::{BEHIND, Happened, KeyPlace, Ledger, RangeId, TopicPartition};
use crate::live::Live;
use crate::permits::Permit;
use crate::range_run::RangeRun;
use crate::shared::Shared;
use crate::stats::count;
use crate::{trace, worker};

/// How long until a lane that is full is looked at again.
const FULL_CHECK_INTERVAL: Duration = Duration::from_millis(1);
/// How long deliveries are put off that their endpoint or its host does not take now.
pub(crate) const NOT_NOW: Duration = Duration::from_secs(5);
/// How long owed deliveries of a key are put off until it is known what comes before them: a
/// moment, where this process reads their partition.
const UNKNOWN_ORDER_WAIT: Duration = Duration::from_secs(1);
/// How long owed deliveries of a key are put off before which a range has to be read, as fast as
/// its endpoint takes that.
const UNREAD: Duration = Duration::from_secs(10);

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// Does something with the lane of an endpoint, which is told what the endpoint is now.
    pub(crate) fn with_lane<R>(
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

    /// Offers what was just read to an endpoint; waits a moment where its lane is full and drains
    /// fast.
    pub(crate) async fn offer_read(self: &Arc<Self>, endpoint: &Arc<Endpoint>, live: &Live) {
        if endpoint.takes_nothing() {
            count(&self.counters.dropped, 1);
            return;
        }
        let item = live.item(&self.recorder, endpoint);
        let mut offered = self.offer_live(endpoint, item);
        while let Some((mut item, lane)) = offered {
            tokio::select! {
                () = lane.ended.notified() => {}
                () = tokio::time::sleep(FULL_CHECK_INTERVAL) => {}
            }
            item.since = Instant::now();
            offered = self.offer_live(endpoint, item);
        }
    }

    /// Offers a delivery of what was just read from the log; gives it back where its lane is full
    /// and drains fast.
    fn offer_live(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        mut item: Item,
    ) -> Option<(Item, Arc<Lane>)> {
        if !self.is_known(endpoint, &item) {
            self.leave_live(endpoint, item);
            return None;
        }
        let written = self.recorder.written();
        let (lane, (offered, hired)) = self.with_lane(endpoint, |state| {
            let share = &state.share;
            let standing = self.room.standing(share, item.since);
            item.place.get_or_insert_with(|| self.room.take(share));
            let offered = state.offer_live(item, written, standing);
            let hired = state.call(usize::from(matches!(offered, Offered::Queued)));
            (offered, hired)
        });
        match offered {
            Offered::Queued => self.hire(&lane, hired),
            Offered::InLine => {}
            Offered::Joins(joining) => self.join(vec![joining], Duration::ZERO),
            Offered::Deferred(shed) => {
                self.deferred(&lane, shed);
            }
            Offered::Full(item) | Offered::Ended(item) => return Some((item, lane)),
        }
        None
    }

    /// Whether it is known what an endpoint owes of the partition of a delivery, where that has an
    /// order.
    fn is_known(&self, endpoint: &Arc<Endpoint>, item: &Item) -> bool {
        let Some(KeyPlace { of, .. }) = item.order.as_deref() else {
            return true;
        };
        let number = self.partitions.number(of);
        let (_, is_known) = self.with_lane(endpoint, |state| state.order.knows(of, number));
        match number {
            Some(number) if !is_known => {
                let owes_nothing = self.partitions.owes_nothing(endpoint.id, of, number);
                if owes_nothing {
                    self.with_lane(endpoint, |state| state.order.learn(of, number));
                }
                owes_nothing
            }
            _ => is_known,
        }
    }

    /// Leaves a notification to a range of an endpoint: whether it is for it is found out when that
    /// is read.
    pub(crate) fn leave_live(&self, endpoint: &Arc<Endpoint>, item: Item) {
        let is_known = self.is_known(endpoint, &item);
        let place = item.order.as_ref().filter(|_| !is_known);
        let unknown = place.map(|place| place.of.clone());
        let (lane, shed) = self.with_lane(endpoint, |state| state.leave_live(item, unknown));
        self.deferred(&lane, shed);
    }

    /// Has a lane ask what its endpoint owes of a partition, before it goes on with that.
    pub(crate) fn take_over_later(&self, endpoint: &Arc<Endpoint>, of: TopicPartition) {
        let (lane, shed) = self.with_lane(endpoint, |state| {
            state.order.doubt(Some(&of));
            let shed = state.fall_behind();
            state.behind.get_or_insert_default().ask(of);
            shed
        });
        self.deferred(&lane, shed);
    }

    /// Offers what was owed and is due.
    pub(crate) fn offer_owed(self: &Arc<Self>, endpoint: &Arc<Endpoint>, run: Run) {
        if endpoint.is_ordered
            && let Some(first) = run.items.first()
            && let Some(place) = first.order.clone()
        {
            // What another log has at the same place says nothing of ours.
            let of = place.in_our_log();
            let is_ours = of.is_some_and(|of| self.partitions.number(of).is_some());
            let is_unknown = is_ours && !self.is_known(endpoint, first);
            if is_unknown {
                // Ranges that come before it may be owed.
                self.take_over_later(endpoint, place.of.clone());
            }
            if is_unknown || !self.is_read_up(&place) {
                let wait = if is_ours { UNKNOWN_ORDER_WAIT } else { NOT_NOW };
                return self.give_back(run.items, wait);
            }
        }
        let share = self.budget.lane_bytes();
        let count = run.items.len();
        let (lane, (offered, hired)) = self.with_lane(endpoint, |state| {
            let offered = state.offer_owed(run, share);
            let hired = state.call(if offered.is_ok() { count.min(1) } else { 0 });
            (offered, hired)
        });
        match offered {
            Ok(unread) => {
                self.hire(&lane, hired);
                self.put_behind(unread);
            }
            Err((items, NotNow::Until(at))) => {
                let wait = at.map_or(NOT_NOW, |at| at.saturating_duration_since(Instant::now()));
                self.give_back(items, wait.max(NOT_NOW));
            }
            Err((items, NotNow::Unread)) => self.give_back(items, UNREAD),
            Err((items, NotNow::Behind)) => self.put_behind(items),
        }
    }

    /// Begins workers with permits of their lane.
    pub(crate) fn hire(self: &Arc<Self>, lane: &Arc<Lane>, permits: Vec<Permit>) {
        for permit in permits {
            worker::hire(self, lane, permit);
        }
    }

    /// Begins workers for all that waits in a lane.
    pub(crate) fn wake_all(self: &Arc<Self>, lane: &Arc<Lane>) {
        let hired = lane.state().call_for_all();
        self.hire(lane, hired);
    }

    /// Ranges of a lane have grown, and what it has held is part of them now, or owed.
    pub(crate) fn deferred(&self, lane: &Arc<Lane>, shed: Shed) {
        self.recorder.grown(&shed.grown);
        // From here on it may be delivered, and its end written down.
        let (wants_catching_up, is_behind) = {
            let mut state = lane.state();
            state.recorded(&shed);
            (state.wants_catching_up(), state.is_behind())
        };
        if is_behind {
            lane.missed.lock().open(&self.missed);
        }
        if wants_catching_up {
            // When the dispatcher stops there is no receiver any more: the ranges are written down,
            // and free then.
            drop(self.fallen_behind.send(Arc::clone(lane)));
        }
        count(&self.counters.deferred, shed.items.len() as u64);
        for item in shed.items {
            trace::deferred(&item.span, lane.id);
            item.settle();
        }
        self.join(shed.joins, Duration::ZERO);
    }

    /// Deliveries that are owed instead of waiting in a lane; `wait`: for those that are due when
    /// the lane may be asked again.
    pub(crate) fn join(&self, joins: Vec<Joining>, wait: Duration) {
        if joins.is_empty() {
            return;
        }
        let (mut happened, mut new) = (Vec::with_capacity(joins.len()), 0);
        for Joining { item, due, .. } in &joins {
            let due_ms = match due {
                Due::Now => self.now_ms(),
                Due::Behind => BEHIND,
                Due::Later => self.recorder.due(item.id(), wait),
            };
            let owed = item.owed(due_ms, "");
            if item.is_owed() {
                happened.push(Happened::GivenBack(owed));
            } else {
                happened.push(Happened::Owed(owed));
                new += 1;
            }
        }
        count(&self.counters.held_back, new);
        self.recorder.note_all(happened);
        // From here on their keys wait for what is to be written, and for no thread.
        self.leave_to_recorder(joins.into_iter().map(|joining| joining.item));
        self.recorder.news.notify_one();
    }

    /// A delivery is done with, or owed, and what came of it is with the recorder: the next of its
    /// key may begin, or joins it.
    pub(crate) fn over(&self, lane: &Lane, item: &mut Item, over: Over) {
        item.end_turn();
        if let Some(place) = &item.order {
            let batch = self.recorder.batch();
            let joins = {
                let mut state = lane.state();
                if over == Over::Done {
                    state.order.hand_over(item);
                }
                state.over(place, over, batch)
            };
            self.join(joins, Duration::ZERO);
        }
    }

    /// Owed deliveries that are not made now: they are owed as before. Of a key in order the first
    /// waits so long, and the others for it.
    pub(crate) fn give_back(&self, items: Vec<Item>, wait: Duration) {
        let mut keys = BTreeSet::new();
        let mut owed = Vec::with_capacity(items.len());
        for item in &items {
            let place = item.order.as_ref();
            let is_first = place.is_none_or(|place| keys.insert((item.endpoint, place.key)));
            let due_ms = if is_first {
                self.recorder.due(item.id(), wait)
            } else {
                BEHIND
            };
            // The reason which the ledger knows stays.
            owed.push(Happened::GivenBack(item.owed(due_ms, "")));
        }
        self.recorder.note_all(owed);
        self.leave_to_recorder(items);
    }

    /// These deliveries are with the recorder: their bodies take room until they are written.
    fn leave_to_recorder(&self, items: impl IntoIterator<Item = Item>) {
        for item in items {
            self.recorder.hold(item.held.clone());
            item.settle();
        }
    }

    /// Owed deliveries of a key before which another one comes: they are owed behind it.
    fn put_behind(&self, items: Vec<Item>) {
        let owed = items.iter().map(|item| item.owed(BEHIND, ""));
        let owed: Vec<_> = owed.map(Happened::GivenBack).collect();
        self.recorder.note_all(owed);
        self.leave_to_recorder(items);
    }

    /// Nothing more is sent to a lane for a while: what waits is owed, as ranges or as it was.
    pub(crate) fn step_aside(&self, lane: &Arc<Lane>, item: Option<Item>, until: Instant) {
        let now = Instant::now();
        let (shed, owed) = {
            let mut state = lane.state();
            if let Some(item) = item {
                state.put_back(item);
            }
            // It is asked again soon: others may find out that the host is there.
            state.gate.hold(until.min(now + NOT_NOW));
            (state.fall_behind(), state.take_owed())
        };
        self.deferred(lane, shed);
        let wait = until.saturating_duration_since(now);
        self.join(owed, wait.max(NOT_NOW));
    }

    /// Everything of a range is delivered that is before an offset.
    pub(crate) fn ended(&self, range: RangeId, to: u64) {
        self.recorder.note(Happened::Ended(range, to));
        self.recorder.news.notify_one();
    }

    pub(crate) fn progress(&self, range: &RangeRun, from: u64) {
        self.recorder.progress(range, from);
        self.recorder.news.notify_one();
    }
}
