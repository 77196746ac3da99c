//! Claiming what is owed: for a time it is one dispatcher's, and nobody waits for anybody.

use std::sync::{Arc, MutexGuard, PoisonError};

use dovecast_dispatch::ledger::{Millis, OwedRange, RangeId};
use dovecast_notification::EndpointId;
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::clock::SKEW_MS;
use crate::connection::{Connection, Line, Transaction};
use crate::error::{Result, with_sources};
use crate::open::Store;
use crate::row;
use crate::secrets::{self, KeyId, SecretsError};
use crate::statement::Statement;

/// Rows of dispatchers that have been dead for so long are removed.
const DEAD_MS: i64 = 24 * 60 * 60 * 1000;
/// Who has claimed anything, one entry of an index each, without us and those who live.
pub(super) const DEAD: &str = "WITH RECURSIVE claimer (id) AS (\
    SELECT MIN(claimed_by) FROM owed WHERE claimed_by IS NOT NULL \
    UNION ALL \
    SELECT (SELECT MIN(claimed_by) FROM owed WHERE claimed_by > claimer.id) FROM claimer WHERE claimer.id IS NOT NULL) \
    SELECT id FROM claimer WHERE id IS NOT NULL AND id <> $1 \
    AND id NOT IN (SELECT id FROM dispatcher WHERE alive_until_ms BETWEEN $2 AND $3)";
const DEAD_OF_RANGES: &str = "WITH RECURSIVE claimer (id) AS (\
    SELECT MIN(claimed_by) FROM owed_range WHERE log = $4 AND claimed_by IS NOT NULL \
    UNION ALL \
    SELECT (SELECT MIN(claimed_by) FROM owed_range WHERE log = $4 AND claimed_by > claimer.id) FROM claimer \
    WHERE claimer.id IS NOT NULL) \
    SELECT id FROM claimer WHERE id IS NOT NULL AND id <> $1 \
    AND id NOT IN (SELECT id FROM dispatcher WHERE alive_until_ms BETWEEN $2 AND $3)";
/// Most endpoints that a statement that claims ranges names.
const ENDPOINTS_PER_CLAIM: usize = 500;
/// Rows that one statement frees.
const AT_A_TIME: i64 = 1_000;
/// The one clock that all dispatchers of a PostgreSQL go by.
pub(super) const POSTGRES_NOW: &str =
    "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms";
/// The key that seals, and until when we live: one statement, as it is asked each second.
const KEY_AND_LIFE: &str = "SELECT key_id, (SELECT alive_until_ms FROM dispatcher WHERE id = $1) AS alive_until_ms \
    FROM feed";
const BEAT: &str = "INSERT INTO dispatcher (id, alive_until_ms, key_ids) VALUES ($1, $2, $3) \
    ON CONFLICT (id) DO UPDATE SET alive_until_ms = excluded.alive_until_ms, key_ids = excluded.key_ids";

impl Store {
    pub(super) async fn say_alive(&self, now_ms: Millis, alive_until_ms: Millis) -> Result<()> {
        self.learn_timeline().await;
        let mut tx = self.database.begin_writing_in(Line::Life).await?;
        let life_ms = alive_until_ms.saturating_sub(now_ms);
        let now_ms = self.now_of_dispatchers(&mut tx, now_ms).await?;
        let until_ms = now_ms.saturating_add(life_ms);
        let found = sqlx::query(KEY_AND_LIFE)
            .bind(self.dispatcher_id())
            .fetch_one(&mut *tx)
            .await?;
        let before = row::optional_number(&found, "alive_until_ms")?;
        self.must_have(secrets::current_of(&found)?).await?;
        // Before the commit, which may be done though its answer does not reach us: what is seen
        // now is not seen again.
        self.look_for_losses(&mut tx, before).await?;
        sqlx::query(BEAT)
            .bind(self.dispatcher_id())
            .bind(until_ms)
            .bind(self.keys.ids())
            .execute(&mut *tx)
            .await?;
        // A file has one user, so others are of processes that are gone.
        let value = if self.database.is_shared() {
            now_ms.saturating_sub(DEAD_MS)
        } else {
            i64::MAX
        };
        sqlx::query("DELETE FROM dispatcher WHERE id <> $1 AND alive_until_ms < $2")
            .bind(self.dispatcher_id())
            .bind(value)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.lives(now_ms, until_ms);
        Ok(())
    }

    /// Fails without the key that everything is sealed with, see [`Self::must_have`].
    pub(crate) async fn must_have_key(&self, connection: &mut Connection) -> Result<()> {
        let key = secrets::current(connection).await?;
        self.must_have(key).await
    }

