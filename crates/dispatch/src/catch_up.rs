//! Catching up: what an endpoint could not take in time was left in the log, as ranges of offsets
//! that it is owed; here those are read again and delivered, through its filter.
//!
//! Ranges that grow are those of a lane that is behind; when one has been delivered to its end, and
//! has not grown meanwhile, the lane is behind no more. Others are of lanes that were behind in
//! another process, and do not grow: see `take_up`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::Log;
use tokio::sync::mpsc;

use crate::behind::{Growth, Part};
use crate::lane::Lane;
use crate::ledger::{Happened, Ledger, RangeId};
use crate::panics::{PANIC_REST, caught};
use crate::range_reader::{RANGE_RETRY_INTERVAL, RangeReader, Step};
use crate::shared::Shared;
use crate::stats::count;
use crate::take_over;

/// How long a range waits for room in memory before its endpoint is looked at again: who waits
/// keeps its turn.
const RANGE_ROOM_PATIENCE: Duration = Duration::from_secs(5);

/// Catches up with lanes that have said that they fell behind, each in a task of its own, until the
/// dispatcher stops.
pub(crate) async fn run<L: Log + Clone, S: Ledger>(
    shared: Arc<Shared<L, S>>,
    mut fallen_behind: mpsc::UnboundedReceiver<Arc<Lane>>,
) {
    while let Some(lane) = fallen_behind.recv().await {
        tokio::spawn(growing(Arc::clone(&shared), lane));
    }
}

/// Delivers the ranges of a lane that is behind, until it is so no more.
async fn growing<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>, lane: Arc<Lane>) {
    let mut open: Open<L> = HashMap::new();
    while let Err(panicked) = caught(grow(&shared, &lane, &mut open)).await {
        shared.panicked("catch_up", &panicked);
        open.values_mut().for_each(RangeReader::begin_anew);
        tokio::time::sleep(PANIC_REST).await;
    }
}

async fn grow<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    open: &mut Open<L>,
) {
    while !shared.is_stopping() {
        if shared.directory.endpoint(lane.id).is_none() {
            if give_up(shared, lane, open) {
                return;
            }
            rest(shared, lane).await;
            continue;
        }
        let is_ordered = lane.state().gate.endpoint().is_ordered;
        let mut question = None;
        if is_ordered {
            question = take_over::ask(shared, lane, open).await;
        } else if let Some(behind) = &mut lane.state().behind {
            // Asked for while it was in order.
            behind.ask_nothing();
        }
        let (ranges, covered) = match lane.state().behind.as_mut() {
            Some(behind) => {
                let covered = behind.take_covered(lane.id);
                let ranges = if is_ordered {
                    behind.first_parts(lane.id)
                } else {
                    behind.parts(lane.id)
                };
                (ranges, covered)
            }
            None => return,
        };
        for (id, to) in covered {
            // What is under way of it comes again with the range that covers it.
            open.remove(&id);
            shared.ended(id, to);
        }
        let mut has_moved = false;
        for part in ranges {
            has_moved |= go_on(shared, lane, open, part).await;
        }
        if has_moved {
            continue;
        }
        match is_caught_up(shared, lane, open) {
            CaughtUp::Yes => return,
            CaughtUp::HasGrown => continue,
            CaughtUp::No => {}
        }
        for reader in open.values_mut() {
            reader.make_way(shared, lane);
        }
        for id in open.keys() {
            is_read_to(lane, open, id);
        }
        take_over::rest(shared, lane, question).await;
    }
}

