//! Appending what must not be lost: an append that fails is tried again, and nothing behind it
//! overtakes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dovecast_log::embedded::Together;
use dovecast_log::{Appended, Log, LogError, NewRecord};

use super::Relay;

/// How long until a failed append is tried again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_SLOWEST: Duration = Duration::from_secs(1);

/// Appends until it succeeds, or can never succeed; the first time in one commit with others.
pub(super) async fn append(
    relay: &Relay,
    records: Vec<NewRecord>,
    mut together: Option<Arc<Together>>,
) -> Result<Appended, LogError> {
    let mut delay = RETRY_FIRST;
    loop {
        let appended = match together.take() {
            Some(together) => relay.log.append_together(records.clone(), together).await,
            None => relay.log.append(records.clone()).await,
        };
        let error = match appended {
            Err(error @ (LogError::Full { .. } | LogError::Io { .. })) => error,
            done => return done,
        };
        relay.counters.append_errors.fetch_add(1, Ordering::Relaxed);
        if relay.trouble_lines.take() {
            tracing::error!(%error, "the log does not store records; clients are not acknowledged until it does");
        }
        if *relay.stopping.borrow() {
            return Err(LogError::Closed);
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(RETRY_SLOWEST);
    }
}
