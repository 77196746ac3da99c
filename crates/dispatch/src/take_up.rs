//! Takes up ranges of the log that no dispatcher delivers: the one that began them is gone.
//!
//! Of each endpoint some are claimed at a time, and more when those come to their end; one task
//! reads all ranges of an endpoint. Endpoints that are known to be down come last, and hold one
//! range to probe with. What a paused endpoint owes is not claimed: it costs nothing here, and
//! a dispatcher that has room takes it up when the endpoint is paused no more. What is owed of a
//! topic that is not dispatched is not claimed either: what its records are is not known here.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dovecast_log::Log;
use dovecast_notification::EndpointId;
use tokio::time::Instant;

use crate::behind::MISSING_CHECKS;
use crate::catch_up::{Going, Open, rest, step};
use crate::lane::Lane;
use crate::lane::gate::Takes;
use crate::ledger::{Happened, Ledger, LedgerError, OwedRange, RangeId};
use crate::panics::caught;
use crate::range_reader::{RangeReader, Step};
use crate::shared::Shared;
use crate::take_over;

/// Time between two searches for endpoints that owe ranges which no dispatcher delivers.
const TAKE_UP_INTERVAL: Duration = Duration::from_secs(2);
/// Time for which endpoints that want more ranges are gathered before some are claimed.
const WANTING_GATHER_TIME: Duration = Duration::from_millis(10);
/// Endpoints whose ranges are claimed in one statement: it stays short.
const ENDPOINTS_PER_CLAIM: usize = 50;
/// Ranges of one endpoint that are claimed at a time: bounds what is kept in memory of each.
const RANGES_PER_CLAIM: usize = 16;
/// Ranges of one endpoint that are read at a time: one that cannot be read holds back few others.
const RANGES_AT_A_TIME: usize = 4;

/// A range that is being delivered.
struct Begun {
    range: OwedRange,
    /// In which of our lives it was claimed.
    life: u64,
    /// Checks in a row at which the log ended before it.
    missing: u32,
}

pub(crate) async fn run<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>) {
    let mut look_at = Instant::now();
    loop {
        let done = if Instant::now() < look_at {
            let wanting = std::mem::take(&mut *shared.taken_up.wanting());
            take_up(&shared, wanting).await
        } else {
            look_at = Instant::now() + TAKE_UP_INTERVAL;
            look(&shared).await
        };
        if let Err(error) = done {
            shared.ledger_failed(&error).await;
        }
        tokio::select! {
            () = shared.taken_up.is_wanted.notified() => {
                tokio::time::sleep(WANTING_GATHER_TIME).await;
            }
            () = tokio::time::sleep_until(look_at) => {}
        }
    }
}

/// Takes up ranges of all endpoints that owe some which no dispatcher delivers.
async fn look<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>) -> Result<(), LedgerError> {
    if !shared.can_read() {
        return Ok(());
    }
    let owing = shared.ledger.owing_ranges(shared.now_ms(), shared.topics());
    let owing = owing.await?;
    take_up(shared, owing).await
}

/// Claims ranges of these endpoints, in this order but for those that are down, and has them
/// delivered.
async fn take_up<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    endpoints: Vec<EndpointId>,
) -> Result<(), LedgerError> {
    let is_paused = |id: &EndpointId| {
        let endpoint = shared.directory.endpoint(*id);
        endpoint.is_some_and(|endpoint| endpoint.takes() == Takes::Later)
    };
    let is_down = |id: &EndpointId| {
        let lane = shared.known_lane(*id);
        lane.is_some_and(|lane| lane.state().gate.is_shut(std::time::Instant::now()))
    };
    let is_ordered = |id: &EndpointId| shared.directory.is_ordered(*id);
    let wanted = endpoints.into_iter().filter(|id| !is_paused(id));
    let (ordered, wanted): (Vec<EndpointId>, Vec<EndpointId>) = wanted.partition(is_ordered);
    take_over::take_free(shared, ordered).await?;
    let wanted = wanted
        .into_iter()
        .filter(|id| shared.taken_up.has_room(*id));
    let (down, up): (Vec<EndpointId>, Vec<EndpointId>) = wanted.partition(is_down);
    let has_none = |id: &EndpointId| !shared.taken_up.endpoints().contains_key(id);
    let down: Vec<EndpointId> = down.into_iter().filter(has_none).collect();
    for (endpoints, most) in [(up, RANGES_PER_CLAIM), (down, 1)] {
        for some in endpoints.chunks(ENDPOINTS_PER_CLAIM) {
            if !shared.can_read() || shared.is_stopping() {
                return Ok(());
            }
            // Before it is claimed: what comes after another one's turn is not ours.
            let life = shared.alive.life();
            let (now_ms, topics) = (shared.now_ms(), shared.topics());
            let claim = shared
                .ledger
                .claim_ranges_of(now_ms, most, some.to_vec(), topics);
            let mut of: HashMap<EndpointId, Vec<OwedRange>> = HashMap::new();
            for range in shared.claim(claim).await? {
                of.entry(range.id.endpoint).or_default().push(range);
            }
            for (endpoint, ranges) in of {
                give(shared, endpoint, ranges, life);
            }
        }
    }
    Ok(())
}

