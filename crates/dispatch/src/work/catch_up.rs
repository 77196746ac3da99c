//! Catching up: an endpoint that owes ranges of the log gets them, read again and through its filter.
//!
//! Ranges that grow are those of a lane that is behind; when one has been delivered to its end, and has not grown meanwhile, the lane is behind no
//! more. Others are of lanes that were behind in another process, and do not grow.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dovecast_log::Log;

use super::Shared;
use super::lane::Lane;
use super::ledger::{Ledger, OwedRange, RangeId};
use super::range_reader::{AGAIN, RangeReader, Step};

/// Has somebody catch up with a lane that is behind, if nobody does.
pub(super) fn start<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>, lane: &Arc<Lane>) {
    let is_wanted = match &mut lane.state().behind {
        Some(behind) => !std::mem::replace(&mut behind.is_caught_up_with, true),
        None => false,
    };
    if is_wanted {
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
            Step::Left => {
                let is_out = match &mut lane.state().behind {
                    Some(behind) => behind.remove(&id, to),
                    None => true,
                };
                if !is_out {
                    // It grows just now: the recorder has to know that before it hears that the range is left.
                    return false;
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
    /// If the range is still ours, whoever asks gets it.
    fn release(&self, id: RangeId) {
        self.recorder.happened().released.push(id);
        self.recorder.news.notify_one();
    }
}

/// Takes ranges out that are done; `true`: that was all, and the lane is behind no more.
fn is_caught_up<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    lane: &Lane,
    readers: &mut HashMap<RangeId, RangeReader<L>>,
) -> bool {
    let ranges = match &lane.state().behind {
        Some(behind) => behind.ids(lane.id),
        None => return true,
    };
    let is_done = |(id, to): &(RangeId, u64)| {
        let reader = readers.get(id);
        reader.is_some_and(|reader| reader.is_done(*to))
    };
    let mut done: Vec<_> = ranges.into_iter().filter(is_done).collect();
    let is_all = {
        let mut state = lane.state();
        let must_wait = state.must_wait();
        let Some(behind) = &mut state.behind else {
            return true;
        };
        // What has grown meanwhile goes on.
        done.retain(|(id, to)| behind.remove(id, *to));
        let is_all = behind.is_empty() && !must_wait;
        if is_all {
            state.behind = None;
        }
        is_all
    };
    for (id, to) in done {
        readers.remove(&id);
        shared.ended(id, to);
    }
    is_all
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
    let hired = {
        let mut state = lane.state();
        let probe_at = if state.breaker.is_open() {
            state.probe(now)
        } else {
            None
        };
        if let Some(at) = probe_at {
            return at.saturating_duration_since(now).min(AGAIN);
        }
        let waiting = state.waiting();
        state.call(waiting.min(1))
    };
    shared.hire(lane, hired);
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
            Step::Left => return shared.release(range.id),
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
