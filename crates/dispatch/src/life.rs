//! The lives of a dispatcher: what is begun together, ends together, and is begun anew after a
//! fault.
//!
//! A life ends in order even where a part of it has panicked: what waits is owed, what has happened
//! is written, what may be committed is, and nothing stays claimed. The next one joins the group
//! anew and reads again what was not committed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dovecast_log::Log;
use tokio::sync::watch;

use crate::budget::Budget;
use crate::consume::Ended;
use crate::evaluator::Evaluator;
use crate::ledger::Ledger;
use crate::panics::{REST, caught};
use crate::readers::Readers;
use crate::shared::Shared;
use crate::stats::{Counters, count};
use crate::{Directory, DispatchOptions, consume};

/// How long until a life begins after one that has failed: at first, and at most.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_LONGEST: Duration = Duration::from_mins(1);
/// A life that was so long has not failed because of how it began.
const LONG_LIFE: Duration = Duration::from_mins(5);

/// What outlasts a life.
pub(crate) struct Parts<L, S> {
    pub(crate) log: L,
    pub(crate) ledger: S,
    pub(crate) directory: Arc<Directory>,
    pub(crate) options: DispatchOptions,
    pub(crate) counters: Arc<Counters>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) evaluator: Arc<Evaluator>,
    pub(crate) budget: Arc<Budget>,
}

/// Lives until it is stopped, or the log is closed.
pub(crate) async fn run<L: Log + Clone, S: Ledger>(
    parts: Parts<L, S>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut wait = AGAIN_FIRST;
    loop {
        let began = Instant::now();
        let (shared, fallen_behind) = Shared::new(&parts);
        let shared = Arc::new(shared);
        let life = consume::run(Arc::clone(&shared), fallen_behind, stopping.clone());
        match caught(life).await {
            Ok(Ended::Stopped) => return,
            Ok(Ended::Failed) => {}
            Err(panicked) => {
                shared.panicked("life", &panicked);
                // Whatever is left of it ends as soon as it can.
                shared.is_stopping.store(true, Ordering::Release);
                shared.is_over.store(true, Ordering::Release);
                shared.recorder.news.notify_one();
                if let Err(error) = shared.leave().await {
                    tracing::warn!(%error, "what was claimed cannot be given back");
                }
            }
        }
        if began.elapsed() >= LONG_LIFE {
            wait = AGAIN_FIRST;
        }
        count(&parts.counters.restarts, 1);
        tracing::error!(
            wait_ms = wait.as_millis(),
            "the dispatcher has failed, it is begun anew"
        );
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
        }
        wait = (wait * 2).min(AGAIN_LONGEST);
    }
}

/// Runs a part that keeps nothing for itself, and begins it anew when it panics.
pub(crate) async fn keep_up<L: Log + Clone, S: Ledger, F: Future<Output = ()>>(
    shared: Arc<Shared<L, S>>,
    part: &'static str,
    run: impl Fn(Arc<Shared<L, S>>) -> F,
) {
    while let Err(panicked) = caught(run(Arc::clone(&shared))).await {
        shared.panicked(part, &panicked);
        tokio::time::sleep(REST).await;
    }
}
