//! The lane of an endpoint: what waits for it, in order; its breaker; whether it is behind.
//!
//! A lane that is behind, because it is slow, its breaker is open or it is paused, owes ranges of
//! the log instead of holding deliveries. What was in its queue then is the beginning of the
//! ranges.

pub(crate) mod breaker;
mod pace;

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::behind::{Behind, Growth};
use crate::endpoint::Endpoint;
use crate::item::{Item, Origin, RangeRun};
use crate::locks::{Held, Lock};
use breaker::Breaker;
use dovecast_notification::EndpointId;
use pace::Pace;

/// How long a delivery may wait in a queue before the lane is behind.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// How many may wait.
const QUEUE: usize = 2_000;
/// Most owed deliveries in a lane's queue; lower than `QUEUE`, so that a slow endpoint leaves room.
const OWED: usize = 1_000;
/// With so many, no more are claimed for it.
const ENOUGH_OWED: usize = 100;
/// A queue that is full and whose oldest has waited no longer than this drains fast: the feed waits
/// for it.
const FAST: Duration = Duration::from_millis(200);

/// A lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) id: EndpointId,
    state: Lock<State>,
    /// Attempts that hang.
    pub(crate) hanging: AtomicUsize,
    /// Something has ended: the catch-up may go on.
    pub(crate) ended: Notify,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) endpoint: Arc<Endpoint>,
    queue: VecDeque<Item>,
    /// Goes before the queue, and while the breaker is open.
    probe: Option<Item>,
    pub(crate) workers: usize,
    /// Workers that have nothing to do.
    sleepers: Vec<Arc<Notify>>,
    pub(crate) breaker: Breaker,
    pace: Pace,
    /// Nothing is sent before, because its host is down or too much hangs.
    pub(crate) held_until: Option<Instant>,
    pub(crate) behind: Option<Behind>,
    /// When something was last in it.
    pub(crate) used: Instant,
    /// Whether it is no longer the lane of its endpoint, because it was idle for long.
    is_retired: bool,
}

/// What an attempt did to the breaker.
pub(crate) struct Turned {
    pub(crate) opens: bool,
    pub(crate) closes: bool,
    pub(crate) is_open: bool,
}

/// What a worker is to do.
#[derive(Debug)]
pub(crate) enum Next {
    /// A delivery to be made now.
    Deliver(Item),
    /// Nothing before that time: the endpoint has a rate limit.
    NotBefore(Instant),
    /// Nothing; it is woken when there is something.
    Sleep,
}

/// What became of an offer.
#[derive(Debug)]
pub(crate) enum Offered {
    /// The delivery waits in the lane.
    Queued,
    /// What was offered is part of a range now, and so is what waited before.
    Deferred {
        /// Ranges that are new or have grown, and up to where.
        grown: Vec<Growth>,
        /// All of that.
        shed: Vec<Item>,
    },
    /// There is no room just now, but there will be in a moment.
    Full(Item),
    /// Not now: there is no room, or the breaker is open, until then.
    NotNow(Item, Option<Instant>),
}

impl Lane {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            id: endpoint.id,
            state: Lock::new("lane", State::new(endpoint)),
            hanging: AtomicUsize::new(0),
            ended: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> Held<MutexGuard<'_, State>> {
        self.state.lock()
    }
}

