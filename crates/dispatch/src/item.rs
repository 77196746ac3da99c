//! One delivery on its way, and where it comes from: that decides what is kept when it ends.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use dovecast_log::Position;
use tokio::sync::Notify;
use tracing::Span;

use crate::budget::Reserved;
use crate::hanging::Hangs;
use crate::ledger::{Millis, Owed, OwedId, RangeId};
use crate::locks::{Held, Lock};
use crate::recording::Recorder;
use crate::stats::Counters;
use dovecast_notification::{EndpointId, Notification};

/// A delivery to be made. Whatever drops it before it is settled, because of a panic, owes it so,
/// and it is made again some time later.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) endpoint: EndpointId,
    pub(crate) notification: Arc<Notification>,
    /// Attempts that have failed.
    pub(crate) failures: u32,
    /// Since when it waits.
    pub(crate) since: Instant,
    pub(crate) origin: Origin,
    pub(crate) span: Span,
    /// How often it was a probe that failed.
    pub(crate) probes: u32,
    /// What is read again of a range has none: it is bounded by its window.
    pub(crate) place: Option<InFlight>,
    /// The room that its body takes in memory; shared with the other deliveries of its
    /// notification.
    pub(crate) held: Option<Arc<Reserved>>,
    /// Where it was owed.
    pub(crate) claim: Option<Claim>,
    /// While it is under way for long.
    pub(crate) hangs: Option<Box<Hangs>>,
    recorder: Arc<Recorder>,
    is_settled: bool,
}

/// What is delivered, and where.
#[derive(Debug)]
pub(crate) struct What {
    pub(crate) endpoint: EndpointId,
    pub(crate) notification: Arc<Notification>,
    /// Attempts that have failed.
    pub(crate) failures: u32,
    pub(crate) span: Span,
}

impl Item {
    pub(crate) fn new(recorder: &Arc<Recorder>, what: What, origin: Origin) -> Self {
        Self {
            endpoint: what.endpoint,
            notification: what.notification,
            failures: what.failures,
            since: Instant::now(),
            origin,
            span: what.span,
            probes: 0,
            place: None,
            held: None,
            claim: None,
            hangs: None,
            recorder: Arc::clone(recorder),
            is_settled: false,
        }
    }

    /// Names the delivery.
    pub(crate) fn id(&self) -> OwedId {
        (self.endpoint, self.notification.id)
    }

    /// What is owed of it: due at that time.
    pub(crate) fn owed(&self, due_ms: Millis, reason: impl Into<String>) -> Owed {
        Owed {
            endpoint: self.endpoint,
            notification: self.notification.id,
            content: self.notification.canonical(),
            failures: self.failures,
            due_ms,
            reason: reason.into(),
        }
    }

    pub(crate) fn is_owed(&self) -> bool {
        matches!(self.origin, Origin::Owed)
    }

    /// What came of it is written down.
    pub(crate) fn settle(mut self) {
        self.is_settled = true;
        self.recorder.end(&self.origin);
    }

    /// Leaves it as it was: what it is of is read again.
    pub(crate) fn abandon(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if !self.is_settled {
            self.recorder.dropped(self);
        }
    }
}

/// How many deliveries are in flight, and may be.
#[derive(Debug)]
pub(crate) struct Room {
    most: u64,
    counters: Arc<Counters>,
    /// There is room again.
    news: Notify,
}

impl Room {
    pub(crate) fn new(most: u64, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            most,
            counters: Arc::clone(counters),
            news: Notify::new(),
        })
    }

    pub(crate) fn take(self: &Arc<Self>) -> InFlight {
        self.counters.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(Arc::clone(self))
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.counters.in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.in_flight() >= self.most
    }

    /// Waits until it may be worth another look.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }
}

/// Counts a delivery as in flight until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Room>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let before = self.0.counters.in_flight.fetch_sub(1, Ordering::AcqRel);
        if before >= self.0.most {
            self.0.news.notify_waiters();
        }
    }
}

/// Counts what is claimed and not done.
#[derive(Debug)]
pub(crate) struct Claim(Arc<AtomicUsize>);

impl Claim {
    pub(crate) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a delivery comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Just read from the log; its records are not committed before it is done or owed.
    Live {
        group: Arc<Group>,
        topic: Arc<str>,
        partition: u32,
        offset: u64,
    },
    /// Owed; claimed by us.
    Owed,
    /// Read from a range that is owed.
    Range { run: Arc<RangeRun>, offset: u64 },
}

impl Origin {
    /// Just read; one more thing to be done of its group.
    pub(crate) fn live(
        group: &Arc<Group>,
        (topic, partition, offset): (&Arc<str>, u32, u64),
    ) -> Self {
        group.add();
        Self::Live {
            group: Arc::clone(group),
            topic: Arc::clone(topic),
            partition,
            offset,
        }
    }
}

/// Records that were read together. They are committed when nothing of them is left to be done, and
/// nothing of what was read before.
#[derive(Debug)]
pub(crate) struct Group {
    /// Behind the last record of each partition.
    pub(crate) positions: Vec<Position>,
    left: AtomicUsize,
}

impl Group {
    /// With one thing left: the reading itself.
    pub(crate) fn new(positions: Vec<Position>) -> Arc<Self> {
        Arc::new(Self {
            positions,
            left: AtomicUsize::new(1),
        })
    }

    /// One more thing to be done.
    pub(crate) fn add(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// One thing is done; `true`: it was the last. What is to be kept of it has to be written down
    /// before.
    pub(crate) fn done(&self) -> bool {
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }
}

/// A range that is being delivered: which of its offsets are done.
#[derive(Debug)]
pub(crate) struct RangeRun {
    pub(crate) id: RangeId,
    /// Another range has its name by now.
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
