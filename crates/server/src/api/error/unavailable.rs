//! A store that cannot be used for a while: what is logged of it, and when a client may ask again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dovecast_store::StoreError;

/// Seconds after which a request that was answered with 503 may be repeated: about as long as a
/// failover or the removal of a large file takes, and long enough that waiting clients are no load.
pub(super) const RETRY_AFTER_SECONDS: &str = "5";
/// Time between two log lines about requests that fail for this reason; a full disk fails all of
/// them.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// What was logged last, and how many requests have failed since.
#[derive(Debug)]
struct Logged {
    at: Option<Instant>,
    silent: u64,
}

static LOGGED: Mutex<Logged> = Mutex::new(Logged {
    at: None,
    silent: 0,
});

/// Logs the error, once a minute with the number of requests that have failed since.
pub(super) fn log(error: StoreError) {
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    if logged.at.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
        logged.silent += 1;
        return;
    }
    logged.at = Some(Instant::now());
    let others = std::mem::take(&mut logged.silent);
    let error = anyhow::Error::from(error);
    tracing::error!(
        error = format!("{error:#}"),
        others,
        "a request has failed: the database cannot be used"
    );
}
