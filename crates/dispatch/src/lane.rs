//! The lane of an endpoint, which is its queue: what waits for it, in order; its circuit breaker;
//! whether it is behind.
//!
//! A lane that is behind, because it is slow, its breaker is open or it is paused, owes ranges of
//! the log instead of holding deliveries. What was in its queue then is the beginning of the
//! ranges.

pub(crate) mod breaker;
pub(crate) mod gate;
mod offers;
pub(crate) mod order;
mod pace;
mod shed;
mod workers;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use dovecast_notification::EndpointId;
use tokio::sync::Notify;

use crate::behind::Behind;
use crate::driver::Unit;
use crate::endpoint::Endpoint;
use crate::item::Item;
use crate::ledger::KeyPlace;
use crate::locks::{Held, Lock};
use crate::missed::Missed;
use crate::permits::Permit;
use crate::room::Share;
use gate::{Gate, Shut, Turned};
pub(crate) use offers::{NotNow, Offered, Run};
use order::assembling::{Beside, Ends};
use order::{Joining, Order, Over};
pub(crate) use shed::Shed;
use workers::Workers;

/// How long a delivery may wait in a queue before the lane is behind.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// Deliveries in a lane's queue from which on no owed ones are claimed for it.
const ENOUGH_OWED: usize = 100;

/// A lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) id: EndpointId,
    state: Lock<State>,
    /// Attempts that are under way and do not hang, and those that do.
    pub(crate) tries: AtomicUsize,
    pub(crate) hanging: AtomicUsize,
    /// Whether an attempt was cut off, and none was answered since: the next are made one at a
    /// time.
    pub(crate) is_cut_off: AtomicBool,
    /// Something has ended: the catch-up may go on.
    pub(crate) ended: Notify,
    /// Deliveries in order that were lost on the way, and are owed: the lane does not know yet.
    pub(crate) lost: Lock<Vec<Arc<KeyPlace>>>,
    /// Records that are to become part of its ranges.
    pub(crate) missed: Lock<Missed>,
}

#[derive(Debug)]
pub(crate) struct State {
    /// What its account has of the room for deliveries in flight.
    pub(crate) share: Arc<Share>,
    pub(crate) gate: Gate,
    pub(crate) order: Order,
    queue: VecDeque<Item>,
    /// Goes before the queue, and while the breaker is open.
    probe: Option<Item>,
    workers: Workers,
    pub(crate) behind: Option<Behind>,
    /// When something was last in it.
    pub(crate) used: Instant,
    /// Whether it is no longer the lane of its endpoint, because it was idle for long.
    is_retired: bool,
    /// Whether the dispatcher stops: what is read of ranges is not taken any more.
    is_ended: bool,
}

/// What a worker is to do.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are deliveries, and none is kept"
)]
pub(crate) enum Next {
    /// A delivery to be made now.
    Deliver(Item),
    /// Nothing before that time: the endpoint has a rate limit.
    NotBefore(Instant),
    /// Nothing before that time: the account has a rate limit.
    InTurn(Instant),
    /// Nothing; it is woken when there is something.
    Sleep,
}

impl Lane {
    pub(crate) fn new(endpoint: Arc<Endpoint>, share: Arc<Share>) -> Self {
        Self {
            id: endpoint.id,
            state: Lock::new("lane", State::new(endpoint, share)),
            tries: AtomicUsize::new(0),
            hanging: AtomicUsize::new(0),
            is_cut_off: AtomicBool::new(false),
            ended: Notify::new(),
            lost: Lock::new("lost", Vec::new()),
            missed: Lock::new("missed", Missed::default()),
        }
    }

    pub(crate) fn state(&self) -> Held<MutexGuard<'_, State>> {
        self.state.lock()
    }

    /// Does something with the lane; `None`: another one is its endpoint's by now.
    pub(crate) fn unless_retired<R>(&self, act: impl FnOnce(&mut State) -> R) -> Option<R> {
        let mut state = self.state();
        (!state.is_retired).then(|| act(&mut state))
    }
}

impl State {
    pub(crate) fn new(endpoint: Arc<Endpoint>, share: Arc<Share>) -> Self {
        Self {
            share,
            gate: Gate::new(endpoint),
            order: Order::default(),
            queue: VecDeque::new(),
            probe: None,
            workers: Workers::default(),
            behind: None,
            used: Instant::now(),
            is_retired: false,
            is_ended: false,
        }
    }

