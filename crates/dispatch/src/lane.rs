//! The lane of an endpoint: what waits for it, in order; its breaker; whether it is behind.
//!
//! A lane that is behind, because it is slow, its breaker is open or it is paused, owes ranges of
//! the log instead of holding deliveries. What was in its queue then is the beginning of the
//! ranges.

pub(crate) mod breaker;
pub(crate) mod gate;
mod pace;
mod shed;

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::behind::{Behind, Growth};
use crate::endpoint::Endpoint;
use crate::item::{Item, Origin};
use crate::locks::{Held, Lock};
use dovecast_notification::EndpointId;
use gate::{Gate, Shut, Turned};

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
    pub(crate) gate: Gate,
    queue: VecDeque<Item>,
    /// Goes before the queue, and while the breaker is open.
    probe: Option<Item>,
    pub(crate) workers: usize,
    /// Workers that have nothing to do.
    sleepers: Vec<Arc<Notify>>,
    pub(crate) behind: Option<Behind>,
    /// When something was last in it.
    pub(crate) used: Instant,
    /// Whether it is no longer the lane of its endpoint, because it was idle for long.
    is_retired: bool,
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
            gate: Gate::new(endpoint),
            queue: VecDeque::new(),
            probe: None,
            workers: 0,
            sleepers: Vec::new(),
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
            is_idle && !self.gate.is_open_breaker() && now.duration_since(self.used) >= idle;
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
            if !self.wake() && self.workers < self.gate.endpoint().concurrency.max(1) {
                self.workers += 1;
                hired += 1;
            }
        }
        hired
    }

    /// Has all that waits taken care of: says how many workers are to be hired.
    pub(crate) fn call_for_all(&mut self) -> usize {
        self.call(self.waiting().min(self.gate.endpoint().concurrency.max(1)))
    }

    /// Whether nothing more that is owed is to be claimed for now.
    pub(crate) fn has_enough(&self, now: Instant, share: u64) -> bool {
        self.gate.is_barred(now)
            || (self.gate.is_open_breaker() && !self.queue.is_empty())
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
            let must_wait =
                self.gate.is_shut(item.since) || waited > PATIENCE || (is_full && waited > FAST);
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
        if let Some(until) = self.gate.held_until(item.since) {
            return Offered::NotNow(item, Some(until));
        }
        let is_full = self.queue.len() >= OWED || self.has_bytes(share);
        if !self.gate.is_open_breaker() && is_full {
            return Offered::NotNow(item, None);
        }
        if !self.gate.is_open_breaker() {
            self.queue.push_back(item);
            return Offered::Queued;
        }
        if self.probe.is_none() && self.gate.pass_probe(item.since) {
            self.probe = Some(item);
            return Offered::Queued;
        }
        let probe_at = self.gate.probe_at();
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
        self.gate.turn(true, now)
    }

    /// A worker is gone that has not signed off.
    pub(crate) fn lost_worker(&mut self) {
        self.workers = self.workers.saturating_sub(1);
    }

    /// Whether something could be done, and no worker is there to do it.
    pub(crate) fn is_deserted(&self, now: Instant) -> bool {
        self.workers == 0 && !self.is_empty() && (self.probe.is_some() || !self.gate.is_shut(now))
    }

    fn pop(&mut self, now: Instant) -> Next {
        if let Some(probe) = self.probe.take() {
            return Next::Deliver(probe);
        }
        if self.queue.is_empty() {
            return Next::Sleep;
        }
        match self.gate.pass(now) {
            Ok(()) => self.queue.pop_front().map_or(Next::Sleep, Next::Deliver),
            Err(Shut::Until(at)) => Next::NotBefore(at),
            Err(Shut::Closed) => Next::Sleep,
        }
    }

    /// Makes the first that waits the probe of an open breaker, if it is time; else says when it
    /// will be.
    pub(crate) fn probe(&mut self, now: Instant) -> Option<Instant> {
        if self.probe.is_none() && !self.queue.is_empty() && self.gate.pass_probe(now) {
            self.probe = self.queue.pop_front();
            return None;
        }
        self.gate.probe_at()
    }

    /// Whether what waits waits too long.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        let live = self.queue.iter().find(|item| item.is_live());
        live.is_some_and(|oldest| now.duration_since(oldest.since) > PATIENCE)
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