    /// Fails without this key, with which everything is sealed: a rotation counts those who live,
    /// and what was sealed since cannot be opened here.
    async fn must_have(&self, key: Option<KeyId>) -> Result<()> {
        let Some(key) = key else {
            return Ok(());
        };
        self.keys.seals_with(key);
        if self.keys.has(key).await? {
            return Ok(());
        }
        let place = self.keys.source().to_string();
        Err(SecretsError::NotOfDatabase { key, place }.into())
    }

    /// The time by which it is judged who lives: for all dispatchers of a PostgreSQL that of the
    /// database, so that it does not matter how their own clocks are set.
    pub(crate) async fn now_of_dispatchers(
        &self,
        connection: &mut Connection,
        now_ms: Millis,
    ) -> Result<Millis> {
        if !self.database.is_postgres {
            return Ok(now_ms);
        }
        let found = sqlx::query(POSTGRES_NOW).fetch_one(connection).await?;
        let now_ms = row::number(&found, "now_ms")?;
        self.database_shows(now_ms);
        Ok(now_ms)
    }

    pub(super) async fn say_dead(&self) -> Result<()> {
        let us = self.dispatcher_id();
        // What stays claimed by the old name is free for all, and so for a dispatcher that begins
        // in this process.
        *self.node() = Uuid::now_v7();
        self.held().forget();
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

    /// What dispatchers have claimed that live no more is free.
    pub(super) async fn free_claims_of_the_dead(&self, now_ms: Millis) -> Result<()> {
        self.free_from_the_dead(now_ms, false).await
    }

    /// Ranges that dispatchers have claimed that live no more are free.
    pub(super) async fn free_ranges_of_the_dead(&self, now_ms: Millis) -> Result<()> {
        self.free_from_the_dead(now_ms, true).await
    }

    async fn free_from_the_dead(&self, now_ms: Millis, are_ranges: bool) -> Result<()> {
        let mut connection = self.database.pool.acquire().await?;
        let now_ms = self.now_of_dispatchers(&mut connection, now_ms).await?;
        let statement = if are_ranges { DEAD_OF_RANGES } else { DEAD };
        // Who would live for longer than anybody says it does has said so before the clock was set
        // back.
        let mut dead = sqlx::query(statement)
            .bind(self.dispatcher_id())
            .bind(now_ms)
            .bind(now_ms.saturating_add(SKEW_MS));
        if are_ranges {
            dead = dead.bind(self.log.to_string());
        }
        let dead = dead.fetch_all(&mut connection).await?;
        drop(connection);
        for dead in dead {
            let dead = row::text(&dead, "id")?;
            loop {
                let free = self.free_from(&dead, now_ms, are_ranges);
                let freed = free.execute_in(&self.database.pool, Line::Deliveries);
                if freed.await? < AT_A_TIME.unsigned_abs() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Frees some of what one dispatcher has claimed, if it is dead still. Rows that another one is
    /// at are passed over.
    fn free_from(&self, dead: &str, now_ms: Millis, are_ranges: bool) -> Statement {
        let (table, key) = if are_ranges {
            ("owed_range", "log, endpoint_id, topic, part, start_offset")
        } else {
            ("owed", "endpoint_id, notification_id")
        };
        let mut free = Statement::new("UPDATE ");
        free.push(table).push(" SET claimed_by = NULL WHERE (");
        free.push(key).push(") IN (SELECT ").push(key);
        free.push(" FROM ").push(table).push(" WHERE claimed_by = ");
        free.bind(dead.to_owned());
        if are_ranges {
            free.push(" AND log = ").bind(self.log.to_string());
        }
        free.push(" AND NOT EXISTS (SELECT 1 FROM dispatcher WHERE id = ");
        free.bind(dead.to_owned());
        free.push(" AND alive_until_ms BETWEEN ").bind(now_ms);
        free.push(" AND ").bind(now_ms.saturating_add(SKEW_MS));
        free.push(") LIMIT ").bind(AT_A_TIME);
        free.push(self.skip_locked()).push(")");
        free
    }

    /// A row that another one claims at this moment is passed over (PostgreSQL; SQLite has one
    /// writer).
    pub(super) fn skip_locked(&self) -> &'static str {
        if self.database.is_postgres {
            " FOR UPDATE SKIP LOCKED"
        } else {
            ""
        }
    }

    /// Claims ranges of these endpoints and topics that are free, of each endpoint so many at most.
    pub(super) async fn claim_free_ranges(
        &self,
        now_ms: Millis,
        most: usize,
        (endpoints, topics): (&[EndpointId], &[Arc<str>]),
    ) -> Result<Vec<OwedRange>> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        self.release_unsure().await?;
        self.free_ranges_of_the_dead(now_ms).await?;
        let mut all = Vec::new();
        for some in endpoints.chunks(ENDPOINTS_PER_CLAIM) {
            match self.claim_some_ranges(most, (some, topics)).await {
                Ok(ranges) => all.extend(ranges),
                Err(error) if all.is_empty() => return Err(error),
                // What was claimed before is ours, and the caller has to know of it.
                Err(error) => {
                    let error = with_sources(&error);
                    tracing::warn!(
                        error,
                        claimed = all.len(),
                        "only some ranges could be claimed; the others are claimed later"
                    );
                    break;
                }
            }
        }
        all.sort_by_key(|range| range.from);
        Ok(all)
    }

    async fn claim_some_ranges(
        &self,
        most: usize,
        of: (&[EndpointId], &[Arc<str>]),
    ) -> Result<Vec<OwedRange>> {
        let claim = self.range_claim(most, of);
        let mut tx = self.database.begin_writing_in(Line::Deliveries).await?;
        let rows = claim.fetch_all(&mut tx).await?;
        self.commit_range_claim(tx, &rows).await
    }

    /// Commits a claim of these rows; returns what is ours with that.
    pub(super) async fn commit_range_claim(
        &self,
        mut tx: Transaction,
        rows: &[AnyRow],
    ) -> Result<Vec<OwedRange>> {
        let ranges = rows.iter().map(range).collect::<Result<Vec<OwedRange>>>()?;
        let ranges = self.without_held(&mut tx, ranges).await?;
        let ids: Vec<RangeId> = ranges.iter().map(|range| range.id.clone()).collect();
        self.commit_claim(tx, |unsure| unsure.ranges.extend(ids))
            .await?;
        self.held().claimed(&ranges);
        Ok(ranges)
    }

    /// Leaves out, and free, what has the name of a range that we hold under another row: two rows
    /// of one name cannot be told apart. Whoever asks gets it, we do when ours is done.
    async fn without_held(
        &self,
        tx: &mut Transaction,
        ranges: Vec<OwedRange>,
    ) -> Result<Vec<OwedRange>> {
        let (held, claimed): (Vec<_>, Vec<_>) = {
            let known = self.held();
            let is_held = |range: &OwedRange| {
                let known = known.known(&range.id);
                known.is_some_and(|known| !known.is_lapsed && known.row != range.id.start)
            };
            ranges.into_iter().partition(is_held)
        };
        for range in held {
            self.free_range(tx, &range.id).await?;
        }
        Ok(claimed)
    }

    /// Claims free ranges of these endpoints and topics, of each endpoint those with the lowest
    /// offsets.
    fn range_claim(
        &self,
        most: usize,
        (endpoints, topics): (&[EndpointId], &[Arc<str>]),
    ) -> Statement {
        const PLACE: &str = "endpoint_id, topic, part, start_offset";
        let log = self.log.to_string();
        let mut claim = Statement::new("UPDATE owed_range SET claimed_by = ");
        claim.bind(self.dispatcher_id()).push(" WHERE log = ");
        claim.bind(log.clone()).push(" AND (").push(PLACE);
        claim.push(") IN (SELECT ").push(PLACE);
        claim.push(" FROM owed_range WHERE claimed_by IS NULL AND log = ");
        claim.bind(log.clone()).push(" AND (").push(PLACE);
        claim.push(") IN (SELECT ").push(PLACE);
        claim.push(" FROM (SELECT ").push(PLACE);
        claim.push(", ROW_NUMBER() OVER (PARTITION BY endpoint_id ORDER BY from_offset) AS place FROM owed_range WHERE claimed_by IS NULL AND log = ");
        claim.bind(log);
        claim.push(" AND endpoint_id IN (");
        claim.bind_list(endpoints.iter().map(ToString::to_string), ", ");
        claim.push(") AND topic IN (");
        claim.bind_list(topics.iter().map(ToString::to_string), ", ");
        claim.push(")) AS ranked WHERE place <= ");
        claim.bind(i64::try_from(most).unwrap_or(i64::MAX));
        claim.push(")").push(self.skip_locked());
        claim.push(") RETURNING endpoint_id, topic, part, start_offset, from_offset, to_offset");
        claim
    }
}

pub(super) fn count<T: TryFrom<i64>>(found: &AnyRow, column: &'static str) -> Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let number = row::number(found, column)?;
    Ok(T::try_from(number).map_err(|error| row::wrong(column, error))?)
}

pub(super) fn range(found: &AnyRow) -> Result<OwedRange> {
    Ok(OwedRange {
        id: RangeId {
            endpoint: row::id(found, "endpoint_id")?,
            topic: Arc::from(row::text(found, "topic")?),
            partition: count(found, "part")?,
            start: count(found, "start_offset")?,
        },
        from: count(found, "from_offset")?,
        to: count(found, "to_offset")?,
    })
}
