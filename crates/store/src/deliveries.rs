//! The ledger of the dispatcher: what is owed, what is dead, what was tried.

mod attempts;
mod claims;
mod counts;
mod dead_bodies;
mod dead_letters;
mod due;
mod due_time;
mod free_ranges;
mod held;
mod order;
mod owing;
mod past;
mod ranges;
mod record;
mod redelivery;
mod status;
mod trim;
mod unsure;

use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};

use dovecast_dispatch::ledger::{
    Claimed, Claiming, Debts, Happened, Ledger, LedgerError, Millis, OwedRange, TopicPartition,
};
use dovecast_notification::{EndpointId, OrderKey};

use crate::error::{Result, StoreError, with_sources};
use crate::open::Store;

pub use attempts::KeptAttempt;
pub use counts::OwedCount;
pub use dead_letters::{DeadLetterPage, KeptDeadLetter};
pub(crate) use due::by_account::Page;
pub(crate) use due_time::Shown;
pub(crate) use held::Held;
pub use past::{Dropped, KeptPast};
pub(crate) use record::reason;
pub(crate) use status::{Failing, Status};
pub use trim::{AccountPast, Trimmed};
pub(crate) use trim::{Sweep, TrimCounts};
pub(crate) use unsure::Unsure;

/// For so long after a record has failed the store counts as one that takes none, unless one
/// succeeds. It is tried again in less; a node that has nothing to record any more does not try.
const CANNOT_RECORD_MS: i64 = 60_000;

impl Store {
    /// Whether what has happened to deliveries cannot be written, as far as is known.
    pub(crate) fn cannot_record(&self) -> bool {
        let failed_ms = *self.failed_to_record();
        let now_ms = self.clock.steady_ms();
        failed_ms.is_some_and(|failed_ms| now_ms.saturating_sub(failed_ms) < CANNOT_RECORD_MS)
    }

    fn failed_to_record(&self) -> MutexGuard<'_, Option<i64>> {
        let failed = self.failed_to_record_ms.lock();
        failed.unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger_error(&self, doing: &'static str, error: &StoreError) -> LedgerError {
        let place = if self.database.is_postgres {
            "PostgreSQL"
        } else {
            "SQLite"
        };
        LedgerError {
            doing,
            place,
            reason: with_sources(error),
        }
    }
}

impl Ledger for Store {
    fn log(&self) -> Arc<str> {
        Arc::clone(&self.log)
    }

    async fn record(&self, happened: &[Happened]) -> Result<(), LedgerError> {
        let recorded = self.disable_and_record(happened).await;
        *self.failed_to_record() = recorded.is_err().then(|| self.clock.steady_ms());
        recorded.map_err(|error| self.ledger_error("record what has happened", &error))
    }

    async fn beat(&self, now_ms: Millis, alive_until_ms: Millis) -> Result<(), LedgerError> {
        let timeout = self.database.beat_timeout;
        let done = tokio::time::timeout(timeout, self.say_alive(now_ms, alive_until_ms)).await;
        let done = done.unwrap_or_else(|_| {
            let said = format!("no answer within {} ms", timeout.as_millis());
            let late = io::Error::new(io::ErrorKind::TimedOut, said);
            Err(StoreError::Database(sqlx::Error::Io(late)))
        });
        done.map_err(|error| self.ledger_error("say that this dispatcher lives", &error))
    }

    async fn leave(&self) -> Result<(), LedgerError> {
        let done = self.say_dead().await;
        done.map_err(|error| self.ledger_error("free what is claimed", &error))
    }

    async fn claim(&self, claiming: Claiming) -> Result<Claimed, LedgerError> {
        let claimed = self.claim_due(claiming).await;
        claimed.map_err(|error| self.ledger_error("claim deliveries", &error))
    }

    async fn debtors(&self, of: TopicPartition) -> Result<Vec<EndpointId>, LedgerError> {
        let debtors = self.debtors_of(&of).await;
        debtors.map_err(|error| self.ledger_error("find what is owed of a partition", &error))
    }

    async fn take_over(
        &self,
        now_ms: Millis,
        endpoint: EndpointId,
        of: TopicPartition,
    ) -> Result<Debts, LedgerError> {
        let debts = self.debts(now_ms, endpoint, &of).await;
        debts.map_err(|error| self.ledger_error("claim what is owed of a partition", &error))
    }

    async fn owed_keys(
        &self,
        endpoint: EndpointId,
        keys: Vec<OrderKey>,
    ) -> Result<Vec<OrderKey>, LedgerError> {
        let owed = self.still_owed(endpoint, &keys).await;
        owed.map_err(|error| self.ledger_error("find keys that wait", &error))
    }

    async fn free_ranges(
        &self,
        endpoints: Vec<EndpointId>,
    ) -> Result<Vec<(EndpointId, TopicPartition)>, LedgerError> {
        let free = self.free_partitions(&endpoints).await;
        free.map_err(|error| self.ledger_error("find ranges", &error))
    }

    async fn owing_ranges(
        &self,
        now_ms: Millis,
        topics: Vec<Arc<str>>,
    ) -> Result<Vec<EndpointId>, LedgerError> {
        let owing = self.owing_free_ranges(now_ms, &topics).await;
        owing.map_err(|error| self.ledger_error("find ranges", &error))
    }

    async fn claim_ranges_of(
        &self,
        now_ms: Millis,
        most: usize,
        endpoints: Vec<EndpointId>,
        topics: Vec<Arc<str>>,
    ) -> Result<Vec<OwedRange>, LedgerError> {
        let claimed = self.claim_free_ranges(now_ms, most, (&endpoints, &topics));
        let claimed = claimed.await;
        claimed.map_err(|error| self.ledger_error("claim ranges", &error))
    }

    async fn partitions_of_free_ranges(&self) -> Result<Vec<TopicPartition>, LedgerError> {
        let partitions = self.partitions_with_free_ranges().await;
        partitions.map_err(|error| self.ledger_error("find ranges", &error))
    }

    async fn end_free_ranges(
        &self,
        of: TopicPartition,
        until: u64,
    ) -> Result<Vec<OwedRange>, LedgerError> {
        let ended = self.end_some_free_ranges(&of, until).await;
        ended.map_err(|error| self.ledger_error("end ranges", &error))
    }
}
