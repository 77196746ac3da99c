//! Fetches deliveries that are owed and due again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dovecast_log::Log;

use crate::budget::Reserved;
use crate::clock::Steps;
use crate::item::{Claim, Item, Origin, What};
use crate::lane::Lane;
use crate::lane::gate::Takes;
use crate::ledger::{DeadLetter, Ledger, Owed};
use crate::panics::caught_now;
use crate::shared::Shared;
use crate::stats::count;
use crate::trace;
use dovecast_notification::{BadNotification, EndpointId, Notification};

/// How often it is looked for deliveries that are due.
const LOOK: Duration = Duration::from_millis(500);
/// While so much is not written, nothing is claimed.
const UNWRITTEN: usize = 20_000;
/// How many are fetched at a time.
const MOST: usize = 500;
/// When a delivery is looked at again whose endpoint is not known here.
const UNKNOWN: Duration = Duration::from_secs(5);
/// When a delivery to an endpoint that is paused is looked at again.
pub(crate) const PAUSED: Duration = Duration::from_mins(1);

pub(crate) async fn run<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>) {
    let mut told = None;
    let mut steps = Steps::new(&shared.options.clock);
    loop {
        if let Some(by_ms) = steps.step_ms() {
            tracing::warn!(
                by_ms,
                "the clock was set: what waits to be made again waits as long as before"
            );
            shared.recorder.postpone();
        }
        if shared.recorder.is_postponing() {
            // Nothing is claimed by due times that are not right.
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let mut is_more = false;
        let claimed = shared.claimed.load(Ordering::Relaxed) as u64;
        if claimed < shared.options.in_flight / 2 && shared.recorder.waiting() < UNWRITTEN {
            let except = have_enough(&shared);
            if let Some((most, mut room)) = shared.budget.take_for(MOST, LOOK).await {
                let ledger = &shared.ledger;
                let now_ms = shared.now_ms();
                let claim = async { ledger.claim_owed_except(now_ms, most, except).await };
                match shared.ask(claim).await {
                    Ok(owed) => {
                        is_more = owed.len() == most;
                        for owed in owed {
                            let held = room.take(&shared.budget, owed.content.len());
                            // What is dropped by a panic is owed: each for itself, they are all
                            // claimed by now.
                            if let Err(panicked) = caught_now(|| retry(&shared, owed, held)) {
                                shared.panicked("retrier", &panicked);
                            }
                        }
                    }
                    Err(error) => {
                        drop(room);
                        shared.ledger_failed(&mut told, &error).await;
                    }
                }
            }
        }
        if !is_more {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Endpoints for which nothing is claimed now: they are paused or down, or have enough to do.
fn have_enough<L: Log + Clone, S: Ledger>(shared: &Shared<L, S>) -> Vec<EndpointId> {
    let now = Instant::now();
    let lanes: Vec<_> = shared.lanes().values().cloned().collect();
    let share = shared.budget.lane_bytes();
    let has_enough = |lane: &&Arc<Lane>| lane.state().has_enough(now, share);
    let have_enough = lanes.iter().filter(has_enough);
    have_enough.map(|lane| lane.id).collect()
}

fn retry<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    owed: Owed,
    held: Option<Arc<Reserved>>,
) {
    let id = (owed.endpoint, owed.notification);
    shared.recorder.waits.end(id);
    let notification = match Notification::from_canonical(owed.notification, &owed.content) {
        Ok(notification) => Arc::new(notification),
        Err(error) => return bury(shared, owed, &error),
    };
    let endpoint = shared.directory.endpoint(owed.endpoint);
    match endpoint.map(|endpoint| (endpoint.takes(), endpoint)) {
        Some((Takes::Now, endpoint)) => {
            let what = What {
                endpoint: owed.endpoint,
                span: trace::owed(notification.id, owed.failures),
                notification,
                failures: owed.failures,
            };
            let mut item = Item::new(&shared.recorder, what, Origin::Owed);
            item.claim = Some(Claim::new(&shared.claimed));
            item.place = Some(shared.room.take());
            item.held = held;
            shared.offer_owed(&endpoint, item);
        }
        Some((Takes::Later, endpoint)) => {
            // So that no more of it are claimed.
            drop(shared.lane(&endpoint));
            let due_ms = shared.recorder.due(id, PAUSED);
            let again = Owed { due_ms, ..owed };
            shared.recorder.hold(held);
            shared.recorder.happened().given_back.push(again);
        }
        // Gone, or not active any more; or so new that we have not heard of it.
        Some((Takes::Nothing, _)) | None => {
            count(&shared.counters.dropped, 1);
            let due_ms = shared.recorder.due(id, UNKNOWN);
            let again = Owed { due_ms, ..owed };
            shared.recorder.hold(held);
            let mut happened = shared.recorder.happened();
            happened.unwanted.push(id);
            happened.given_back.push(again);
        }
    }
    shared.recorder.news.notify_one();
}

/// What is kept of an owed delivery cannot be read: it is a dead letter, and nothing else waits for
/// it.
fn bury<L: Log + Clone, S: Ledger>(shared: &Shared<L, S>, owed: Owed, error: &BadNotification) {
    tracing::error!(
        endpoint.id = %owed.endpoint, notification.id = %owed.notification, %error,
        "an owed delivery cannot be read, it is a dead letter now"
    );
    count(&shared.counters.dead, 1);
    let mut happened = shared.recorder.happened();
    happened.done.push((owed.endpoint, owed.notification));
    happened.dead.push(DeadLetter {
        record: None,
        endpoint: Some(owed.endpoint),
        notification: owed.notification,
        content: owed.content,
        reason: error.to_string(),
        time_ms: shared.now_ms(),
        attempts: owed.failures,
    });
    drop(happened);
    shared.recorder.news.notify_one();
}
