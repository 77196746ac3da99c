//! Catching up: an endpoint that owes ranges of the log gets them, read again and through its filter.
//!
//! Ranges that grow are those of a lane that is behind; when one has been delivered to its end, and has not grown meanwhile, the lane is behind no
//! more. Others are of lanes that were behind in another process, and do not grow.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dovecast_log::{Log, LogError, Position, Reader, Record, StartAt};

use super::item::{Item, Origin, RangeRun};
use super::lane::{Lane, State};
use super::ledger::{Ledger, OwedRange, RangeId};
use super::readers::Place;
use super::stats::count;
use super::{Shared, ms, now_ms, trace};

/// Of one endpoint so many deliveries of ranges wait or are under way, times its concurrency.
const WINDOW: usize = 4;
/// How long the log may take to say where it begins ...
const ASKED: Duration = Duration::from_secs(3);
/// ... and how long it may not be readable before others get a try ...
const UNREADABLE: Duration = Duration::from_secs(5);
/// ... and before we take anything up again.
const REST: Duration = Duration::from_secs(15);
/// How long a reader that has given nothing yet is kept, whoever wants its place.
const GRACE: Duration = Duration::from_secs(5);
/// Records of a range that are kept while it has no reader.
const KEPT: usize = 64;
/// How long until what could not go on is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// Has somebody catch up with a lane that is behind, if nobody does.
pub(super) fn start<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    state: &mut State,
) {
    let Some(behind) = &mut state.behind else {
        return;
    };
    if !behind.is_caught_up_with {
        behind.is_caught_up_with = true;
        tokio::spawn(growing(Arc::clone(shared), Arc::clone(lane)));
    }
}

/// Delivers the ranges of a lane that is behind, until it is so no more.
async fn growing<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>, lane: Arc<Lane>) {
    let mut readers: HashMap<RangeId, RangeReader<L>> = HashMap::new();
    while !shared.is_stopping() {
        let ranges = match lane.state().behind.as_ref() {
            Some(behind) => behind.ids(lane.id),
            None => return,
        };
        let mut has_moved = false;
        for (id, to) in ranges {
            has_moved |= go_on(&shared, &lane, &mut readers, (id, to)).await;
        }
        if has_moved {
            continue;
        }
        if is_caught_up(&shared, &lane, &mut readers) {
            return;
        }
        for reader in readers.values_mut() {
            reader.make_way(&shared, &lane);
        }
        rest(&shared, &lane).await;
    }
}

/// Goes on with one range of a lane; `false`: nothing could be done now.
async fn go_on<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    readers: &mut HashMap<RangeId, RangeReader<L>>,
    (id, to): (RangeId, u64),
) -> bool {
    let start = id.start;
    let mut place = None;
    let life = shared.lives.load(Ordering::Acquire);
    loop {
        let reader = readers
            .entry(id.clone())
            .or_insert_with_key(|id| RangeReader::new(id.clone(), start, life));
        reader.place = place.take().or(reader.place.take());
        match reader.step(shared, lane, to).await {
            Step::Moved => return true,
            Step::Nothing => return false,
            Step::WantsReader => place = shared.readers.try_take(),
            Step::Unreadable => {
                if let Some(behind) = &mut lane.state().behind {
                    behind.ranges.remove(&(Arc::clone(&id.topic), id.partition));
                }
                readers.remove(&id);
                shared.give_up(id);
                return true;
            }
            Step::Lapsed => {
                if let Some(behind) = &mut lane.state().behind {
                    behind.ranges.remove(&(Arc::clone(&id.topic), id.partition));
                }
                readers.remove(&id);
                shared.release(id);
                return true;
            }
        }
        if place.is_none() {
            // Whoever waits for a place holds none.
            readers.values_mut().for_each(RangeReader::close);
            place = shared.readers.take().await;
        }
    }
}

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// Somebody else may be able to read this range.
    fn give_up(&self, id: RangeId) {
        tracing::warn!(
            endpoint.id = %id.endpoint, topic = &*id.topic, partition = id.partition,
            "the log cannot be read: what an endpoint owes of it is left to others"
        );
        self.unreadable_until_ms
            .store(now_ms() + ms(REST), Ordering::Release);
        self.release(id);
    }

    /// If it is still ours, whoever asks gets it.
    fn release(&self, id: RangeId) {
        self.recorder.happened().released.push(id);
        self.recorder.news.notify_one();
    }

    /// Whether ranges can be read here, as far as is known.
    pub(super) fn can_read(&self) -> bool {
        now_ms() > self.unreadable_until_ms.load(Ordering::Acquire)
    }
}

