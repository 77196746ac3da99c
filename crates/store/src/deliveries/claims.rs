//! Claiming what is owed: for a time it is one dispatcher's, and nobody waits for anybody.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use dovecast_dispatch::work::ledger::{Millis, Owed, OwedId, OwedRange, RangeId};
use dovecast_dispatch::{EndpointId, NotificationId};
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::connection::Transaction;
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

/// Rows of dispatchers that have been dead for so long are removed.
const DEAD_MS: i64 = 24 * 60 * 60 * 1000;
/// Of endpoints whose deliveries are not claimed, so many are named in a statement; others are given back.
const MOST_EXCEPT: usize = 500;
/// Endpoints of whose ranges nobody who lives has claimed some.
const OWING: &str = "SELECT endpoint_id, MIN(from_offset) AS first_offset FROM owed_range \
    WHERE log = $3 AND (claimed_by IS NULL OR (claimed_by <> $1 \
    AND claimed_by NOT IN (SELECT id FROM dispatcher WHERE alive_until_ms >= $2))) \
    GROUP BY endpoint_id ORDER BY first_offset, endpoint_id";
/// So many endpoints are named in a statement that claims ranges.
const ENDPOINTS_PER_CLAIM: usize = 500;
const BEAT: &str = "INSERT INTO dispatcher (id, alive_until_ms) VALUES ($1, $2) \
    ON CONFLICT (id) DO UPDATE SET alive_until_ms = excluded.alive_until_ms";

const FREE_OWED: &str = "UPDATE owed SET claimed_by = NULL \
    WHERE claimed_by = $1 AND endpoint_id = $2 AND notification_id = $3";
const FREE_RANGE: &str = "UPDATE owed_range SET claimed_by = NULL \
    WHERE claimed_by = $1 AND endpoint_id = $2 AND topic = $3 AND part = $4 AND start_offset = $5 AND log = $6";

