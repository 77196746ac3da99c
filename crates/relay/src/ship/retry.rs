//! What fails is tried again, with delays that grow, until it succeeds or the shipper is stopped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dovecast_log::{LineLimit, LogError};
use tokio::sync::watch;

use super::Counters;
use super::lost::KeepLost;

/// How long until a failed append is tried again: at first, and at most.
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(100);
pub(super) const RETRY_SLOWEST: Duration = Duration::from_secs(5);

/// Repeats what fails, until it succeeds or the shipper is stopped.
pub(super) struct Retry {
    pub(super) counters: Arc<Counters>,
    pub(super) letters: Option<Arc<dyn KeepLost>>,
    stopping: watch::Receiver<bool>,
    delay: Duration,
    lines: LineLimit,
}

impl Retry {
    pub(super) fn new(
        counters: &Arc<Counters>,
        letters: Option<&Arc<dyn KeepLost>>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            counters: Arc::clone(counters),
            letters: letters.cloned(),
            stopping,
            delay: RETRY_FIRST,
            lines: LineLimit::default(),
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Waits until it may be tried again; gives the error back where the shipper is being stopped.
    pub(super) async fn after(&mut self, error: LogError) -> Result<(), LogError> {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
        if self.lines.take() {
            tracing::warn!(%error, "the spool cannot be shipped to kafka; it is kept, and this is retried");
        }
        if self.is_stopping() {
            return Err(error);
        }
        self.wait(self.delay).await;
        self.delay = (self.delay * 2).min(RETRY_SLOWEST);
        Ok(())
    }

    /// Waits, or until the shipper is being stopped.
    pub(super) async fn wait(&mut self, delay: Duration) {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            Ok(_) = self.stopping.wait_for(|is_stopping| *is_stopping) => {}
        }
    }
}