/// Gives up the ranges of an endpoint that is gone, unread: the ledger knows whether it is. `true`:
/// the lane is behind no more.
fn give_up<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    open: &mut Open<L>,
) -> bool {
    // What was noted before it went is part of its ranges first.
    let has_missed_nothing = shared.has_missed_nothing(lane);
    let (parts, is_all) = {
        let mut state = lane.state();
        let Some(behind) = &mut state.behind else {
            return true;
        };
        behind.ask_nothing();
        let mut parts = behind.parts(lane.id);
        // One that grows just now goes when the recorder knows of it.
        parts.retain(|part| behind.remove(&part.id, part.to));
        let is_all = behind.is_empty() && has_missed_nothing;
        if is_all {
            state.behind = None;
        }
        // Where the endpoint comes back, the ledger is asked what it owes.
        state.order.doubt(None);
        (parts, is_all)
    };
    let mut unwanted = Vec::with_capacity(parts.len());
    for Part { id, .. } in parts {
        if let Some(reader) = open.remove(&id) {
            reader.void();
        }
        unwanted.push(Happened::UnwantedRange(id));
    }
    shared.recorder.note_all(unwanted);
    shared.recorder.news.notify_one();
    is_all
}

/// Goes on with one range of a lane that is behind; `false`: nothing could be done now.
async fn go_on<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    open: &mut Open<L>,
    Part { id, from, to }: Part,
) -> bool {
    let is_set_back = match &mut lane.state().behind {
        Some(behind) => behind.take_set_back(&id),
        None => false,
    };
    if is_set_back {
        if let Some(reader) = open.remove(&id) {
            reader.void();
        }
        // What the former reader has said meanwhile is taken back.
        let begins = Growth {
            id: id.clone(),
            to,
            begins: true,
        };
        shared.recorder.grown(&[begins]);
    }
    let range = Going {
        from,
        to,
        life: shared.alive.life(),
        id: &id,
    };
    let step = step(shared, lane, open, range).await;
    is_read_to(lane, open, &id);
    match step {
        Step::Moved => true,
        Step::Nothing | Step::WantsReader | Step::WantsRoom(_) => false,
        Step::Missing { end } => {
            let missing = match &mut lane.state().behind {
                Some(behind) => behind.is_missing(&id),
                None => None,
            };
            if let (Some(to), Some(reader)) = (missing, open.remove(&id)) {
                shared.missing(&id, reader.position()..to, end);
                shared.ended(id, to);
                return true;
            }
            false
        }
        Step::Left => {
            let is_out = leave(lane, &id, to);
            if is_out {
                open.remove(&id);
                shared.release(id);
            }
            // Else it grows just now: the recorder has to know that before it hears that the range
            // is left.
            is_out
        }
    }
}

/// Takes a range out of its lane, to be released. Where deliveries of a key go one after the other
/// the lane asks for it again, or for who has it: nothing behind it may be delivered meanwhile.
pub(crate) fn leave(lane: &Lane, id: &RangeId, to: u64) -> bool {
    let mut state = lane.state();
    let is_ordered = state.gate.endpoint().is_ordered;
    let Some(behind) = &mut state.behind else {
        return true;
    };
    let is_out = behind.remove(id, to);
    if is_out && is_ordered {
        behind.ask(id.partition());
        state.order.doubt(Some(&id.partition()));
    }
    is_out
}

/// The lane knows how far a range was read.
fn is_read_to<L: Log>(lane: &Lane, open: &Open<L>, id: &RangeId) {
    if let Some(reader) = open.get(id)
        && let Some(behind) = &mut lane.state().behind
    {
        behind.read_to(id, reader.position());
    }
}

/// The ranges of an endpoint that are being read.
pub(crate) type Open<L> = HashMap<RangeId, RangeReader<L>>;

/// A range that is gone on with.
#[derive(Clone, Copy)]
pub(crate) struct Going<'a> {
    pub(crate) id: &'a RangeId,
    /// Where it begins, if it has not begun.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// In which of our lives it was claimed.
    pub(crate) life: u64,
}