/// Takes ranges out that are done; `true`: that was all, and the lane is behind no more.
fn is_caught_up<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    lane: &Lane,
    readers: &mut HashMap<RangeId, RangeReader<L>>,
) -> bool {
    let mut state = lane.state();
    let must_wait = state.must_wait();
    let Some(behind) = &mut state.behind else {
        return true;
    };
    for (id, to) in behind.ids(lane.id) {
        let is_done = readers.get(&id).is_some_and(|reader| reader.is_done(to));
        if is_done {
            behind.ranges.remove(&(Arc::clone(&id.topic), id.partition));
            readers.remove(&id);
            shared.ended(id, to);
        }
    }
    if behind.ranges.is_empty() && !must_wait {
        state.behind = None;
        return true;
    }
    false
}

/// Waits until it may go on.
async fn rest<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>, lane: &Arc<Lane>) {
    let wait = nudge(shared, lane);
    tokio::select! {
        () = lane.ended.notified() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// Sees to it that what waits is delivered, or one of it tried where the breaker is open; how long to wait for that.
fn nudge<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>, lane: &Arc<Lane>) -> Duration {
    let now = Instant::now();
    let mut state = lane.state();
    let probe_at = if state.breaker.is_open() {
        state.probe(now)
    } else {
        None
    };
    if let Some(at) = probe_at {
        return at.saturating_duration_since(now).min(AGAIN);
    }
    if !state.is_empty() {
        shared.wake(lane, &mut state);
    }
    AGAIN
}

/// Delivers a range that does not grow.
pub(super) async fn fixed<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>, range: OwedRange) {
    let shared = &shared;
    let life = shared.lives.load(Ordering::Acquire);
    let mut reader = RangeReader::new(range.id.clone(), range.from, life);
    while !shared.is_stopping() && !reader.is_done(range.to) {
        let Some(endpoint) = shared.directory.endpoint(range.id.endpoint) else {
            // Nobody wants it any more; or it is so new that we have not heard of it.
            shared.recorder.happened().unwanted_ranges.push(range.id);
            shared.recorder.news.notify_one();
            return;
        };
        let lane = shared.lane(&endpoint);
        match reader.step(shared, &lane, range.to).await {
            Step::Moved => {}
            Step::WantsReader => reader.place = shared.readers.take().await,
            Step::Unreadable => return shared.give_up(range.id),
            Step::Lapsed => return shared.release(range.id),
            Step::Nothing => {
                reader.make_way(shared, &lane);
                rest(shared, &lane).await;
            }
        }
    }
    if reader.is_done(range.to) {
        shared.ended(range.id, range.to);
    }
}

/// What came of going on with a range.
enum Step {
    /// There may be more to do.
    Moved,
    /// Nothing could be done now.
    Nothing,
    /// It has to be read, and that takes a place for a reader.
    WantsReader,
    /// The log cannot be read here: others may be able to.
    Unreadable,
    /// It may be another one's: we were taken for dead.
    Lapsed,
}

/// How far one range was read.
struct RangeReader<L: Log> {
    run: Arc<RangeRun>,
    /// There is none without a place.
    reader: Option<L::Reader>,
    place: Option<Place>,
    waiting: VecDeque<Record>,
    /// Everything before was looked at.
    next: u64,
    /// Since when the log could not be read.
    failing: Option<Instant>,
    /// Something has come since the reader was opened.
    has_given: bool,
    /// In which of our lives it was claimed.
    life: u64,
}

impl<L: Log> RangeReader<L> {
    fn new(id: RangeId, from: u64, life: u64) -> Self {
        Self {
            run: RangeRun::new(id, from),
            reader: None,
            place: None,
            waiting: VecDeque::new(),
            next: from,
            failing: None,
            has_given: false,
            life,
        }
    }

    fn is_done(&self, to: u64) -> bool {
        self.next >= to && self.run.under_way() == 0
    }

    /// Reads no more for now, and gives its place away.
    fn close(&mut self) {
        self.reader = None;
        self.place = None;
        self.has_given = false;
        // What is left out is read again.
        self.waiting.truncate(KEPT);
    }

    /// Whether it may be closed for others: it has been good for something, or will not be.
    fn may_make_way(&self) -> bool {
        let place = self.place.as_ref();
        self.has_given || place.is_some_and(|place| place.is_older_than(GRACE))
    }

    /// Keeps nothing that others want, or that is of no use for now.
    fn make_way<S: Ledger>(&mut self, shared: &Shared<L, S>, lane: &Lane)
    where
        L: Clone,
    {
        if lane.state().must_wait() {
            self.close();
            // It is read again.
            self.waiting.clear();
        } else if shared.readers.are_wanted() && self.may_make_way() {
            self.close();
        }
    }

