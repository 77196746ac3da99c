//! Ranges that no dispatcher has claimed: who owes some, and of which partitions.
//!
//! What endpoints owe that are paused for long may be very many rows, and each node asks every two
//! seconds. So it is stepped from one endpoint, or partition, to the next: each is one entry of an
//! index, however many ranges it has.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use dovecast_dispatch::ledger::{Millis, OwedRange, TopicPartition};
use dovecast_notification::EndpointId;

use super::claims::range;
use super::order::partition;
use super::ranges::offset;
use crate::connection::Line;
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

/// Ranges that one statement ends.
const AT_A_TIME: i64 = 1_000;
/// From one topic to the next, and of each from one partition to the next.
const PARTITIONS: &str = "WITH RECURSIVE named (topic) AS (\
    SELECT MIN(topic) FROM owed_range WHERE log = $1 AND claimed_by IS NULL \
    UNION ALL \
    SELECT (SELECT MIN(topic) FROM owed_range WHERE log = $1 AND claimed_by IS NULL AND topic > named.topic) \
    FROM named WHERE named.topic IS NOT NULL), \
    step (topic, part) AS (\
    SELECT topic, (SELECT MIN(part) FROM owed_range WHERE log = $1 AND topic = named.topic AND claimed_by IS NULL) \
    FROM named WHERE topic IS NOT NULL \
    UNION ALL \
    SELECT step.topic, (SELECT MIN(part) FROM owed_range WHERE log = $1 AND topic = step.topic AND claimed_by IS NULL \
    AND part > step.part) FROM step WHERE step.part IS NOT NULL) \
    SELECT topic, part FROM step WHERE part IS NOT NULL ORDER BY topic, part";

/// Endpoints that owe free ranges of these topics, with the lowest offset of each, by topic.
fn owing(log: &str, topics: &[Arc<str>]) -> Statement {
    let log = || log.to_owned();
    let mut ask = Statement::new("WITH RECURSIVE named (topic) AS (VALUES (");
    ask.bind_list(topics.iter().map(ToString::to_string), "), (");
    ask.push(
        ")), step (topic, id) AS (\
         SELECT topic, (SELECT MIN(endpoint_id) FROM owed_range WHERE log = ",
    );
    ask.bind(log()).push(
        " AND topic = named.topic AND claimed_by IS NULL) FROM named \
         UNION ALL \
         SELECT step.topic, (SELECT MIN(endpoint_id) FROM owed_range WHERE log = ",
    );
    ask.bind(log()).push(
        " AND topic = step.topic AND claimed_by IS NULL AND endpoint_id > step.id) \
         FROM step WHERE step.id IS NOT NULL) \
         SELECT id, (SELECT MIN(from_offset) FROM owed_range WHERE log = ",
    );
    ask.bind(log()).push(
        " AND topic = step.topic AND claimed_by IS NULL AND endpoint_id = step.id) AS first_offset \
         FROM step WHERE id IS NOT NULL ORDER BY first_offset, id",
    );
    ask
}

impl Store {
    /// Endpoints that owe ranges of these topics which are free, those with the lowest offsets
    /// first.
    pub(super) async fn owing_free_ranges(
        &self,
        now_ms: Millis,
        topics: &[Arc<str>],
    ) -> Result<Vec<EndpointId>> {
        // It is not found while it is ours.
        self.release_unsure().await?;
        self.free_ranges_of_the_dead(now_ms).await?;
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.database.pool.acquire().await?;
        let rows = owing(&self.log, topics);
        let rows = rows.fetch_all(&mut connection).await?;
        let mut owing = Vec::with_capacity(rows.len());
        for found in &rows {
            owing.push(row::id(found, "id")?);
        }
        if topics.len() > 1 {
            // One that owes ranges of several has the place of its lowest offset.
            let mut seen = HashSet::new();
            owing.retain(|id| seen.insert(*id));
        }
        Ok(owing)
    }

    /// Partitions of which ranges are free, of any topic.
    pub(super) async fn partitions_with_free_ranges(&self) -> Result<Vec<TopicPartition>> {
        let rows = sqlx::query(PARTITIONS)
            .bind(self.log.to_string())
            .fetch_all(&self.database.pool)
            .await?;
        rows.iter().map(partition).collect()
    }

    /// Ends ranges of a partition that are free and end there or before, some at a time.
    pub(super) async fn end_some_free_ranges(
        &self,
        of: &TopicPartition,
        until: u64,
    ) -> Result<Vec<OwedRange>> {
        const PLACE: &str = "log, endpoint_id, topic, part, start_offset";
        let mut end = Statement::new("DELETE FROM owed_range WHERE claimed_by IS NULL AND (");
        end.push(PLACE).push(") IN (SELECT ").push(PLACE);
        end.push(" FROM owed_range WHERE claimed_by IS NULL AND log = ");
        end.bind(self.log.to_string()).push(" AND topic = ");
        end.bind(of.topic.to_string()).push(" AND part = ");
        end.bind(i64::from(of.partition));
        end.push(" AND to_offset <= ").bind(offset(until));
        end.push(" LIMIT ").bind(AT_A_TIME).push(self.skip_locked());
        end.push(") RETURNING endpoint_id, topic, part, start_offset, from_offset, to_offset");
        let mut connection = self.database.pool.acquire_in_turn(Line::Deliveries).await?;
        let rows = end.fetch_all(&mut connection).await?;
        rows.iter().map(range).collect()
    }
}
