//! Whether the store and the log take writes.
//!
//! A row is written into the store for it. Into the log something is written where it was found to
//! take no records, to see whether it does again.

use dovecast_log::embedded::Embedded;
use dovecast_store::{Store, Trimmed};

use super::probe::Probe;

/// A store, and what it said last.
pub(super) struct StoreHealth {
    store: Store,
    probe: Probe,
}

/// The log, and what it said last.
pub(super) struct LogHealth {
    log: Embedded,
    probe: Probe,
}

impl StoreHealth {
    pub(super) fn new(store: Store) -> Self {
        let probe = Probe::new("the store");
        Self { store, probe }
    }

    /// Statements that this process has sent to the store.
    pub(super) fn statements(&self) -> u64 {
        self.store.statements()
    }

    /// What was removed because its account had too much of it.
    pub(super) fn trimmed(&self) -> Trimmed {
        self.store.trimmed()
    }

    pub(super) async fn takes_writes(&self) -> bool {
        let store = self.store.clone();
        let write = async move {
            let written = store.check_writable().await;
            written.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
        };
        self.probe.takes_writes(write).await
    }
}

impl LogHealth {
    pub(super) fn new(log: Embedded) -> Self {
        let probe = Probe::new("the log");
        Self { log, probe }
    }

    pub(super) async fn takes_records(&self) -> bool {
        if !self.log.stats().is_failing {
            return true;
        }
        let log = self.log.clone();
        let write = async move {
            let written = log.check_writable().await;
            written.map_err(|error| error.to_string())
        };
        self.probe.takes_writes(write).await
    }
}
