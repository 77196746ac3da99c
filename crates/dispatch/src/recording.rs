//! Writes what has happened to deliveries to the ledger (the database), many things in one
//! transaction, and says which offsets of the log may be committed after that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dovecast_log::{Log, Position};
use tokio::sync::mpsc;

use crate::budget::Reserved;
use crate::ledger::{Happened, Ledger};
use crate::panics::{PANIC_REST, caught};
use crate::permits::Permit;
use crate::shared::Shared;

/// How long what has happened is gathered before it is written.
const HAPPENED_GATHER_TIME: Duration = Duration::from_millis(20);
/// How often it is looked whether attempts that outlast the stop have ended.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// What is being written: kept where writing it has failed, or panicked.
struct Batch {
    happened: Vec<Happened>,
    /// Due times are among it that are not written yet.
    due_times: Option<Permit>,
    /// Room in memory for its bodies.
    held: Vec<Arc<Reserved>>,
    positions: Vec<Position>,
    /// Whether the dispatcher stops ...
    is_last: bool,
    /// Whether, besides, nothing else can happen.
    is_idle: bool,
}

/// Writes what has happened, and says what may be committed; until the dispatcher stops and nothing
/// is left.
pub(crate) async fn run<L: Log + Clone, S: Ledger>(
    shared: Arc<Shared<L, S>>,
    commits: mpsc::UnboundedSender<Vec<Position>>,
) {
    let mut batch = None;
    while let Err(panicked) = caught(write(&shared, &commits, &mut batch)).await {
        shared.panicked("recorder", &panicked);
        tokio::time::sleep(PANIC_REST).await;
    }
}

async fn write<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    commits: &mpsc::UnboundedSender<Vec<Position>>,
    pending: &mut Option<Batch>,
) {
    loop {
        if pending.is_none() {
            *pending = Some(gather(shared).await);
        }
        let Some(batch) = pending else {
            return;
        };
        while !batch.happened.is_empty() {
            match shared.record(&batch.happened).await {
                Ok(()) => {
                    batch.happened = Vec::new();
                    batch.due_times = None;
                    if shared.recorder.is_postponing() {
                        shared.recorder.news.notify_one();
                    }
                }
                Err(error) if shared.is_stopping() => {
                    tracing::error!(%error, "the outcome of the last deliveries cannot be stored before the stop; they are delivered again");
                    return;
                }
                Err(error) => shared.ledger_failed(&error).await,
            }
        }
        shared.recorder.wrote_taken();
        batch.held.clear();
        let positions = std::mem::take(&mut batch.positions);
        if !positions.is_empty() && commits.send(positions).is_err() {
            return;
        }
        if batch.is_last && batch.is_idle {
            return;
        }
        if batch.is_last {
            // Attempts outlast the stop; what they come to is found out by trying again.
            shared.recorder.news.notify_one();
            tokio::time::sleep(STOP_CHECK_INTERVAL).await;
        }
        *pending = None;
    }
}

/// What has happened since the last time.
async fn gather<L: Log + Clone, S: Ledger>(shared: &Shared<L, S>) -> Batch {
    shared.recorder.news.notified().await;
    if !shared.is_stopping() {
        tokio::time::sleep(HAPPENED_GATHER_TIME).await;
    }
    let is_last = shared.is_stopping();
    // Before it is taken: what ends now has written down what came of it.
    let is_idle = !shared.is_busy() || shared.is_over.load(Ordering::Acquire);
    let held = shared.recorder.take_held();
    // What lanes miss of them is deferred after that, and then taken with the rest.
    let done = shared.recorder.done_reads();
    let are_all_deferred = shared.defer_all_missed();
    if !are_all_deferred {
        shared.recorder.news.notify_one();
    }
    let done = if are_all_deferred { done } else { 0 };
    let (mut gathered, positions) = shared.recorder.take(done);
    Batch {
        due_times: gathered.take_permit(),
        // Others say what has happened meanwhile.
        happened: gathered.into_list(),
        held,
        positions,
        is_last,
        is_idle,
    }
}