    /// Whether another lane is the endpoint's by now.
    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired
    }

    /// Ends the use of a lane that has held nothing for so long; `true`: it is retired.
    pub(crate) fn retire(&mut self, now: Instant, idle: Duration) -> bool {
        let is_idle = self.is_empty()
            && self.order.is_empty()
            && self.workers.count() == 0
            && self.behind.is_none();
        self.is_retired =
            is_idle && !self.gate.is_open_breaker() && now.duration_since(self.used) >= idle;
        self.is_retired
    }

    /// Whether what is read for it is part of its ranges, whatever it is.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.is_some() && !self.gate.endpoint().is_ordered
    }

    /// The recorder knows that ranges have grown.
    pub(crate) fn recorded(&mut self, shed: &Shed) {
        for growth in &shed.grown {
            if let Some(behind) = &mut self.behind {
                behind.recorded(&growth.id, growth.to);
            }
        }
    }

    /// Whether the ranges of this lane have to be read, and no task does; `true` only once.
    pub(crate) fn wants_catching_up(&mut self) -> bool {
        let behind = self.behind.as_mut();
        behind.is_some_and(|behind| !std::mem::replace(&mut behind.is_caught_up_with, true))
    }

    /// Has so many more deliveries taken care of: wakes workers, and gives permits for those that
    /// are to be hired.
    #[must_use]
    pub(crate) fn call(&mut self, deliveries: usize) -> Vec<Permit> {
        let most = self.gate.endpoint().concurrency.max(1);
        self.workers.call(deliveries, most)
    }

    /// Has all that waits taken care of: gives permits for workers that are to be hired.
    #[must_use]
    pub(crate) fn call_for_all(&mut self) -> Vec<Permit> {
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

    /// A delivery is done with, or owed: the next of its key may begin, or joins it.
    #[must_use]
    pub(crate) fn over(&mut self, place: &KeyPlace, over: Over, batch: u64) -> Vec<Joining> {
        let (next, joins) = self.order.over(place, over, batch);
        self.queue.extend(next);
        joins
    }

    /// Has what waits for the end of its transaction delivered, where that does not come; gives
    /// permits for workers that are to be hired.
    #[must_use]
    pub(crate) fn end_transactions(&mut self, now: Instant) -> Vec<Permit> {
        if !self.is_assembling() {
            return Vec::new();
        }
        let beside = Beside {
            behind: self.behind.as_ref(),
            has_queue: !self.queue.is_empty(),
            ends: self.ends(now),
        };
        let taken = self.order.take_open(now, beside);
        let count = taken.len();
        self.queue.extend(taken);
        self.call(count)
    }

    /// Whether the ends of transactions are awaited. Not while little is read: they would not come.
    fn ends(&self, now: Instant) -> Ends {
        if self.gate.is_tried_only(now) {
            Ends::NotAwaited
        } else {
            Ends::Awaited
        }
    }

    /// Whether whole transactions are delivered.
    fn is_assembling(&self) -> bool {
        self.gate.endpoint().target.unit() == Unit::Transaction
    }

    /// Puts back what was not done: it is the next one.
    pub(crate) fn put_back(&mut self, mut item: Item) {
        item.end_turn();
        self.order.scatter(&mut item);
        self.queue.push_front(item);
    }

    /// The next delivery, if one may be made. Else `sleeper` is woken when there is one.
    pub(crate) fn pop_or_sleep(&mut self, sleeper: &Arc<Notify>) -> Next {
        let mut next = self.pop(Instant::now());
        if let Next::Deliver(item) = &mut next {
            self.order.gather(item);
        }
        if matches!(next, Next::Sleep) {
            self.workers.sleep(sleeper);
        }
        next
    }

    /// A worker wants to end, and gives its permit back; `false`: it was woken just now.
    pub(crate) fn sign_off(&mut self, sleeper: &Arc<Notify>, permit: &mut Option<Permit>) -> bool {
        self.workers.sign_off(sleeper, permit)
    }

    /// A worker has panicked: it does not sleep, and what it had was no success.
    pub(crate) fn panicked(&mut self, sleeper: &Arc<Notify>, now: Instant) -> Turned {
        self.workers.forget_sleeper(sleeper);
        self.gate.turn(true, now)
    }

    /// Whether something could be done, and no worker is there to do it.
    pub(crate) fn is_deserted(&self, now: Instant) -> bool {
        self.workers.count() == 0
            && !self.is_empty()
            && (self.probe.is_some() || !self.gate.is_shut(now))
    }

    fn pop(&mut self, now: Instant) -> Next {
        if let Some(probe) = self.probe.take() {
            return Next::Deliver(probe);
        }
        let Some(first) = self.queue.front() else {
            return Next::Sleep;
        };
        match self.gate.pass(first.notification.memory_bytes(), now) {
            Ok(()) => self.queue.pop_front().map_or(Next::Sleep, Next::Deliver),
            Err(Shut::Until(at)) => Next::NotBefore(at),
            Err(Shut::OutOfTurn(at)) => Next::InTurn(at),
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

    /// Takes nothing more, as the dispatcher stops, and gives everything that waits.
    pub(crate) fn end(&mut self) -> Vec<Item> {
        self.is_ended = true;
        let queued = self.probe.take().into_iter().chain(self.queue.drain(..));
        let mut all: Vec<Item> = queued.collect();
        all.extend(self.order.take_waiting(|_| true));
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.probe.is_none()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.len() + usize::from(self.probe.is_some())
    }
}