    /// Reads on, and offers what the endpoint wants.
    async fn step<S: Ledger>(
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
            return if self.run.under_way() == 0 {
                Step::Lapsed
            } else {
                Step::Nothing
            };
        }
        let window = {
            let state = lane.state();
            if state.endpoint.is_paused {
                return Step::Nothing;
            }
            if state.breaker.is_open() {
                // Enough to probe with.
                1
            } else {
                state.endpoint.concurrency.max(1) * WINDOW
            }
        };
        // All ranges of a lane share its queue.
        let is_full = self.run.under_way() >= window || lane.state().waiting() >= window;
        if self.next >= to || is_full {
            return Step::Nothing;
        }
        if self.waiting.is_empty() {
            let readers = &shared.readers;
            let is_over = self.place.as_ref().is_some_and(Place::is_over);
            if is_over && self.may_make_way() && readers.are_wanted() {
                self.close();
            }
            if self.place.is_none() {
                return Step::WantsReader;
            }
            match self.fetch(shared).await {
                Ok(()) => {}
                Err(LogError::Corrupt { offsets, .. }) => {
                    count(&shared.counters.damaged, 1);
                    self.skip_to(shared, offsets.end);
                    return Step::Moved;
                }
                Err(error) => {
                    tracing::warn!(%error, endpoint.id = %lane.id, "a range of the log cannot be read, it is tried again");
                    self.reader = None;
                    tokio::time::sleep(AGAIN).await;
                    return self.unread();
                }
            }
        }
        if self.waiting.is_empty() {
            return self.skip_expired(shared, to).await;
        }
        self.failing = None;
        while self.run.under_way() < window
            && let Some(record) = self.waiting.pop_front()
        {
            if record.offset >= to {
                let end = to.max(self.next);
                self.waiting.push_front(record);
                self.skip_to(shared, end);
                break;
            }
            self.offer(shared, lane, &record);
        }
        Step::Moved
    }

    /// The log could not be read.
    fn unread(&mut self) -> Step {
        let since = *self.failing.get_or_insert_with(Instant::now);
        // What is under way may still end here.
        if since.elapsed() > UNREADABLE && self.run.under_way() == 0 {
            Step::Unreadable
        } else {
            Step::Nothing
        }
    }

    /// Nothing has come: passes over what the log has dropped.
    async fn skip_expired<S: Ledger>(&mut self, shared: &Shared<L, S>, to: u64) -> Step
    where
        L: Clone,
    {
        let topic = &self.run.id.topic;
        let begins = shared.log.positions(topic, StartAt::Beginning);
        let Ok(Ok(begins)) = tokio::time::timeout(ASKED, begins).await else {
            return self.unread();
        };
        self.failing = None;
        let place = usize::try_from(self.run.id.partition).unwrap_or(usize::MAX);
        let begin = begins.get(place).copied();
        let Some(begin) = begin.filter(|begin| *begin > self.next) else {
            return Step::Nothing;
        };
        let next = begin.min(to);
        count(&shared.counters.expired, next - self.next);
        self.skip_to(shared, next);
        Step::Moved
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
        }
        if let Some(reader) = &mut self.reader
            && let Ok(records) = tokio::time::timeout(AGAIN, reader.next()).await
        {
            // A log that has lost its end begins anew.
            let records = records?.into_iter();
            let next = self.next;
            self.waiting
                .extend(records.filter(|record| record.offset >= next));
            self.has_given |= !self.waiting.is_empty();
        }
        Ok(())
    }

    fn offer<S: Ledger>(&mut self, shared: &Arc<Shared<L, S>>, lane: &Arc<Lane>, record: &Record)
    where
        L: Clone,
    {
        count(
            &shared.counters.expired,
            record.offset.saturating_sub(self.next),
        );
        let next = record.offset + 1;
        let wanted = shared.read(record).ok().filter(|notification| {
            let filter = shared.directory.filter(lane.id);
            filter.is_some_and(|filter| filter.mismatch(notification).is_none())
        });
        if let Some(notification) = wanted {
            self.run.begin(record.offset);
            self.next = next;
            let mut state = lane.state();
            state.offer_range(Item {
                notification: notification.id,
                body: notification.body(),
                failures: 0,
                since: Instant::now(),
                origin: Origin::Range {
                    run: Arc::clone(&self.run),
                    offset: record.offset,
                },
                in_flight: 0,
                span: trace::read(notification.id, record),
                probes: 0,
                _claim: None,
            });
            shared.wake(lane, &mut state);
        } else {
            self.skip_to(shared, next);
        }
    }

    fn skip_to<S: Ledger>(&mut self, shared: &Shared<L, S>, next: u64)
    where
        L: Clone,
    {
        self.next = next;
        if let Some(from) = self.run.read_to(next) {
            shared.progress(&self.run.id, from);
        }
    }
}