/// Gives ranges to the task of their endpoint.
fn give<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    endpoint: EndpointId,
    ranges: Vec<OwedRange>,
    life: u64,
) {
    let mut endpoints = shared.taken_up.endpoints();
    let has_task = endpoints.contains_key(&endpoint);
    let taken = endpoints.entry(endpoint).or_default();
    taken.is_more = ranges.len() >= RANGES_PER_CLAIM;
    let ranges = ranges.into_iter().map(|range| (range, life));
    taken.queue.extend(ranges);
    drop(endpoints);
    if !has_task {
        let turn = Turn {
            shared: Arc::clone(shared),
            endpoint,
            begun: Vec::new(),
            has_left: false,
        };
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            if let Err(panicked) = caught(deliver(turn)).await {
                // What it had was released when it was dropped.
                shared.panicked("take_up", &panicked);
            }
        });
    }
}

/// The ranges of an endpoint that are being delivered. However it ends, what is left is released.
struct Turn<L: Log + Clone, S: Ledger> {
    shared: Arc<Shared<L, S>>,
    endpoint: EndpointId,
    begun: Vec<Begun>,
    /// Whether another task has the endpoint by now, or none.
    has_left: bool,
}

impl<L: Log + Clone, S: Ledger> Drop for Turn<L, S> {
    fn drop(&mut self) {
        let queue = if self.has_left {
            VecDeque::new()
        } else {
            let taken = self.shared.taken_up.endpoints().remove(&self.endpoint);
            taken.map(|taken| taken.queue).unwrap_or_default()
        };
        let begun = std::mem::take(&mut self.begun).into_iter();
        let left = begun.map(|begun| begun.range);
        for range in left.chain(queue.into_iter().map(|(range, _)| range)) {
            self.release(range);
        }
    }
}

/// Delivers what was claimed for an endpoint, until nothing is left.
async fn deliver<L: Log + Clone, S: Ledger>(mut turn: Turn<L, S>) {
    let shared = Arc::clone(&turn.shared);
    let mut open: Open<L> = HashMap::new();
    while !shared.is_stopping() {
        let Some(endpoint) = shared.directory.endpoint(turn.endpoint) else {
            turn.is_unwanted();
            return;
        };
        let lane = shared.lane(&endpoint);
        let is_paused = endpoint.takes() == Takes::Later;
        if is_paused || lane.state().gate.is_shut(std::time::Instant::now()) {
            turn.hold_little(&mut open, is_paused);
        }
        if !turn.begin_more() {
            return;
        }
        if turn.go_on(&lane, &mut open).await {
            continue;
        }
        for reader in open.values_mut() {
            reader.make_way(&shared, &lane);
        }
        rest(&shared, &lane).await;
    }
}

impl<L: Log + Clone, S: Ledger> Turn<L, S> {
    /// Leaves a range to the lane of the endpoint, where that has begun one of this name: `true`,
    /// the lane delivers what was claimed as well.
    fn is_left_to_lane(&self, range: &OwedRange) -> bool {
        let lane = self.shared.known_lane(self.endpoint);
        lane.is_some_and(|lane| {
            let mut state = lane.state();
            let behind = state.behind.as_mut();
            let same = behind.filter(|behind| behind.has(&range.id));
            same.map(|behind| behind.adopt(range)).is_some()
        })
    }

    fn release(&self, range: OwedRange) {
        if !self.is_left_to_lane(&range) {
            self.shared.release(range.id);
        }
    }

