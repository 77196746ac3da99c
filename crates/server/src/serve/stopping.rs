//! Tells everyone that the server is being stopped.

use tokio::sync::watch;

/// Clones are about the same stop.
#[derive(Clone, Debug)]
pub(crate) struct Stopping(watch::Sender<bool>);

impl Default for Stopping {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stopping {
    /// From now on it is being stopped.
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is.
    pub(crate) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is.
    pub(crate) async fn begun(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }

    /// As [`Self::begun`], for whoever keeps the future.
    pub(super) async fn begun_owned(self) {
        self.begun().await;
    }
}
