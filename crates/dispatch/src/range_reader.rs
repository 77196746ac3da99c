//! Reads one range of the log that an endpoint has still to get, offers what the endpoint's filter
//! matches, and knows how far it is.
//!
//! A reader may be a connection with its buffers, so each needs a place among the few there are,
//! and makes way for others.

mod fetching;
mod way;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::{Log, LogError, Record};

use crate::bad_record::bury_once;
use crate::budget::Reserved;
use crate::item::{Item, Origin, What};
use crate::lane::{Lane, Offered};
use crate::ledger::{Ledger, RangeId};
use crate::live::key_place;
use crate::options::Unread;
use crate::panics::{answered, caught_now};
use crate::range_run::RangeRun;
use crate::readers::ReaderPlace;
use crate::shared::Shared;
use crate::stats::count;
use crate::trace;

/// Most deliveries of the ranges of one endpoint that wait or are under way, for each of its
/// concurrent attempts.
const WINDOW: usize = 4;
/// Most deliveries of a range that wait or are under way where those of a key go one after the
/// other: more than may begin at a time, which bounds what is read ahead of a slow key.
const ORDERED_WINDOW: usize = 1_000;
/// Time for which a reader that has given nothing yet is kept, also where others wait for its
/// place.
const GRACE: Duration = Duration::from_secs(5);
/// How long until what could not go on is looked at again.
pub(crate) const RANGE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

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

/// How far a range may be read ahead of what is done.
struct Window {
    /// Most deliveries that wait in the queue of the lane, which all of its ranges share.
    waiting: usize,
    /// Most deliveries of the range that wait or are under way.
    under_way: usize,
    /// Offset of the end of the range.
    to: u64,
}

/// How far one range was read.
pub(crate) struct RangeReader<L: Log> {
    run: Arc<RangeRun>,
    /// There is none without a place.
    reader: Option<L::Reader>,
    pub(crate) place: Option<ReaderPlace>,
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
        if !shared.alive.is_believed() {
            // Its progress could not be noted, and others may deliver it by now.
            return Step::Nothing;
        }
        if !shared.is_dispatched(&self.run.id.topic) {
            // Whoever dispatches it knows what its records are.
            return Step::Left;
        }
        if self.life != shared.alive.life() {
            // We were taken for dead: it may be another one's.
            return if self.run.under_way() == 0 {
                Step::Left
            } else {
                Step::Nothing
            };
        }
        let (window, waiting, is_ordered) = {
            let state = lane.state();
            if state.gate.is_barred(Instant::now()) {
                return Step::Nothing;
            }
            let window = if state.gate.is_tried_only(Instant::now()) {
                1
            } else {
                state.gate.endpoint().concurrency.max(1) * WINDOW
            };
            let is_ordered = state.gate.endpoint().is_ordered && window > 1;
            (window, state.waiting(), is_ordered)
        };
        if waiting >= window {
            return Step::Nothing;
        }
        let mut window = Window {
            waiting: window,
            // What waits for another one of its key holds back no other key.
            under_way: if is_ordered {
                window.max(ORDERED_WINDOW)
            } else {
                window
            },
            to,
        };
        if self.next >= to || self.run.under_way() >= window.under_way {
            return Step::Nothing;
        }
        let began = Instant::now();
        if self.waiting.is_empty() {
            let readers = &shared.readers;
            let is_over = self.place.as_ref().is_some_and(ReaderPlace::is_over);
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
                    tracing::warn!(%error, endpoint.id = %lane.id, "a range of the log cannot be read, reading it is retried");
                    self.reader = None;
                    tokio::time::sleep(RANGE_RETRY_INTERVAL).await;
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
        window.under_way = window.under_way.min(shared.budget.window(front));
        if self.run.under_way() >= window.under_way {
            return Step::Nothing;
        }
        self.offer_waiting(shared, lane, &window).await
    }

    /// Offers what was fetched, as far as the window goes.
    async fn offer_waiting<S: Ledger>(
        &mut self,
        shared: &Arc<Shared<L, S>>,
        lane: &Arc<Lane>,
        window: &Window,
    ) -> Step
    where
        L: Clone,
    {
        while self.run.under_way() < window.under_way
            && let Some(record) = self.waiting.pop_front()
        {
            if record.offset >= window.to {
                let end = window.to.max(self.next);
                self.waiting.push_front(record);
                self.skip_to(shared, end);
                break;
            }
            if let Err(bytes) = self.offer(shared, lane, &record).await {
                self.waiting.push_front(record);
                return Step::WantsRoom(bytes);
            }
            if lane.state().waiting() >= window.waiting {
                break;
            }
            // Costly conditions may have kept it longer than its time.
            let is_over = self.place.as_ref().is_some_and(ReaderPlace::is_over);
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
        let read = caught_now(|| shared.read(record)).unwrap_or_else(|panicked| {
            shared.panicked("catch_up", &panicked);
            Err(Unread::Panicked(panicked.to_string()))
        });
        let mut wanted = match read {
            Ok(notification) => Some(notification),
            Err(unread) => {
                bury_once(shared, record, &unread.to_string());
                None
            }
        };
        if let Some(notification) = &wanted
            && !shared.wants(lane.id, notification).await
        {
            wanted = None;
        }
        let Some(notification) = wanted else {
            self.skip_to(shared, next);
            return Ok(());
        };
        let (is_ordered, content) = {
            let state = lane.state();
            let endpoint = state.gate.endpoint();
            (endpoint.is_ordered, endpoint.content.clone())
        };
        let of = self.run.id.partition();
        let order = key_place(&notification, &shared.log_name, of, record.offset);
        let order = order.filter(|_| is_ordered);
        let what = What {
            endpoint: lane.id,
            order,
            content,
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
        let written = shared.recorder.written();
        let (offered, hired) = {
            let mut state = lane.state();
            let offered = state.offer_range(item, written);
            let hired = state.call(usize::from(matches!(offered, Offered::Queued)));
            (offered, hired)
        };
        shared.hire(lane, hired);
        match offered {
            Offered::Joins(joining) => shared.join(vec![joining], Duration::ZERO),
            // It is read again when the range goes on.
            Offered::Ended(item) => item.abandon(),
            _ => {}
        }
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
