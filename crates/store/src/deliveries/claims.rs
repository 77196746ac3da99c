//! Claiming what is owed: for a time it is one dispatcher's, and nobody waits for anybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use dovecast_dispatch::work::ledger::{Millis, Owed, OwedRange, RangeId};
use dovecast_dispatch::{EndpointId, NotificationId};
use sqlx::Any;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use uuid::Uuid;

use crate::error::Result;
use crate::open::Store;
use crate::row;

/// Rows of dispatchers that have been dead for so long are removed.
const DEAD_MS: i64 = 24 * 60 * 60 * 1000;
/// What nobody who lives has claimed. A row that another one claims at this moment is passed over (PostgreSQL; SQLite has one
/// writer).
const DUE: &str = "UPDATE owed SET claimed_by = $1 WHERE (endpoint_id, notification_id) IN (\
    SELECT endpoint_id, notification_id FROM owed WHERE due_ms <= $2 AND (claimed_by IS NULL OR (claimed_by <> $1 \
    AND claimed_by NOT IN (SELECT id FROM dispatcher WHERE alive_until_ms >= $2))) \
    ORDER BY due_ms LIMIT $3) \
    RETURNING endpoint_id, notification_id, body, failures, due_ms, reason";
const DUE_POSTGRES: &str = "UPDATE owed SET claimed_by = $1 WHERE (endpoint_id, notification_id) IN (\
    SELECT endpoint_id, notification_id FROM owed WHERE due_ms <= $2 AND (claimed_by IS NULL OR (claimed_by <> $1 \
    AND claimed_by NOT IN (SELECT id FROM dispatcher WHERE alive_until_ms >= $2))) \
    ORDER BY due_ms LIMIT $3 FOR UPDATE SKIP LOCKED) \
    RETURNING endpoint_id, notification_id, body, failures, due_ms, reason";
const FREE: &str = "UPDATE owed_range SET claimed_by = $1 \
    WHERE log = $4 AND (endpoint_id, topic, part, start_offset) IN (\
    SELECT endpoint_id, topic, part, start_offset FROM owed_range WHERE log = $4 AND (claimed_by IS NULL OR (claimed_by <> $1 \
    AND claimed_by NOT IN (SELECT id FROM dispatcher WHERE alive_until_ms >= $2))) LIMIT $3) \
    RETURNING endpoint_id, topic, part, start_offset, from_offset, to_offset";
const FREE_POSTGRES: &str = "UPDATE owed_range SET claimed_by = $1 \
    WHERE log = $4 AND (endpoint_id, topic, part, start_offset) IN (\
    SELECT endpoint_id, topic, part, start_offset FROM owed_range WHERE log = $4 AND (claimed_by IS NULL OR (claimed_by <> $1 \
    AND claimed_by NOT IN (SELECT id FROM dispatcher WHERE alive_until_ms >= $2))) LIMIT $3 \
    FOR UPDATE SKIP LOCKED) \
    RETURNING endpoint_id, topic, part, start_offset, from_offset, to_offset";
const OURS: &str = "SELECT endpoint_id, notification_id, body, failures, due_ms, reason FROM owed WHERE claimed_by = $1";
const OUR_RANGES: &str = "SELECT endpoint_id, topic, part, start_offset, from_offset, to_offset FROM owed_range WHERE claimed_by = $1 AND log = $2";
const BEAT: &str = "INSERT INTO dispatcher (id, alive_until_ms) VALUES ($1, $2) \
    ON CONFLICT (id) DO UPDATE SET alive_until_ms = excluded.alive_until_ms";

