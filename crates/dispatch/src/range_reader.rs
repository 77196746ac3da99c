//! One range of the log that an endpoint owes: reads it, offers what the endpoint wants, and knows
//! how far it is.
//!
//! A reader may be a connection with its buffers, so each needs a place among the few there are,
//! and makes way for others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dovecast_log::{Log, LogError, Position, Reader, Record};

use crate::budget::{Budget, Reserved};
use crate::feed::bury;
use crate::item::{Item, Origin, RangeRun, What};
use crate::lane::Lane;
use crate::ledger::{Ledger, RangeId};
use crate::panics::{answered, caught_now};
use crate::readers::Place;
use crate::shared::Shared;
use crate::stats::count;
use crate::trace;

/// Most deliveries of the ranges of one endpoint that wait or are under way, for each of its
/// concurrent attempts.
const WINDOW: usize = 4;
/// How long the log may not be readable before others get a try ...
const UNREADABLE: Duration = Duration::from_secs(5);
/// ... and before we take anything up again.
const REST: Duration = Duration::from_secs(15);
/// How long a reader that has given nothing yet is kept, whoever wants its place.
const GRACE: Duration = Duration::from_secs(5);
/// Records of a range that are kept while it has no reader, and their bytes, if there is room: to
/// read them again costs a connection.
const KEPT: usize = 64;
const KEPT_BYTES: usize = 64 * 1024;
/// How long until what could not go on is looked at again.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// What came of going on with a range.
pub(crate) enum Step {
    /// There may be more to do.
    Moved,
    /// Nothing could be done now.
    Nothing,
    /// The range has to be read, and that takes a place for a reader.
    WantsReader,
    /// The next record has a body of so many bytes, for which there is no room in memory now.
    WantsRoom(usize),
    /// Nothing is under way, and the log ends here, before what is left of it.
    Missing {
        /// The offset the next record will get.
        end: u64,
    },
    /// The range is not ours any more, or we cannot read it: it is left to others.
    Left,
}

/// How far one range was read.
pub(crate) struct RangeReader<L: Log> {
    run: Arc<RangeRun>,
    /// There is none without a place.
    reader: Option<L::Reader>,
    pub(crate) place: Option<Place>,
    waiting: VecDeque<Record>,
    /// Everything before was looked at.
    next: u64,
    /// Since when the log could not be read.
    failing: Option<Instant>,
    /// Room in memory for the next record, where it was waited for.
    pub(crate) room: Option<Arc<Reserved>>,
    /// Room in memory for what is kept while there is no reader.
    kept: Option<Arc<Reserved>>,
    /// When the reader was opened, or has last given something.
    heard: Instant,
    /// Whether anything has come since the reader was opened.
    has_given: bool,
    /// In which of our lives it was claimed.
    life: u64,
}

impl<L: Log> RangeReader<L> {
    pub(crate) fn new(id: RangeId, from: u64, life: u64) -> Self {
        Self {
            run: RangeRun::new(id, from),
            reader: None,
            place: None,
            waiting: VecDeque::new(),
            next: from,
            failing: None,
            room: None,
            kept: None,
            heard: Instant::now(),
            has_given: false,
            life,
        }
    }

    /// Voids the run, because its range is another one by now: what becomes of deliveries under way
    /// says nothing about that.
    pub(crate) fn void(&self) {
        self.run.void();
    }