/// Goes on with one of the ranges of an endpoint, when there is a place for its reader.
pub(crate) async fn step<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    open: &mut Open<L>,
    range: Going<'_>,
) -> Step {
    let mut place = None;
    loop {
        let reader = open
            .entry(range.id.clone())
            .or_insert_with_key(|id| RangeReader::new(id.clone(), range.from, range.life));
        reader.place = place.take().or(reader.place.take());
        match reader.step(shared, lane, range.to).await {
            Step::WantsReader => place = shared.readers.try_take(),
            Step::WantsRoom(bytes) => {
                reader.room = shared.budget.wait(bytes, RANGE_ROOM_PATIENCE).await;
                if reader.room.is_none() {
                    return Step::Nothing;
                }
                continue;
            }
            step => return step,
        }
        if place.is_none() {
            // A task that waits for a place holds none.
            for reader in open.values_mut() {
                reader.close(&shared.budget);
            }
            let account = Arc::clone(&lane.state().gate.endpoint().account);
            place = shared.readers.take(&account).await;
        }
    }
}

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// Gives a range back, if it is still ours: the next dispatcher that asks gets it.
    pub(crate) fn release(&self, id: RangeId) {
        self.recorder.note(Happened::Released(id));
        self.recorder.news.notify_one();
    }

    /// The log does not have what is left of a range.
    pub(crate) fn missing(&self, id: &RangeId, left: Range<u64>, end: u64) {
        count(&self.counters.missing, left.end.saturating_sub(left.start));
        if let Some(suppressed) = self.missing_lines.take_counted() {
            tracing::error!(
                endpoint.id = %id.endpoint, topic = &*id.topic, partition = id.partition,
                from = left.start, to = left.end, end, suppressed,
                "an endpoint owes records that the log does not have: it was made anew, truncated or restored"
            );
        }
    }
}

/// How far a lane is.
enum CaughtUp {
    /// The lane is behind no more.
    Yes,
    /// There is more to read at once.
    HasGrown,
    /// The lane has to wait, or for what is under way.
    No,
}

/// Takes ranges out that are done.
fn is_caught_up<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    open: &mut Open<L>,
) -> CaughtUp {
    let (ranges, must_wait) = {
        let state = lane.state();
        let Some(behind) = &state.behind else {
            return CaughtUp::Yes;
        };
        (behind.parts(lane.id), state.gate.is_shut(Instant::now()))
    };
    let is_done = |part: &Part| {
        let reader = open.get(&part.id);
        reader.is_some_and(|reader| reader.is_done(part.to))
    };
    let is_all = !must_wait && ranges.iter().all(is_done);
    if is_all && !shared.has_missed_nothing(lane) {
        return CaughtUp::HasGrown;
    }
    let mut done: Vec<_> = ranges.into_iter().filter(is_done).collect();
    let is_all = {
        let mut state = lane.state();
        let must_wait = state.gate.is_shut(Instant::now());
        let Some(behind) = &mut state.behind else {
            return CaughtUp::Yes;
        };
        // What has grown meanwhile goes on.
        done.retain(|part| behind.remove(&part.id, part.to));
        let is_all = behind.is_empty() && !must_wait;
        if is_all {
            state.behind = None;
        }
        is_all
    };
    for Part { id, to, .. } in done {
        open.remove(&id);
        shared.ended(id, to);
    }
    if is_all { CaughtUp::Yes } else { CaughtUp::No }
}

/// Waits until it may go on.
pub(crate) async fn rest<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>, lane: &Arc<Lane>) {
    let wait = nudge(shared, lane);
    tokio::select! {
        () = lane.ended.notified() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// Sees to it that what waits is delivered, or one of it tried where the breaker is open; how long
/// to wait for that.
fn nudge<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>, lane: &Arc<Lane>) -> Duration {
    let now = Instant::now();
    let hired = {
        let mut state = lane.state();
        let probe_at = if state.gate.is_open_breaker() {
            state.probe(now)
        } else {
            None
        };
        if let Some(at) = probe_at {
            // It may probe already, and has nothing to probe with.
            return if at <= now {
                RANGE_RETRY_INTERVAL
            } else {
                RANGE_RETRY_INTERVAL.min(at - now)
            };
        }
        let waiting = state.waiting();
        state.call(waiting.min(1))
    };
    shared.hire(lane, hired);
    RANGE_RETRY_INTERVAL
}
