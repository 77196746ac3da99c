//! The heartbeat: stores every second in the ledger (the database) that this dispatcher lives.
//!
//! What was claimed is ours while we live. A dispatcher that could not say so in time may have lost
//! all of it to others, even if it lives on: it begins another life then (`alive`).

use std::sync::Arc;
use std::time::Duration;

use dovecast_log::Log;
use tokio::time::Instant;

use crate::clock::ms;
use crate::ledger::{Ledger, LedgerError};
use crate::shared::Shared;

/// Time after a heartbeat for which this dispatcher counts as living.
const ALIVE: Duration = Duration::from_secs(5);

/// Time between two heartbeats.
const BEAT: Duration = Duration::from_secs(1);

/// Stores one heartbeat after the other.
pub(crate) async fn run<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>) {
    loop {
        match shared.beat().await {
            Ok(()) => tokio::time::sleep(BEAT).await,
            Err(error) => shared.ledger_failed(&error).await,
        }
    }
}

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// Stores that this dispatcher lives, and will for a while.
    pub(crate) async fn beat(&self) -> Result<(), LedgerError> {
        // From before it is said: others may know it from then on.
        let now = Instant::now();
        let now_ms = self.now_ms();
        let until_ms = now_ms + ms(ALIVE);
        self.ask(async { self.ledger.beat(now_ms, until_ms).await })
            .await?;
        self.alive.beat(now, now + ALIVE);
        Ok(())
    }
}
