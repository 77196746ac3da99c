//! How much endpoints owe.

use std::collections::BTreeMap;
use std::ops::Range;

use dovecast_dispatch::ledger::TopicPartition;
use dovecast_notification::EndpointId;
use sqlx::any::AnyRow;

use super::claims::count;
use crate::error::Result;
use crate::open::Store;
use crate::row;

const OWED_OFFSETS: &str = "SELECT topic, part, MIN(from_offset) AS from_offset, MAX(to_offset) AS to_offset \
    FROM owed_range WHERE log = $1 GROUP BY topic, part";

/// What an endpoint owes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwedCount {
    /// Deliveries that have failed, or are under way for long.
    pub deliveries: u64,
    /// Ranges of the log.
    pub ranges: u64,
}

impl Store {
    /// What of this node's log is owed as ranges: of each partition from the first offset to behind
    /// the last.
    pub async fn owed_offsets(&self) -> Result<Vec<(TopicPartition, Range<u64>)>> {
        let rows = sqlx::query(OWED_OFFSETS)
            .bind(self.log.to_string())
            .fetch_all(&self.database.pool)
            .await?;
        let place = |found: &AnyRow| {
            let place = TopicPartition {
                topic: row::text(found, "topic")?.into(),
                partition: count(found, "part")?,
            };
            let (from, to) = (count(found, "from_offset")?, count(found, "to_offset")?);
            Ok((place, from..to))
        };
        rows.iter().map(place).collect()
    }

    /// Whether an endpoint owes at least so many single deliveries, which are more than 0.
    pub async fn owes(&self, endpoint: EndpointId, number: u32) -> Result<bool> {
        let last = sqlx::query("SELECT 1 FROM owed WHERE endpoint_id = $1 LIMIT 1 OFFSET $2")
            .bind(endpoint.to_string())
            .bind(i64::from(number.saturating_sub(1)))
            .fetch_optional(&self.database.pool)
            .await?;
        Ok(last.is_some())
    }

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
                let id = row::id(&found, "endpoint_id")?;
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