impl Store {
    pub(super) async fn say_alive(&self, now_ms: Millis, alive_until_ms: Millis) -> Result<()> {
        let mut tx = self.database.begin_writing().await?;
        sqlx::query(BEAT)
            .bind(self.dispatcher_id())
            .bind(alive_until_ms)
            .execute(&mut *tx)
            .await?;
        // A file has one user, so others are of processes that are gone.
        let (statement, value) = if self.database.is_postgres {
            (
                "DELETE FROM dispatcher WHERE id <> $1 AND alive_until_ms < $2",
                now_ms - DEAD_MS,
            )
        } else {
            (
                "DELETE FROM dispatcher WHERE id <> $1 AND alive_until_ms < $2",
                i64::MAX,
            )
        };
        sqlx::query(statement)
            .bind(self.dispatcher_id())
            .bind(value)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn say_dead(&self) -> Result<()> {
        sqlx::query("DELETE FROM dispatcher WHERE id = $1")
            .bind(self.dispatcher_id())
            .execute(&self.database.pool)
            .await?;
        Ok(())
    }

    pub(super) fn dispatcher_id(&self) -> String {
        self.node.to_string()
    }

    pub(super) async fn claim_due(&self, now_ms: Millis, most: usize) -> Result<Vec<Owed>> {
        let statement = if self.database.is_postgres {
            DUE_POSTGRES
        } else {
            DUE
        };
        if self.ours.is_owed_unsure() {
            let claimed = self.claimed(OURS);
            let owed = owed_of(&claimed.fetch_all(&self.database.pool).await?)?;
            let found = self.ours.new_owed(owed);
            self.ours.set_owed_unsure(false);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        // The answer may be lost after the commit.
        self.ours.set_owed_unsure(true);
        let claim = self.claim(statement, now_ms, most);
        let rows = claim.fetch_all(&self.database.pool).await?;
        let mut owed = owed_of(&rows)?;
        self.ours.claimed_owed(&owed);
        self.ours.set_owed_unsure(false);
        owed.sort_by_key(|owed| owed.due_ms);
        Ok(owed)
    }

    pub(super) async fn claim_free_ranges(
        &self,
        now_ms: Millis,
        most: usize,
    ) -> Result<Vec<OwedRange>> {
        let statement = if self.database.is_postgres {
            FREE_POSTGRES
        } else {
            FREE
        };
        if self.ours.are_ranges_unsure() {
            let claimed = self.claimed(OUR_RANGES).bind(self.log.to_string());
            let ranges = ranges_of(&claimed.fetch_all(&self.database.pool).await?)?;
            let found = self.ours.new_ranges(ranges);
            self.ours.set_ranges_unsure(false);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        self.ours.set_ranges_unsure(true);
        let claim = self
            .claim(statement, now_ms, most)
            .bind(self.log.to_string());
        let rows = claim.fetch_all(&self.database.pool).await?;
        let ranges = ranges_of(&rows)?;
        self.ours.claimed_ranges(&ranges);
        self.ours.set_ranges_unsure(false);
        Ok(ranges)
    }

    /// What is claimed by us.
    fn claimed(&self, statement: &'static str) -> Query<'static, Any, AnyArguments> {
        sqlx::query(statement).bind(self.dispatcher_id())
    }

    /// Of each endpoint that owes anything: single deliveries, and ranges of the log.
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

    fn claim(
        &self,
        statement: &'static str,
        now_ms: Millis,
        most: usize,
    ) -> Query<'static, Any, AnyArguments> {
        sqlx::query(statement)
            .bind(self.dispatcher_id())
            .bind(now_ms)
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
    }
}

/// What an endpoint owes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwedCount {
    /// Deliveries that have failed, or are under way for long.
    pub deliveries: u64,
    /// Ranges of the log.
    pub ranges: u64,
}

fn count_of(found: &AnyRow) -> Result<u64> {
    count(found, "number")
}

pub(super) fn uuid(found: &AnyRow, column: &'static str) -> Result<Uuid> {
    let text = row::text(found, column)?;
    Ok(Uuid::try_parse(&text).map_err(|error| row::wrong(column, error))?)
}

pub(super) fn count<T: TryFrom<i64>>(found: &AnyRow, column: &'static str) -> Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let number = row::number(found, column)?;
    Ok(T::try_from(number).map_err(|error| row::wrong(column, error))?)
}

fn owed_of(rows: &[AnyRow]) -> Result<Vec<Owed>> {
    rows.iter().map(owed).collect()
}

fn ranges_of(rows: &[AnyRow]) -> Result<Vec<OwedRange>> {
    rows.iter().map(range).collect()
}

fn owed(found: &AnyRow) -> Result<Owed> {
    Ok(Owed {
        endpoint: EndpointId(uuid(found, "endpoint_id")?),
        notification: NotificationId(uuid(found, "notification_id")?),
        body: row::text(found, "body")?.into(),
        failures: count(found, "failures")?,
        due_ms: row::number(found, "due_ms")?,
        reason: row::text(found, "reason")?,
    })
}

fn range(found: &AnyRow) -> Result<OwedRange> {
    Ok(OwedRange {
        id: RangeId {
            endpoint: EndpointId(uuid(found, "endpoint_id")?),
            topic: Arc::from(row::text(found, "topic")?),
            partition: count(found, "part")?,
            start: count(found, "start_offset")?,
        },
        from: count(found, "from_offset")?,
        to: count(found, "to_offset")?,
    })
}