impl State {
    fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            endpoint,
            queue: VecDeque::new(),
            probe: None,
            workers: 0,
            sleepers: Vec::new(),
            breaker: Breaker::default(),
            pace: Pace::default(),
            held_until: None,
            behind: None,
            used: Instant::now(),
            is_retired: false,
        }
    }

    /// Whether another lane is the endpoint's by now.
    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired
    }

    /// Ends the use of a lane that has held nothing for so long; `true`: it is retired.
    pub(crate) fn retire(&mut self, now: Instant, idle: Duration) -> bool {
        let is_idle = self.is_empty() && self.workers == 0 && self.behind.is_none();
        self.is_retired =
            is_idle && !self.breaker.is_open() && now.duration_since(self.used) >= idle;
        self.is_retired
    }

    /// The recorder knows that ranges have grown.
    pub(crate) fn recorded(&mut self, grown: &[Growth]) {
        for growth in grown {
            if let Some(behind) = &mut self.behind {
                behind.recorded(&growth.id, growth.to);
            }
        }
    }

    /// Has so many more deliveries taken care of: wakes workers, and says how many are to be hired.
    pub(crate) fn call(&mut self, deliveries: usize) -> usize {
        let mut hired = 0;
        for _ in 0..deliveries {
            if !self.wake() && self.workers < self.endpoint.concurrency.max(1) {
                self.workers += 1;
                hired += 1;
            }
        }
        hired
    }

    /// Has all that waits taken care of: says how many workers are to be hired.
    pub(crate) fn call_for_all(&mut self) -> usize {
        self.call(self.waiting().min(self.endpoint.concurrency.max(1)))
    }

    /// Whether nothing more that is owed is to be claimed for now.
    pub(crate) fn has_enough(&self, now: Instant, share: u64) -> bool {
        let probe_at = self.breaker.probe_at();
        let may_probe = probe_at.is_some_and(|at| at <= now) && self.queue.is_empty();
        self.endpoint.is_paused
            || self.is_held(now)
            || (self.breaker.is_open() && !may_probe)
            || self.queue.len() >= ENOUGH_OWED
            || self.has_bytes(share)
    }

    /// Whether bodies of so many bytes wait.
    fn has_bytes(&self, bytes: u64) -> bool {
        let waiting: usize = self
            .queue
            .iter()
            .map(|item| item.notification.memory_bytes())
            .sum();
        u64::try_from(waiting).unwrap_or(u64::MAX) >= bytes
    }

    /// Whether what is owed has to wait for a person, for the breaker, or for the host.
    pub(crate) fn must_wait(&self) -> bool {
        self.endpoint.is_paused || self.breaker.is_open() || self.is_held(Instant::now())
    }

    fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| until > now)
    }

    /// Sends nothing before that time.
    pub(crate) fn hold(&mut self, until: Instant) {
        self.held_until = Some(until);
        self.breaker.put_off(until);
    }

    /// Whether no more than one delivery is to be read for it: enough to try with.
    pub(crate) fn is_tried_only(&self, now: Instant) -> bool {
        self.breaker.is_open() || self.is_held(now)
    }

    /// Takes what was just read from the log.
    pub(crate) fn offer_live(&mut self, item: Item) -> Offered {
        self.used = item.since;
        let (mut grown, mut shed) = (Vec::new(), Vec::new());
        if self.behind.is_none() {
            let waited = self
                .queue
                .front()
                .map(|oldest| item.since.duration_since(oldest.since));
            let waited = waited.unwrap_or_default();
            let is_full = self.queue.len() >= QUEUE;
            let must_wait = self.must_wait() || waited > PATIENCE || (is_full && waited > FAST);
            if !must_wait && is_full {
                return Offered::Full(item);
            }
            if !must_wait {
                self.queue.push_back(item);
                return Offered::Queued;
            }
            (grown, shed) = self.fall_behind();
        }
        if let Origin::Live {
            topic,
            partition,
            offset,
            ..
        } = &item.origin
        {
            self.defer(&mut grown, (topic, *partition), *offset);
        }
        shed.push(item);
        Offered::Deferred { grown, shed }
    }

    /// Leaves what was just read from the log to a range, whether there would be room for it or
    /// not.
    pub(crate) fn leave_live(&mut self, item: Item) -> Offered {
        let (mut grown, mut shed) = self.fall_behind();
        let mut offered = self.offer_live(item);
        if let Offered::Deferred {
            grown: of_item,
            shed: items,
        } = &mut offered
        {
            // What waited comes first.
            grown.append(of_item);
            shed.append(items);
            (*of_item, *items) = (grown, shed);
        }
        offered
    }

    /// Takes what was owed and is due.
    /// `share`: bytes of bodies that may wait here, besides one.
    pub(crate) fn offer_owed(&mut self, item: Item, share: u64) -> Offered {
        self.used = item.since;
        if self.is_held(item.since) {
            return Offered::NotNow(item, self.held_until);
        }
        let is_full = self.queue.len() >= OWED || self.has_bytes(share);
        if !self.breaker.is_open() && is_full {
            return Offered::NotNow(item, None);
        }
        if !self.breaker.is_open() {
            self.queue.push_back(item);
            return Offered::Queued;
        }
        if self.probe.is_none() && self.breaker.allows(item.since) {
            self.probe = Some(item);
            return Offered::Queued;
        }
        let probe_at = self.breaker.probe_at();
        Offered::NotNow(item, probe_at)
    }

    /// Takes what is read again of a range.
    pub(crate) fn offer_range(&mut self, item: Item) {
        self.used = item.since;
        self.queue.push_back(item);
    }

    /// Puts back what was not done: it is the next one.
    pub(crate) fn put_back(&mut self, item: Item) {
        self.queue.push_front(item);
    }

    /// The next delivery, if one may be made. Else `sleeper` is woken when there is one.
    pub(crate) fn pop_or_sleep(&mut self, sleeper: &Arc<Notify>) -> Next {
        let next = self.pop(Instant::now());
        if matches!(next, Next::Sleep) {
            self.sleepers.push(Arc::clone(sleeper));
        }
        next
    }

    /// Wakes a worker; `false`: none sleeps.
    fn wake(&mut self) -> bool {
        let sleeper = self.sleepers.pop();
        if let Some(sleeper) = &sleeper {
            sleeper.notify_one();
        }
        sleeper.is_some()
    }

    /// A worker wants to end; `false`: it was woken just now.
    pub(crate) fn sign_off(&mut self, sleeper: &Arc<Notify>) -> bool {
        let place = self
            .sleepers
            .iter()
            .position(|other| Arc::ptr_eq(other, sleeper));
        if let Some(place) = place {
            self.sleepers.swap_remove(place);
            self.workers -= 1;
        }
        place.is_some()
    }

    /// A worker has panicked: it does not sleep, and what it had was no success.
    pub(crate) fn panicked(&mut self, sleeper: &Arc<Notify>, now: Instant) -> Turned {
        self.sleepers.retain(|other| !Arc::ptr_eq(other, sleeper));
        self.breaker_turns(true, now)
    }

    /// A worker is gone that has not signed off.
    pub(crate) fn lost_worker(&mut self) {
        self.workers = self.workers.saturating_sub(1);
    }

    /// Whether something could be done, and no worker is there to do it.
    pub(crate) fn is_deserted(&self) -> bool {
        self.workers == 0 && !self.is_empty() && (self.probe.is_some() || !self.must_wait())
    }

    fn pop(&mut self, now: Instant) -> Next {
        if let Some(probe) = self.probe.take() {
            return Next::Deliver(probe);
        }
        if self.must_wait() || self.queue.is_empty() {
            return Next::Sleep;
        }
        // What is discarded is not delivered.
        let limit = self.endpoint.rate_limit.filter(|_| self.endpoint.is_active);
        if let Some(limit) = limit
            && let Err(at) = self.pace.take(limit, now)
        {
            return Next::NotBefore(at);
        }
        self.queue.pop_front().map_or(Next::Sleep, Next::Deliver)
    }

    /// Makes the first that waits the probe of an open breaker, if it is time; else says when it
    /// will be.
    pub(crate) fn probe(&mut self, now: Instant) -> Option<Instant> {
        if self.probe.is_none() && !self.queue.is_empty() && self.breaker.allows(now) {
            self.probe = self.queue.pop_front();
            return None;
        }
        self.breaker.probe_at()
    }

    /// An attempt has ended.
    pub(crate) fn breaker_turns(&mut self, is_failure: bool, now: Instant) -> Turned {
        let (opens, closes) = if is_failure {
            (self.breaker.failed(now), false)
        } else {
            (false, self.breaker.answered())
        };
        Turned {
            opens,
            closes,
            is_open: self.breaker.is_open(),
        }
    }

    /// Whether what waits waits too long.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        let live = self.queue.iter().find(|item| item.is_live());
        live.is_some_and(|oldest| now.duration_since(oldest.since) > PATIENCE)
    }

    /// From now on what is read is owed as ranges, with what waits and was just read as their
    /// beginning.
    pub(crate) fn fall_behind(&mut self) -> (Vec<Growth>, Vec<Item>) {
        self.behind.get_or_insert_default();
        let mut shed = Vec::new();
        let mut kept = VecDeque::new();
        for item in self.queue.drain(..) {
            if item.is_live() {
                shed.push(item);
            } else {
                kept.push_back(item);
            }
        }
        self.queue = kept;
        let mut grown = Vec::new();
        for item in &shed {
            if let Origin::Live {
                topic,
                partition,
                offset,
                ..
            } = &item.origin
            {
                self.defer(&mut grown, (topic, *partition), *offset);
            }
        }
        (grown, shed)
    }

    fn defer(&mut self, grown: &mut Vec<Growth>, of: (&Arc<str>, u32), offset: u64) {
        let behind = self.behind.get_or_insert_default();
        let growth = behind.defer(self.endpoint.id, of, offset);
        if let Some(so_far) = grown.iter_mut().find(|so_far| so_far.id == growth.id) {
            so_far.to = growth.to;
            so_far.begins |= growth.begins;
        } else {
            behind.announce(&growth.id);
            grown.push(growth);
        }
    }

    /// Owed deliveries that wait: they are given back.
    pub(crate) fn take_owed(&mut self) -> Vec<Item> {
        let is_owed = |item: &Item| matches!(item.origin, Origin::Owed);
        let (owed, kept): (Vec<Item>, Vec<Item>) = self.queue.drain(..).partition(is_owed);
        self.queue = kept.into();
        owed
    }

    /// The offsets of a range that wait, and how often each was a probe.
    pub(crate) fn waiting_of(&self, run: &Arc<RangeRun>) -> Vec<(u64, u32)> {
        let of_run = |item: &Item| match &item.origin {
            Origin::Range { run: of, offset } if Arc::ptr_eq(of, run) => {
                Some((*offset, item.probes))
            }
            _ => None,
        };
        self.queue.iter().filter_map(of_run).collect()
    }

    /// What waits of a range from an offset on waits no more.
    #[must_use]
    pub(crate) fn take_waiting_of(&mut self, run: &Arc<RangeRun>, from: u64) -> Vec<Item> {
        let is_of_run = |item: &Item| match &item.origin {
            Origin::Range { run: of, offset } => Arc::ptr_eq(of, run) && *offset >= from,
            _ => false,
        };
        let (taken, kept): (Vec<Item>, Vec<Item>) = self.queue.drain(..).partition(is_of_run);
        self.queue = kept.into();
        taken
    }

    /// Whether nothing may be sent now, not even a probe.
    pub(crate) fn is_barred(&self, now: Instant) -> bool {
        let may_probe = self.breaker.probe_at().is_some_and(|at| at <= now);
        self.endpoint.is_paused || (self.breaker.is_open() && !may_probe) || self.is_held(now)
    }

    /// Everything that waits.
    pub(crate) fn take_all(&mut self) -> Vec<Item> {
        self.probe
            .take()
            .into_iter()
            .chain(self.queue.drain(..))
            .collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.probe.is_none()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.len() + usize::from(self.probe.is_some())
    }
}

impl Item {
    fn is_live(&self) -> bool {
        matches!(self.origin, Origin::Live { .. })
    }
}
