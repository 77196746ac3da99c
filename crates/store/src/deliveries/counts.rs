//! How much endpoints owe.

use std::collections::BTreeMap;

use dovecast_notification::EndpointId;
use sqlx::any::AnyRow;

use super::claims::{count, uuid};
use crate::error::Result;
use crate::open::Store;

/// What an endpoint owes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwedCount {
    /// Deliveries that have failed, or are under way for long.
    pub deliveries: u64,
    /// Ranges of the log.
    pub ranges: u64,
}

impl Store {
    /// What each endpoint owes, if it owes anything: single deliveries, and ranges of the log.
    pub async fn owed_counts(&self) -> Result<BTreeMap<EndpointId, OwedCount>> {
        let mut counts: BTreeMap<EndpointId, OwedCount> = BTreeMap::new();
        for (statement, is_range) in [
            (
                "SELECT endpoint_id, COUNT(*) AS number FROM owed GROUP BY endpoint_id",
                false,
            ),
            (
                "SELECT endpoint_id, COUNT(*) AS number FROM owed_range GROUP BY endpoint_id",
                true,
            ),
        ] {
            for found in sqlx::query(statement)
                .fetch_all(&self.database.pool)
                .await?
            {
                let id = EndpointId(uuid(&found, "endpoint_id")?);
                let count = counts.entry(id).or_default();
                let number = count_of(&found)?;
                if is_range {
                    count.ranges = number;
                } else {
                    count.deliveries = number;
                }
            }
        }
        Ok(counts)
    }
}

fn count_of(found: &AnyRow) -> Result<u64> {
    count(found, "number")
}