    /// Gives up the ranges of an endpoint that is gone, or so new that this process does not know
    /// it: the ledger knows which.
    fn is_unwanted(&mut self) {
        let queue = match self.shared.taken_up.endpoints().get_mut(&self.endpoint) {
            Some(taken) => std::mem::take(&mut taken.queue),
            None => VecDeque::new(),
        };
        let begun = std::mem::take(&mut self.begun).into_iter();
        let begun = begun.map(|begun| begun.range.id);
        let ids = begun.chain(queue.into_iter().map(|(range, _)| range.id));
        let unwanted: Vec<_> = ids.map(Happened::UnwantedRange).collect();
        self.shared.recorder.note_all(unwanted);
        self.shared.recorder.news.notify_one();
    }

    /// The endpoint cannot be delivered to now: keeps what is under way, and one range to probe
    /// with where it is not paused.
    fn hold_little(&mut self, open: &mut Open<L>, is_paused: bool) {
        let mut queue = match self.shared.taken_up.endpoints().get_mut(&self.endpoint) {
            Some(taken) => std::mem::take(&mut taken.queue),
            None => VecDeque::new(),
        };
        let is_idle = |id: &RangeId| open.get(id).is_none_or(RangeReader::is_idle);
        let (idle, mut kept): (Vec<Begun>, Vec<Begun>) = std::mem::take(&mut self.begun)
            .into_iter()
            .partition(|begun| is_idle(&begun.range.id));
        let mut idle = idle.into_iter();
        if kept.is_empty() && !is_paused {
            let first = idle.next().or_else(|| queue.pop_front().map(Begun::new));
            kept.extend(first);
        }
        self.begun = kept;
        for begun in idle {
            // The next to claim it may get further before it comes back.
            open.remove(&begun.range.id);
            self.release(begun.range);
        }
        for (range, _) in queue {
            self.release(range);
        }
    }

    /// Begins with some of what was claimed, and asks for more; `false`: nothing is left.
    fn begin_more(&mut self) -> bool {
        let shared = &self.shared;
        let mut endpoints = shared.taken_up.endpoints();
        let Some(taken) = endpoints.get_mut(&self.endpoint) else {
            return false;
        };
        while self.begun.len() < RANGES_AT_A_TIME
            && let Some(next) = taken.queue.pop_front()
        {
            self.begun.push(Begun::new(next));
        }
        let wants = taken.queue.is_empty() && std::mem::take(&mut taken.is_more);
        if self.begun.is_empty() {
            // What is given from now on has another task.
            endpoints.remove(&self.endpoint);
            self.has_left = true;
        }
        drop(endpoints);
        if wants {
            shared.taken_up.wanting().push(self.endpoint);
            shared.taken_up.is_wanted.notify_one();
        }
        !self.begun.is_empty()
    }

    /// Goes on with each range; `false`: nothing could be done now.
    async fn go_on(&mut self, lane: &Arc<Lane>, open: &mut Open<L>) -> bool {
        let shared = &self.shared;
        let mut has_moved = false;
        let mut place = 0;
        while let Some(begun) = self.begun.get(place) {
            if self.is_left_to_lane(&begun.range) {
                let range = self.begun.remove(place).range;
                if let Some(reader) = open.remove(&range.id) {
                    reader.void();
                }
                has_moved = true;
                continue;
            }
            let Some(begun) = self.begun.get_mut(place) else {
                break;
            };
            let Begun { range, life, .. } = begun;
            let going = Going {
                id: &range.id,
                from: range.from,
                to: range.to,
                life: *life,
            };
            let step = step(shared, lane, open, going).await;
            has_moved |= matches!(step, Step::Moved);
            let is_missing = matches!(step, Step::Missing { .. });
            begun.missing = if is_missing { begun.missing + 1 } else { 0 };
            let reader = open.get(&begun.range.id);
            let is_done = reader.is_some_and(|reader| reader.is_done(begun.range.to));
            let has_vanished = begun.missing >= MISSING_CHECKS;
            if !is_done && !has_vanished && !matches!(step, Step::Left) {
                place += 1;
                continue;
            }
            let range = self.begun.remove(place).range;
            let reader = open.remove(&range.id);
            has_moved = true;
            match step {
                Step::Left => shared.release(range.id),
                Step::Missing { end } if !is_done => {
                    let position = reader.map_or(range.from, |reader| reader.position());
                    shared.missing(&range.id, position..range.to, end);
                    shared.ended(range.id, range.to);
                }
                _ => shared.ended(range.id, range.to),
            }
        }
        has_moved
    }
}

impl Begun {
    fn new((range, life): (OwedRange, u64)) -> Self {
        Self {
            range,
            life,
            missing: 0,
        }
    }
}
