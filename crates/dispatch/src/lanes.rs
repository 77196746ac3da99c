//! Looks after the queues of all endpoints (lanes), several times a second: what has changed of an
//! endpoint, what waits too long, which queue is not needed any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::Log;

use crate::endpoint::Endpoint;
use crate::lane::order::{Joining, Over};
use crate::lane::{Lane, Shed, State};
use crate::ledger::{KeyPlace, Ledger};
use crate::panics::caught_now;
use crate::permits::Permit;
use crate::retrier;
use crate::shared::Shared;

/// How often lanes are looked at.
const LANE_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long a lane is kept in which nothing is.
const IDLE_LANE_KEPT: Duration = Duration::from_mins(5);

/// Has lanes fall behind whose deliveries wait too long, and forgets those that are not needed.
pub(crate) async fn look_after<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>) {
    loop {
        tokio::time::sleep(LANE_CHECK_INTERVAL).await;
        let lanes: Vec<_> = shared.lanes().values().cloned().collect();
        for lane in lanes {
            if let Err(panicked) = caught_now(|| look_at(&shared, &lane)) {
                shared.panicked("lanes", &panicked);
            }
            if lane.state().retire(Instant::now(), IDLE_LANE_KEPT) {
                lane.missed.lock().close();
                shared.forget(&lane);
            }
        }
    }
}

/// What was found to be done with a lane.
#[derive(Default)]
struct Found {
    /// Workers that are to be hired.
    hired: Vec<Permit>,
    /// Owed deliveries of an endpoint that is paused.
    owed: Vec<Joining>,
    /// What has waited too long.
    late: Shed,
    /// What waits for another one of its key, and too long.
    joins: Vec<Joining>,
}

fn look_at<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>, lane: &Arc<Lane>) {
    let endpoint = shared.directory.endpoint(lane.id);
    let lost = std::mem::take(&mut *lane.lost.lock());
    // What was lost is with the recorder.
    let batch = shared.recorder.batch();
    let found = look(&mut lane.state(), endpoint, &lost, batch);
    shared.hire(lane, found.hired);
    shared.join(found.owed, retrier::PAUSED);
    shared.join(found.joins, Duration::ZERO);
    shared.deferred(lane, found.late);
}

fn look(
    state: &mut State,
    endpoint: Option<Arc<Endpoint>>,
    lost: &[Arc<KeyPlace>],
    batch: u64,
) -> Found {
    let mut found = Found::default();
    let now = Instant::now();
    match endpoint {
        Some(endpoint) => {
            if state.gate.follow(&endpoint) {
                found.hired = state.call_for_all();
            }
        }
        // What is left for it is discarded.
        None => {
            if state.gate.discard(now) {
                found.hired = state.call_for_all();
            }
        }
    }
    if found.hired.is_empty() && state.is_deserted(now) {
        found.hired = state.call_for_all();
    }
    if state.gate.is_paused() {
        found.owed = state.take_owed();
    }
    for place in lost {
        found.joins.extend(state.over(place, Over::Owed, batch));
    }
    // Before anything leaves its line: of a busy key something always does.
    found.hired.extend(state.end_transactions(now));
    found.joins.extend(state.order.take_late(now));
    if state.is_late(now) {
        found.late = state.fall_behind();
    }
    found
}
