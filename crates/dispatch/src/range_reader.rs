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

use dovecast_log::{Log, Record};
use dovecast_notification::{EndpointId, Notification};

use crate::bad_record::bury_once;
use crate::budget::Reserved;
use crate::item::{Item, Origin, What};
use crate::lane::{Lane, Offered};
use crate::ledger::{Ledger, RangeId};
use crate::live::key_place;
use crate::options::Unread;
use crate::panics::caught_now;
use crate::range_run::RangeRun;
use crate::readers::ReaderPlace;
use crate::shared::Shared;
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
        if let Some(step) = self.is_kept_from(shared) {
            return step;
        }
        let Some(mut window) = self.window(lane, to) else {
            return Step::Nothing;
        };
        if self.waiting.is_empty()
            && let Some(step) = self.read_on(shared, to).await
        {
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

    /// What to do instead of going on, where the range is not ours to go on with.
    fn is_kept_from<S: Ledger>(&self, shared: &Shared<L, S>) -> Option<Step>
    where
        L: Clone,
    {
        if !shared.alive.is_believed() {
            // Its progress could not be noted, and others may deliver it by now.
            return Some(Step::Nothing);
        }
        if !shared.is_dispatched(&self.run.id.topic) {
            // Whoever dispatches it knows what its records are.
            return Some(Step::Left);
        }
        if self.life == shared.alive.life() {
            return None;
        }
        // We were taken for dead: it may be another one's.
        Some(if self.run.under_way() == 0 {
            Step::Left
        } else {
            Step::Nothing
        })
    }

    /// How far the range may be read now; `None`: no further than it was.
    fn window(&self, lane: &Lane, to: u64) -> Option<Window> {
        let (most, waiting, is_ordered) = {
            let state = lane.state();
            if state.gate.is_barred(Instant::now()) {
                return None;
            }
            let most = if state.gate.is_tried_only(Instant::now()) {
                1
            } else {
                state.gate.endpoint().concurrency.max(1) * WINDOW
            };
            let is_ordered = state.gate.endpoint().is_ordered && most > 1;
            (most, state.waiting(), is_ordered)
        };
        let window = Window {
            waiting: most,
            // What waits for another one of its key holds back no other key.
            under_way: if is_ordered {
                most.max(ORDERED_WINDOW)
            } else {
                most
            },
            to,
        };
        let is_open = waiting < most && self.next < to && self.run.under_way() < window.under_way;
        is_open.then_some(window)
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
        let Some(notification) = wanted(shared, lane.id, record).await else {
            self.skip_to(shared, next);
            return Ok(());
        };
        let what = self.what(shared, lane, record, notification);
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
        give(shared, lane, item);
        Ok(())
    }

    /// What is delivered of a record, to the endpoint as it is now.
    fn what<S: Ledger>(
        &self,
        shared: &Shared<L, S>,
        lane: &Lane,
        record: &Record,
        notification: Notification,
    ) -> What {
        let (is_ordered, content) = {
            let state = lane.state();
            let endpoint = state.gate.endpoint();
            (endpoint.is_ordered, endpoint.content.clone())
        };
        let of = self.run.id.partition();
        let order = key_place(&notification, &shared.log_name, of, record.offset);
        What {
            endpoint: lane.id,
            order: order.filter(|_| is_ordered),
            content,
            failures: 0,
            span: trace::read(notification.id, record),
            notification: Arc::new(notification.detached()),
        }
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

/// The notification that a record is, if it is one that the endpoint wants.
async fn wanted<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    endpoint: EndpointId,
    record: &Record,
) -> Option<Notification> {
    let read = caught_now(|| shared.read(record)).unwrap_or_else(|panicked| {
        shared.panicked("catch_up", &panicked);
        Err(Unread::Panicked(panicked.to_string()))
    });
    let notification = match read {
        Ok(notification) => notification,
        Err(unread) => {
            bury_once(shared, record, &unread.to_string());
            return None;
        }
    };
    let is_wanted = shared.wants(endpoint, &notification).await;
    is_wanted.then_some(notification)
}

/// Gives a delivery to the lane.
fn give<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>, lane: &Arc<Lane>, item: Item) {
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
}