    /// Everything before was looked at.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    pub(crate) fn is_done(&self, to: u64) -> bool {
        self.next >= to && self.is_idle()
    }

    /// Whether nothing of it waits or is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.run.under_way() == 0
    }

    /// Reads no more for now, and gives its place away.
    pub(crate) fn close(&mut self, budget: &Budget) {
        self.reader = None;
        self.place = None;
        self.room = None;
        self.has_given = false;
        // What is left out is read again.
        self.waiting.truncate(KEPT);
        let bytes = self.waiting.iter().map(|record| record.value.len()).sum();
        self.kept = None;
        if bytes > 0 {
            self.kept = budget.try_take(bytes);
        }
        if bytes > KEPT_BYTES || self.kept.is_none() {
            self.forget();
        }
    }

    /// What was fetched is read again.
    fn forget(&mut self) {
        self.waiting = VecDeque::new();
        self.kept = None;
    }

    /// Reads again what was not looked at to its end.
    pub(crate) fn begin_anew(&mut self) {
        self.reader = None;
        self.place = None;
        self.has_given = false;
        self.forget();
    }

    /// Whether it may be closed for others: it has been good for something, or will not be.
    fn may_make_way(&self) -> bool {
        let place = self.place.as_ref();
        self.has_given || place.is_some_and(|place| place.is_older_than(GRACE))
    }

    /// Keeps nothing that others want, or that is of no use for now.
    pub(crate) fn make_way<S: Ledger>(&mut self, shared: &Shared<L, S>, lane: &Lane)
    where
        L: Clone,
    {
        if lane.state().gate.is_barred(Instant::now()) {
            self.close(&shared.budget);
            self.forget();
            self.take_back(lane);
        } else if shared.readers.are_wanted() && self.may_make_way() {
            self.close(&shared.budget);
        }
    }

    /// What waits in the lane is read again, when the endpoint may be there: who is away for long
    /// holds nothing.
    fn take_back(&mut self, lane: &Lane) {
        let waiting = lane.state().waiting_of(&self.run);
        // What is taken by a worker meanwhile comes twice.
        if let Some(first) = self.run.take_back(&waiting) {
            let taken = lane.state().take_waiting_of(&self.run, first);
            taken.into_iter().for_each(Item::abandon);
            self.next = first;
        }
    }

    /// Reads on, and offers what the endpoint wants.
    pub(crate) async fn step<S: Ledger>(
        &mut self,
        shared: &Arc<Shared<L, S>>,
        lane: &Arc<Lane>,
        to: u64,
    ) -> Step
    where
        L: Clone,
    {
        if !shared.is_alive() {
            // Its progress could not be noted, and others may deliver it by now.
            return Step::Nothing;
        }
        if self.life != shared.lives.load(Ordering::Acquire) {
            // We were taken for dead: it may be another one's.
            return if self.run.under_way() == 0 {
                Step::Left
            } else {
                Step::Nothing
            };
        }
        let (window, waiting) = {
            let state = lane.state();
            if state.gate.is_barred(Instant::now()) {
                return Step::Nothing;
            }
            let window = if state.gate.is_tried_only(Instant::now()) {
                1
            } else {
                state.gate.endpoint().concurrency.max(1) * WINDOW
            };
            // All ranges of a lane share its queue.
            (window, state.waiting())
        };
        if self.next >= to || self.run.under_way() >= window || waiting >= window {
            return Step::Nothing;
        }
        let began = Instant::now();
        if self.waiting.is_empty() {
            let readers = &shared.readers;
            let is_over = self.place.as_ref().is_some_and(Place::is_over);
            if is_over && self.may_make_way() && readers.are_wanted() {
                self.close(&shared.budget);
            }
            if self.place.is_none() {
                return Step::WantsReader;
            }
            let fetched = self.fetch(shared);
            let fetched = answered(fetched, |panicked| {
                shared.panicked("log", panicked);
            });
            match fetched.await {
                Ok(()) => {}
                Err(LogError::Corrupt { offsets, .. }) => {
                    count(&shared.counters.damaged, 1);
                    self.skip_to(shared, offsets.end);
                    return Step::Moved;
                }
                Err(LogError::Expired { offsets, .. }) => {
                    let end = offsets.end.min(to);
                    count(&shared.counters.expired, end.saturating_sub(offsets.start));
                    self.skip_to(shared, end.max(self.next));
                    return Step::Moved;
                }
                Err(error) => {
                    tracing::warn!(%error, endpoint.id = %lane.id, "a range of the log cannot be read, it is tried again");
                    self.reader = None;
                    tokio::time::sleep(AGAIN).await;
                    // It may be that there is no such offset any more.
                    return match self.check_bounds(shared, to, began).await {
                        None | Some(Step::Nothing) => self.unread(shared),
                        Some(step) => step,
                    };
                }
            }
        }
        if self.waiting.is_empty() {
            let Some(step) = self.check_bounds(shared, to, began).await else {
                return self.unread(shared);
            };
            self.failing = None;
            return step;
        }
        self.failing = None;
        let front = self.waiting.front().map_or(0, |record| record.value.len());
        let window = window.min(shared.budget.window(front));
        if self.run.under_way() >= window {
            return Step::Nothing;
        }
        self.offer_waiting(shared, lane, (window, to)).await
    }

    /// Offers what was fetched, so many deliveries at a time.
    async fn offer_waiting<S: Ledger>(
        &mut self,
        shared: &Arc<Shared<L, S>>,
        lane: &Arc<Lane>,
        (window, to): (usize, u64),
    ) -> Step
    where
        L: Clone,
    {
        while self.run.under_way() < window
            && let Some(record) = self.waiting.pop_front()
        {
            if record.offset >= to {
                let end = to.max(self.next);
                self.waiting.push_front(record);
                self.skip_to(shared, end);
                break;
            }
            if let Err(bytes) = self.offer(shared, lane, &record).await {
                self.waiting.push_front(record);
                return Step::WantsRoom(bytes);
            }
            // Costly conditions may have kept it longer than its time.
            let is_over = self.place.as_ref().is_some_and(Place::is_over);
            if is_over && shared.readers.are_wanted() {
                self.close(&shared.budget);
                return Step::Moved;
            }
        }
        if self.waiting.is_empty() {
            self.forget();
        }
        Step::Moved
    }

    /// The log could not be read.
    fn unread<S: Ledger>(&mut self, shared: &Shared<L, S>) -> Step
    where
        L: Clone,
    {
        let since = *self.failing.get_or_insert_with(Instant::now);
        // What is under way may still end here.
        if since.elapsed() <= UNREADABLE || self.run.under_way() > 0 {
            return Step::Nothing;
        }
        let id = &self.run.id;
        tracing::warn!(
            endpoint.id = %id.endpoint, topic = &*id.topic, partition = id.partition,
            "the log cannot be read: what an endpoint owes of it is left to others"
        );
        shared.cannot_read(REST);
        Step::Left
    }

    /// Nothing has come: passes over what the log has dropped, and notices where it ends; `None`:
    /// the log does not answer.
    async fn check_bounds<S: Ledger>(
        &mut self,
        shared: &Shared<L, S>,
        to: u64,
        since: Instant,
    ) -> Option<Step>
    where
        L: Clone,
    {
        let topic = &self.run.id.topic;
        let known = shared.bounds.since(&shared.log, topic, since).await;
        let partitions = known.ok()?;
        if partitions.is_empty() {
            // A topic that is not there may come, with all that was in it.
            return Some(Step::Nothing);
        }
        let place = usize::try_from(self.run.id.partition).unwrap_or(usize::MAX);
        // One that has fewer partitions was made anew.
        let bounds = partitions.get(place).copied().unwrap_or_default();
        if bounds.begin > self.next {
            let next = bounds.begin.min(to);
            count(&shared.counters.expired, next - self.next);
            self.skip_to(shared, next);
            return Some(Step::Moved);
        }
        if bounds.end <= self.next && self.run.under_way() == 0 {
            return Some(Step::Missing { end: bounds.end });
        }
        Some(Step::Nothing)
    }

    async fn fetch<S: Ledger>(&mut self, shared: &Shared<L, S>) -> Result<(), LogError>
    where
        L: Clone,
    {
        let position = Position {
            topic: Arc::clone(&self.run.id.topic),
            partition: self.run.id.partition,
            offset: self.next,
        };
        if self.reader.is_none() {
            self.reader = Some(shared.log.reader_at(&position).await?);
            self.heard = Instant::now();
        }
        if let Some(reader) = &mut self.reader
            && let Ok(records) = tokio::time::timeout(AGAIN, reader.next()).await
        {
            let next = self.next;
            let records = records?.into_iter();
            self.waiting
                .extend(records.filter(|record| record.offset >= next));
            self.has_given |= !self.waiting.is_empty();
            if !self.waiting.is_empty() {
                self.heard = Instant::now();
            }
        }
        if self.waiting.is_empty() && self.heard.elapsed() >= GRACE {
            // A log that was made anew is read from its beginning by whoever was beyond its end.
            // Not earlier: with Kafka a reader may take seconds to connect and to be told of its
            // leader.
            self.reader = None;
        }
        Ok(())
    }

    /// Offers a record, if the endpoint wants it. Where there is no room for its body: the bytes of
    /// that.
    async fn offer<S: Ledger>(
        &mut self,
        shared: &Arc<Shared<L, S>>,
        lane: &Arc<Lane>,
        record: &Record,
    ) -> Result<(), usize>
    where
        L: Clone,
    {
        let next = record.offset + 1;
        let read = caught_now(|| shared.read(record).ok());
        let mut wanted = read.unwrap_or_else(|panicked| {
            shared.panicked("catch_up", &panicked);
            let reason = format!("reading it has panicked: {panicked}");
            bury(shared, record, &reason);
            None
        });
        if let Some(notification) = &wanted
            && !shared.wants(lane.id, notification).await
        {
            wanted = None;
        }
        let Some(notification) = wanted else {
            self.skip_to(shared, next);
            return Ok(());
        };
        let what = What {
            endpoint: lane.id,
            failures: 0,
            span: trace::read(notification.id, record),
            notification: Arc::new(notification.detached()),
        };
        let bytes = what.notification.memory_bytes();
        let held = self.room.take();
        let held = held
            .or_else(|| shared.budget.try_take(bytes))
            .ok_or(bytes)?;
        let probes = self.run.probes(record.offset);
        self.run.begin(record.offset);
        let origin = Origin::Range {
            run: Arc::clone(&self.run),
            offset: record.offset,
        };
        let mut item = Item::new(&shared.recorder, what, origin);
        item.probes = probes;
        item.held = Some(held);
        self.next = next;
        let hired = {
            let mut state = lane.state();
            state.offer_range(item);
            state.call(1)
        };
        shared.hire(lane, hired);
        Ok(())
    }

    fn skip_to<S: Ledger>(&mut self, shared: &Shared<L, S>, next: u64)
    where
        L: Clone,
    {
        self.next = next;
        if let Some(from) = self.run.read_to(next) {
            shared.progress(&self.run, from);
        }
    }
}
