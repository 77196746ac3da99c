//! Claims deliveries that have failed and are due again from the ledger (the database), and offers
//! them to their endpoints.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::Log;
use dovecast_notification::{BadNotification, EndpointId, Notification, OrderKey};

use crate::budget::Reserved;
use crate::clock::Steps;
use crate::item::{Item, Origin, What};
use crate::lane::gate::Takes;
use crate::lane::{Lane, Run};
use crate::ledger::{BEHIND, Claiming, DeadLetter, Happened, Ledger, Owed};
use crate::panics::caught_now;
use crate::recorder::Recorder;
use crate::room::Share;
use crate::shared::Shared;
use crate::stats::count;
use crate::trace;

/// How often it is looked for deliveries that are due.
const CLAIM_INTERVAL: Duration = Duration::from_millis(500);
/// Deliveries, dead letters and attempts that wait to be written from which on nothing is claimed.
const MAX_UNWRITTEN_TO_CLAIM: usize = 20_000;
/// Most deliveries that are claimed at a time.
const MAX_CLAIMED: usize = 500;
/// Part that one claim takes at most of what may be claimed still, one in so many: so one account
/// does not have all of it at once.
const CLAIMED_PART: u64 = 4;
/// When a delivery is looked at again whose endpoint is not known here.
const UNKNOWN_ENDPOINT_WAIT: Duration = Duration::from_secs(5);
/// When a delivery to an endpoint that is paused is looked at again.
pub(crate) const PAUSED: Duration = Duration::from_mins(1);

/// Deliveries of one key, or one, that were claimed and are not offered yet. What is left of them
/// when this is dropped, because of a panic, is owed: the first of all was in hand, and others come
/// behind those before them.
struct ClaimedRun<'a> {
    recorder: &'a Recorder,
    /// Whether some before these were taken out.
    is_begun: bool,
    left: VecDeque<(Owed, Option<Arc<Reserved>>)>,
}

impl Drop for ClaimedRun<'_> {
    fn drop(&mut self) {
        let mut left = std::mem::take(&mut self.left).into_iter();
        if !self.is_begun
            && let Some((owed, held)) = left.next()
        {
            self.recorder.dropped_claimed(owed, held);
        }
        for (owed, held) in left {
            let behind = Owed {
                due_ms: BEHIND,
                ..owed
            };
            self.recorder.note(Happened::GivenBack(behind));
            self.recorder.hold(held);
        }
    }
}

pub(crate) async fn run<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>) {
    let mut steps = Steps::new(&shared.options.clock);
    loop {
        if let Some(by_ms) = steps.step_ms() {
            tracing::warn!(
                by_ms,
                "the clock was set; retries keep their remaining delay"
            );
            shared.recorder.postpone();
        }
        // Nothing is claimed by due times that are not right.
        let is_more = !shared.recorder.is_postponing() && claim(&shared).await;
        if !is_more {
            tokio::time::sleep(CLAIM_INTERVAL).await;
        }
    }
}

/// Claims what is due, as far as there is room, and offers it; `true`: more may be due.
async fn claim<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>) -> bool {
    let left = shared.room.claims_left();
    if left == 0 || shared.recorder.waiting() >= MAX_UNWRITTEN_TO_CLAIM {
        return false;
    }
    let most = usize::try_from(left.div_ceil(CLAIMED_PART)).unwrap_or(usize::MAX);
    let most = most.min(MAX_CLAIMED);
    let except = have_enough(shared);
    let Some(mut room) = shared.budget.take_for(most, CLAIM_INTERVAL).await else {
        return false;
    };
    let (most, bytes) = room.holds(most);
    let ledger = &shared.ledger;
    let claiming = Claiming {
        now_ms: shared.now_ms(),
        most,
        bytes,
        except,
        partitions: shared.claimable(),
    };
    let written = shared.recorder.written();
    let claimed = match shared.claim(async { ledger.claim(claiming).await }).await {
        Ok(claimed) => claimed,
        Err(error) => {
            drop(room);
            shared.ledger_failed(&error).await;
            return false;
        }
    };
    for run in runs(claimed.owed) {
        let key = run.first().and_then(key);
        let is_complete = key.is_some_and(|key| claimed.complete.contains(&key));
        let held = |owed: Owed| {
            let held = room.take(&shared.budget, owed.content.len());
            (owed, held)
        };
        let run = ClaimedRun {
            recorder: &shared.recorder,
            is_begun: false,
            left: run.into_iter().map(held).collect(),
        };
        // What is dropped by a panic is owed: each for itself, they are all claimed by now.
        if let Err(panicked) = caught_now(|| retry(shared, run, is_complete, written)) {
            shared.panicked("retrier", &panicked);
        }
    }
    claimed.is_more
}

/// Endpoints for which nothing is claimed now: they are paused or down, or have enough to do, or
/// their account has.
fn have_enough<L: Log + Clone, S: Ledger>(shared: &Shared<L, S>) -> Vec<EndpointId> {
    let now = Instant::now();
    let lanes: Vec<_> = shared.lanes().values().cloned().collect();
    let share = shared.budget.lane_bytes();
    let has_enough = |lane: &&Arc<Lane>| lane.state().has_enough(now, share);
    let have_enough = lanes.iter().filter(has_enough).map(|lane| lane.id);
    let accounts = shared.room.have_claimed_enough();
    // Endpoints without a lane among them.
    let of_accounts = shared.directory.endpoints_of(&accounts);
    have_enough.chain(of_accounts).collect()
}

