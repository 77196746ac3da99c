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

use crate::consume::{self, Ended};
use crate::ledger::Ledger;
use crate::panics::caught;
use crate::shared::{Parts, Shared};
use crate::stats::count;

/// How long until a life begins after the first one that has failed.
const RESTART_WAIT_FIRST: Duration = Duration::from_secs(1);
/// Longest wait until a life begins: each one that fails soon doubles the wait.
const RESTART_WAIT_LONGEST: Duration = Duration::from_mins(1);
/// Length of a life that has not failed because of how it began: the wait is the first one again.
const LONG_LIFE: Duration = Duration::from_mins(5);

/// Lives until it is stopped, or the log is closed.
pub(crate) async fn run<L: Log + Clone, S: Ledger>(
    parts: Parts<L, S>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut wait = RESTART_WAIT_FIRST;
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
                    tracing::warn!(%error, "claims cannot be released; others take them over in some seconds");
                }
            }
        }
        if began.elapsed() >= LONG_LIFE {
            wait = RESTART_WAIT_FIRST;
        }
        count(&parts.counters.restarts, 1);
        tracing::error!(
            wait_ms = wait.as_millis(),
            "the dispatcher has failed and is restarted"
        );
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
        }
        wait = (wait * 2).min(RESTART_WAIT_LONGEST);
    }
}
