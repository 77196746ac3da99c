//! Claims of which it is not known whether they were committed: freed before anything else is
//! claimed.

use std::sync::{MutexGuard, PoisonError};

use dovecast_dispatch::ledger::{OwedId, RangeId};

use crate::connection::{Line, Transaction};
use crate::error::Result;
use crate::open::Store;

const FREE_OWED: &str = "UPDATE owed SET claimed_by = NULL \
    WHERE claimed_by = $1 AND endpoint_id = $2 AND notification_id = $3";
const FREE_RANGE: &str = "UPDATE owed_range SET claimed_by = NULL \
    WHERE claimed_by = $1 AND endpoint_id = $2 AND topic = $3 AND part = $4 AND start_offset = $5 AND log = $6";

/// Claimed in transactions that may have been committed: ours then, and nobody here knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unsure {
    pub(super) owed: Vec<OwedId>,
    pub(super) ranges: Vec<RangeId>,
}

impl Store {
    // A claim is a transaction: what the answer does not reach us of is claimed by nobody.

    /// Where it is not known whether the claim has been committed, it is kept in mind what was in
    /// it.
    pub(super) async fn commit_claim(
        &self,
        tx: Transaction,
        keep: impl FnOnce(&mut Unsure),
    ) -> Result<()> {
        let committed = tx.commit().await;
        if committed.is_err() {
            keep(&mut self.unsure());
        }
        Ok(committed?)
    }

    fn unsure(&self) -> MutexGuard<'_, Unsure> {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees what may be claimed by us without our knowing. It is kept in mind until that is done,
    /// and nobody here claims it meanwhile.
    pub(super) async fn release_unsure(&self) -> Result<()> {
        let _releasing = self.releasing.lock().await;
        let unsure = self.unsure().clone();
        if unsure == Unsure::default() {
            return Ok(());
        }
        self.release(&unsure).await?;
        // What has been added since stands behind it.
        let mut kept = self.unsure();
        kept.owed.drain(..unsure.owed.len());
        kept.ranges.drain(..unsure.ranges.len());
        Ok(())
    }

    async fn release(&self, unsure: &Unsure) -> Result<()> {
        let mut tx = self.database.begin_writing_in(Line::Deliveries).await?;
        for (endpoint, notification) in &unsure.owed {
            sqlx::query(FREE_OWED)
                .bind(self.dispatcher_id())
                .bind(endpoint.to_string())
                .bind(notification.to_string())
                .execute(&mut *tx)
                .await?;
        }
        for id in &unsure.ranges {
            self.free_range(&mut tx, id).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Frees a range that we have claimed.
    pub(super) async fn free_range(&self, tx: &mut Transaction, id: &RangeId) -> Result<()> {
        sqlx::query(FREE_RANGE)
            .bind(self.dispatcher_id())
            .bind(id.endpoint.to_string())
            .bind(id.topic.to_string())
            .bind(i64::from(id.partition))
            .bind(i64::try_from(id.start).unwrap_or(i64::MAX))
            .bind(self.log.to_string())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}