/// The key of a delivery at its endpoint, where it has an order.
fn key(owed: &Owed) -> Option<(EndpointId, OrderKey)> {
    let place = owed.place.as_ref()?;
    Some((owed.endpoint, place.key))
}

/// What was claimed, in runs of the same key: they are offered together.
fn runs(owed: Vec<Owed>) -> Vec<Vec<Owed>> {
    let mut runs: Vec<Vec<Owed>> = Vec::new();
    for owed in owed {
        let of = key(&owed);
        match runs.last_mut() {
            Some(run) if of.is_some() && run.last().and_then(key) == of => run.push(owed),
            _ => runs.push(vec![owed]),
        }
    }
    runs
}

fn retry<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    mut run: ClaimedRun<'_>,
    mut is_complete: bool,
    written: u64,
) {
    let Some(id) = run.left.front().map(|(owed, _)| owed.endpoint) else {
        return;
    };
    let endpoint = shared.directory.endpoint(id);
    let share = endpoint
        .as_ref()
        .map(|endpoint| shared.room.share(&endpoint.account));
    let (mut items, mut place) = (Vec::new(), 0);
    while let Some((owed, held)) = run.left.front() {
        let id = (owed.endpoint, owed.notification);
        shared.recorder.waits.end(id);
        let takes = endpoint.as_ref().map(|endpoint| endpoint.takes());
        match takes.zip(share.as_ref()) {
            Some((Takes::Now, share)) => {
                match caught_now(|| item(shared, owed, held.clone(), share)) {
                    Ok(made) => items.extend(made),
                    // Those before it are delivered.
                    Err(panicked) => {
                        shared.panicked("retrier", &panicked);
                        break;
                    }
                }
            }
            Some((Takes::Later, _)) => {
                let again = again(shared, owed, place, PAUSED);
                shared.recorder.hold(held.clone());
                shared.recorder.note(Happened::GivenBack(again));
            }
            // Gone, or not active any more; or so new that we have not heard of it.
            Some((Takes::Nothing, _)) | None => {
                count(&shared.counters.dropped, 1);
                let again = again(shared, owed, place, UNKNOWN_ENDPOINT_WAIT);
                shared.recorder.hold(held.clone());
                // Where the ledger knows the endpoint the delivery is there again, and stays.
                let unwanted = Happened::Unwanted(id);
                shared
                    .recorder
                    .note_all([Happened::GivenBack(again), unwanted]);
            }
        }
        // What becomes of it is known to its item, or to the recorder.
        run.left.pop_front();
        run.is_begun = true;
        place += 1;
    }
    is_complete &= run.left.is_empty();
    drop(run);
    if let Some(endpoint) = endpoint {
        if items.is_empty() {
            // So that no more of it are claimed.
            drop(shared.lane(&endpoint));
        } else {
            let run = Run {
                items,
                is_complete,
                written,
            };
            shared.offer_owed(&endpoint, run);
        }
    }
    shared.recorder.news.notify_one();
}

/// The delivery of what is owed; `None`: what is kept of it cannot be read.
fn item<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    owed: &Owed,
    held: Option<Arc<Reserved>>,
    share: &Arc<Share>,
) -> Option<Item> {
    let notification = match Notification::from_canonical(owed.notification, &owed.content) {
        Ok(notification) => Arc::new(notification),
        Err(error) => {
            bury(shared, owed, &error);
            return None;
        }
    };
    let what = What {
        endpoint: owed.endpoint,
        span: trace::owed(notification.id, owed.failures),
        notification,
        // Cut when it was written down.
        content: None,
        failures: owed.failures,
        order: owed.place.clone().map(Arc::new),
    };
    let mut item = Item::new(&shared.recorder, what, Origin::Owed);
    item.claim = Some(shared.room.claim(share));
    item.place = Some(shared.room.take(share));
    item.held = held;
    item.note.clone_from(&owed.note);
    Some(item)
}

/// What is owed as before, and due after that time; behind another one of its key after that.
fn again<L, S>(shared: &Shared<L, S>, owed: &Owed, place: usize, wait: Duration) -> Owed {
    let due_ms = if place == 0 {
        let id = (owed.endpoint, owed.notification);
        shared.recorder.due(id, wait)
    } else {
        BEHIND
    };
    Owed {
        due_ms,
        ..owed.clone()
    }
}

/// What is kept of an owed delivery cannot be read: it is a dead letter, and nothing else waits for
/// it.
fn bury<L: Log + Clone, S: Ledger>(shared: &Shared<L, S>, owed: &Owed, error: &BadNotification) {
    tracing::error!(
        endpoint.id = %owed.endpoint, notification.id = %owed.notification, %error,
        "an owed delivery cannot be read, it is a dead letter now"
    );
    count(&shared.counters.dead, 1);
    let done = Happened::Done((owed.endpoint, owed.notification));
    let letter = DeadLetter {
        note: owed.note.clone(),
        together: None,
        record: None,
        endpoint: Some(owed.endpoint),
        notification: owed.notification,
        content: owed.content.clone(),
        reason: error.to_string(),
        time_ms: shared.now_ms(),
        attempts: owed.failures,
    };
    shared.recorder.note_all([done, Happened::Dead(letter)]);
    shared.recorder.news.notify_one();
}