/// What was claimed in transactions of which it is not known whether they were committed: it is ours, and nobody here knows of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unsure {
    owed: Vec<OwedId>,
    ranges: Vec<RangeId>,
}

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
        let us = self.dispatcher_id();
        // What stays claimed by the old name is free for all, and so for a dispatcher that begins in this process.
        *self.node() = Uuid::now_v7();
        sqlx::query("DELETE FROM dispatcher WHERE id = $1")
            .bind(us)
            .execute(&self.database.pool)
            .await?;
        Ok(())
    }

    pub(crate) fn dispatcher_id(&self) -> String {
        self.node().to_string()
    }

    fn node(&self) -> MutexGuard<'_, Uuid> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn claim_due(
        &self,
        now_ms: Millis,
        most: usize,
        except: &[EndpointId],
    ) -> Result<Vec<Owed>> {
        let us = self.dispatcher_id();
        let mut claim = Statement::new("UPDATE owed SET claimed_by = ");
        claim.bind(us.clone());
        claim.push(
            " WHERE (endpoint_id, notification_id) IN (SELECT endpoint_id, notification_id FROM owed WHERE due_ms <= ",
        );
        claim.bind(now_ms);
        claim
            .push(" AND (claimed_by IS NULL OR (claimed_by <> ")
            .bind(us);
        claim.push(" AND claimed_by NOT IN (SELECT id FROM dispatcher WHERE alive_until_ms >= ");
        claim.bind(now_ms).push(")))");
        let mut comma = " AND endpoint_id NOT IN (";
        for endpoint in except.iter().take(MOST_EXCEPT) {
            claim.push(comma).bind(endpoint.to_string());
            comma = ", ";
        }
        if !except.is_empty() {
            claim.push(")");
        }
        claim.push(" ORDER BY due_ms LIMIT ");
        claim.bind(i64::try_from(most).unwrap_or(i64::MAX));
        if self.database.is_postgres {
            claim.push(" FOR UPDATE SKIP LOCKED");
        }
        claim.push(") RETURNING endpoint_id, notification_id, body, failures, due_ms, reason");
        self.release_unsure().await?;
        let mut tx = self.database.begin_writing().await?;
        let rows = claim.fetch_all(&mut tx).await?;
        let mut owed = rows.iter().map(owed).collect::<Result<Vec<Owed>>>()?;
        let ids = owed.iter().map(|owed| (owed.endpoint, owed.notification));
        self.commit_claim(tx, |unsure| unsure.owed.extend(ids))
            .await?;
        owed.sort_by_key(|owed| owed.due_ms);
        Ok(owed)
    }

    /// Endpoints that owe ranges which are free, those with the lowest offsets first.
    pub(super) async fn owing_free_ranges(&self, now_ms: Millis) -> Result<Vec<EndpointId>> {
        // It is not found while it is ours.
        self.release_unsure().await?;
        let rows = sqlx::query(OWING)
            .bind(self.dispatcher_id())
            .bind(now_ms)
            .bind(self.log.to_string())
            .fetch_all(&self.database.pool)
            .await?;
        let ids = rows.iter().map(|row| uuid(row, "endpoint_id"));
        ids.map(|id| Ok(EndpointId(id?))).collect()
    }

    /// Claims ranges of these endpoints that are free, of each so many at most.
    pub(super) async fn claim_free_ranges(
        &self,
        now_ms: Millis,
        most: usize,
        endpoints: &[EndpointId],
    ) -> Result<Vec<OwedRange>> {
        self.release_unsure().await?;
        let mut all = Vec::new();
        for some in endpoints.chunks(ENDPOINTS_PER_CLAIM) {
            let claim = self.range_claim(now_ms, most, some);
            let mut tx = self.database.begin_writing().await?;
            let rows = claim.fetch_all(&mut tx).await?;
            let ranges = rows.iter().map(range).collect::<Result<Vec<OwedRange>>>()?;
            let ids = ranges.iter().map(|range| range.id.clone());
            self.commit_claim(tx, |unsure| unsure.ranges.extend(ids))
                .await?;
            all.extend(ranges);
        }
        all.sort_by_key(|range| range.from);
        Ok(all)
    }

    /// A row that another one claims at this moment is passed over (PostgreSQL; SQLite has one writer).
    fn range_claim(&self, now_ms: Millis, most: usize, endpoints: &[EndpointId]) -> Statement {
        const PLACE: &str = "endpoint_id, topic, part, start_offset";
        let (us, log) = (self.dispatcher_id(), self.log.to_string());
        let mut claim = Statement::new("UPDATE owed_range SET claimed_by = ");
        let is_free = |claim: &mut Statement| {
            claim.push("log = ").bind(log.clone());
            claim
                .push(" AND (claimed_by IS NULL OR (claimed_by <> ")
                .bind(us.clone());
            claim
                .push(" AND claimed_by NOT IN (SELECT id FROM dispatcher WHERE alive_until_ms >= ");
            claim.bind(now_ms).push(")))");
        };
        claim
            .bind(us.clone())
            .push(" WHERE log = ")
            .bind(log.clone());
        claim.push(" AND (").push(PLACE).push(") IN (SELECT ");
        claim.push(PLACE).push(" FROM owed_range WHERE ");
        is_free(&mut claim);
        claim.push(" AND (").push(PLACE).push(") IN (SELECT ");
        claim.push(PLACE).push(" FROM (SELECT ").push(PLACE);
        claim.push(", ROW_NUMBER() OVER (PARTITION BY endpoint_id ORDER BY from_offset) AS place FROM owed_range WHERE ");
        is_free(&mut claim);
        let mut comma = " AND endpoint_id IN (";
        for endpoint in endpoints {
            claim.push(comma).bind(endpoint.to_string());
            comma = ", ";
        }
        claim.push(")) AS ranked WHERE place <= ");
        claim
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .push(")");
        if self.database.is_postgres {
            claim.push(" FOR UPDATE SKIP LOCKED");
        }
        claim.push(") RETURNING endpoint_id, topic, part, start_offset, from_offset, to_offset");
        claim
    }

    // A claim is a transaction: what the answer does not reach us of is claimed by nobody.

    /// Where it is not known whether the claim has been committed, it is kept in mind what was in it.
    async fn commit_claim(&self, tx: Transaction, keep: impl FnOnce(&mut Unsure)) -> Result<()> {
        let committed = tx.commit().await;
        if committed.is_err() {
            keep(&mut self.unsure());
        }
        Ok(committed?)
    }

    fn unsure(&self) -> MutexGuard<'_, Unsure> {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees what may be claimed by us without our knowing. It is kept in mind until that is done.
    async fn release_unsure(&self) -> Result<()> {
        let unsure = std::mem::take(&mut *self.unsure());
        if unsure == Unsure::default() {
            return Ok(());
        }
        let released = self.release(&unsure).await;
        if released.is_err() {
            let mut kept = self.unsure();
            kept.owed.extend(unsure.owed);
            kept.ranges.extend(unsure.ranges);
        }
        released
    }

    async fn release(&self, unsure: &Unsure) -> Result<()> {
        let mut tx = self.database.begin_writing().await?;
        for (endpoint, notification) in &unsure.owed {
            sqlx::query(FREE_OWED)
                .bind(self.dispatcher_id())
                .bind(endpoint.to_string())
                .bind(notification.to_string())
                .execute(&mut *tx)
                .await?;
        }
        for id in &unsure.ranges {
            sqlx::query(FREE_RANGE)
                .bind(self.dispatcher_id())
                .bind(id.endpoint.to_string())
                .bind(id.topic.to_string())
                .bind(i64::from(id.partition))
                .bind(i64::try_from(id.start).unwrap_or(i64::MAX))
                .bind(self.log.to_string())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
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
