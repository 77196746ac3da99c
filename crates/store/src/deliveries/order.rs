//! Owed deliveries of one key in order: the first of a key is due, the others are [`BEHIND`] it.
//!
//! Whatever takes the first one out makes the next one due, in the same transaction. Two nodes that
//! write about one key at the same moment may each miss what the other does; the dispatcher asks
//! about keys that wait now and then, and what was left behind so is due then.

use std::collections::BTreeSet;
use std::sync::Arc;

use dovecast_dispatch::ledger::{
    BEHIND, Claimed, Debts, KeyPlace, Millis, Owed, RangeId, TopicPartition,
};
use dovecast_notification::{EndpointId, OrderKey};
use sqlx::any::AnyRow;

use super::claims::count;
use super::due::owed;
use super::record::Bound;
use crate::connection::Connection;
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

/// Most ranges of a partition that are claimed for one endpoint at a time.
const RANGES: usize = 1_000;

pub(super) const NEXT: &str = "UPDATE owed SET due_ms = $3, made_ms = $3 WHERE endpoint_id = $1 AND order_key = $2 AND due_ms = $4 \
    AND record_offset = (SELECT MIN(record_offset) FROM owed WHERE endpoint_id = $1 AND order_key = $2)";
pub(super) const FOLLOWERS: &str = "SELECT record_offset, claimed_by FROM owed WHERE endpoint_id = $1 AND order_key = $2 \
    AND record_offset > $3 ORDER BY record_offset LIMIT $4";
const CLAIM_FOLLOWERS: &str = "UPDATE owed SET claimed_by = $1 WHERE endpoint_id = $2 AND order_key = $3 \
    AND record_offset > $4 AND record_offset <= $5 AND claimed_by IS NULL \
    RETURNING endpoint_id, notification_id, content, failures, due_ms, reason, log, topic, part, record_offset, order_key";
const IS_MORE: &str =
    "SELECT 1 FROM owed WHERE endpoint_id = $1 AND order_key = $2 AND record_offset > $3 LIMIT 1";
const DEBTORS: &str = "SELECT endpoint_id FROM owed WHERE log = $1 AND topic = $2 AND part = $3 AND order_key IS NOT NULL \
    UNION SELECT endpoint_id FROM owed_range WHERE log = $1 AND topic = $2 AND part = $3";
const KEYS: &str = "SELECT DISTINCT order_key FROM owed WHERE endpoint_id = $4 AND log = $1 AND topic = $2 AND part = $3 \
    AND order_key IS NOT NULL";
const RANGES_OF: &str = "SELECT endpoint_id, topic, part, start_offset, from_offset, to_offset FROM owed_range \
    WHERE log = $1 AND topic = $2 AND part = $3 AND endpoint_id = $4";

/// The columns of the place of a row.
pub(super) const PLACE: &str = "log, topic, part, record_offset, order_key";

/// Keys of which something was written.
pub(super) type Keys = BTreeSet<(EndpointId, OrderKey)>;

/// Binds the place of a delivery: log, topic, partition, offset, key.
pub(super) fn bind_place<'q>(query: Bound<'q>, place: Option<&KeyPlace>, log: &str) -> Bound<'q> {
    query
        .bind(place.map(|_| log.to_owned()))
        .bind(place.map(|place| place.of.topic.to_string()))
        .bind(place.map(|place| i64::from(place.of.partition)))
        .bind(place.map(|place| super::ranges::offset(place.offset)))
        .bind(place.map(|place| place.key.to_string()))
}

pub(super) fn place(found: &AnyRow) -> Result<Option<KeyPlace>> {
    if row::optional_text(found, "order_key")?.is_none() {
        return Ok(None);
    }
    Ok(Some(KeyPlace {
        of: partition(found)?,
        key: row::id(found, "order_key")?,
        offset: count(found, "record_offset")?,
    }))
}

fn partition(found: &AnyRow) -> Result<TopicPartition> {
    Ok(TopicPartition {
        topic: Arc::from(row::text(found, "topic")?),
        partition: count(found, "part")?,
    })
}

/// Makes the first of each key due that was behind another one so far.
pub(super) async fn make_next_due(
    connection: &mut Connection,
    keys: &Keys,
    now_ms: i64,
) -> Result<()> {
    for (endpoint, key) in keys {
        sqlx::query(NEXT)
            .bind(endpoint.to_string())
            .bind(key.to_string())
            .bind(now_ms)
            .bind(BEHIND)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

impl Store {
    /// Adds what follows those that were claimed and have an order, in their order, and says which
    /// keys are complete with that.
    pub(super) async fn claim_followers(
        &self,
        connection: &mut Connection,
        first: Vec<Owed>,
        most: usize,
    ) -> Result<Claimed> {
        let mut claimed = Claimed::default();
        let mut left = most.saturating_sub(first.len());
        let mut keys = first.iter().filter(|owed| owed.place.is_some()).count();
        for owed in first {
            let (endpoint, place) = (owed.endpoint, owed.place.clone());
            claimed.owed.push(owed);
            let Some(KeyPlace { key, offset, .. }) = place else {
                continue;
            };
            // Each key has its share, and what another one leaves of its own.
            let limit = left.div_ceil(keys);
            keys -= 1;
            let (mut last, mut followers) = (offset, Vec::new());
            if limit > 0 {
                followers = self
                    .followers(connection, (endpoint, key), (offset, limit))
                    .await?;
            }
            if let Some(place) = followers.last().and_then(|owed| owed.place.as_ref()) {
                last = place.offset;
            }
            left -= followers.len();
            claimed.owed.append(&mut followers);
            let more = sqlx::query(IS_MORE)
                .bind(endpoint.to_string())
                .bind(key.to_string())
                .bind(super::ranges::offset(last))
                .fetch_optional(&mut *connection)
                .await?;
            if more.is_none() {
                claimed.complete.push((endpoint, key));
            }
        }
        Ok(claimed)
    }

    async fn followers(
        &self,
        connection: &mut Connection,
        (endpoint, key): (EndpointId, OrderKey),
        (offset, most): (u64, usize),
    ) -> Result<Vec<Owed>> {
        let found = sqlx::query(FOLLOWERS)
            .bind(endpoint.to_string())
            .bind(key.to_string())
            .bind(super::ranges::offset(offset))
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        // Up to the first that another dispatcher has claimed.
        let mut last = None;
        for found in &found {
            if row::optional_text(found, "claimed_by")?.is_some() {
                break;
            }
            last = Some(row::number(found, "record_offset")?);
        }
        let Some(last) = last else {
            return Ok(Vec::new());
        };
        let rows = sqlx::query(CLAIM_FOLLOWERS)
            .bind(self.dispatcher_id())
            .bind(endpoint.to_string())
            .bind(key.to_string())
            .bind(super::ranges::offset(offset))
            .bind(last)
            .fetch_all(connection)
            .await?;
        let mut followers = rows.iter().map(owed).collect::<Result<Vec<Owed>>>()?;
        followers.sort_by_key(|owed| owed.place.as_ref().map(|place| place.offset));
        Ok(followers)
    }

    pub(super) async fn debtors_of(&self, of: &TopicPartition) -> Result<Vec<EndpointId>> {
        let rows = self.of_partition(DEBTORS, of);
        let rows = rows.fetch_all(&self.database.pool).await?;
        rows.iter().map(|row| row::id(row, "endpoint_id")).collect()
    }

    fn of_partition(&self, statement: &'static str, of: &TopicPartition) -> Bound<'static> {
        sqlx::query(statement)
            .bind(self.log.to_string())
            .bind(of.topic.to_string())
            .bind(i64::from(of.partition))
    }

    /// What an endpoint owes of a partition; what is free of its ranges is claimed.
    pub(super) async fn debts(
        &self,
        now_ms: Millis,
        endpoint: EndpointId,
        of: &TopicPartition,
    ) -> Result<Debts> {
        self.release_unsure().await?;
        self.free_ranges_of_the_dead(now_ms).await?;
        let mut claim = Statement::new("UPDATE owed_range SET claimed_by = ");
        claim.bind(self.dispatcher_id());
        claim.push(" WHERE claimed_by IS NULL AND log = ");
        claim.bind(self.log.to_string()).push(" AND topic = ");
        claim.bind(of.topic.to_string()).push(" AND part = ");
        claim
            .bind(i64::from(of.partition))
            .push(" AND endpoint_id = ");
        claim.bind(endpoint.to_string());
        claim.push(" AND start_offset IN (SELECT start_offset FROM owed_range WHERE claimed_by IS NULL AND log = ");
        claim.bind(self.log.to_string()).push(" AND topic = ");
        claim.bind(of.topic.to_string()).push(" AND part = ");
        claim
            .bind(i64::from(of.partition))
            .push(" AND endpoint_id = ");
        claim.bind(endpoint.to_string());
        claim.push(" ORDER BY from_offset LIMIT ");
        claim.bind(i64::try_from(RANGES).unwrap_or(i64::MAX));
        claim.push(") RETURNING endpoint_id, topic, part, start_offset, from_offset, to_offset");
        let mut tx = self.database.begin_writing().await?;
        let rows = claim.fetch_all(&mut tx).await?;
        let claimed = rows
            .iter()
            .map(super::claims::range)
            .collect::<Result<Vec<_>>>()?;
        let claimed = self.without_held(&mut tx, claimed).await?;
        let all = self.of_partition(RANGES_OF, of).bind(endpoint.to_string());
        let all = all.fetch_all(&mut *tx).await?;
        let keys = self.of_partition(KEYS, of).bind(endpoint.to_string());
        let keys = keys.fetch_all(&mut *tx).await?;
        let ids: Vec<RangeId> = claimed.iter().map(|range| range.id.clone()).collect();
        self.commit_range_claim(tx, ids.clone()).await?;
        self.held().claimed(&claimed);
        let mut others = Vec::new();
        for found in &all {
            let range = super::claims::range(found)?;
            if !ids.contains(&range.id) {
                others.push(range.id);
            }
        }
        let keys = keys.iter().map(|row| row::id(row, "order_key"));
        Ok(Debts {
            claimed,
            others,
            keys: keys.collect::<Result<_>>()?,
        })
    }

    /// Which of these keys are owed; a first one that was left behind is due.
    pub(super) async fn still_owed(
        &self,
        endpoint: EndpointId,
        keys: &[OrderKey],
    ) -> Result<Vec<OrderKey>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut ask = Statement::new("WITH asked (order_key) AS (VALUES (");
        let mut comma = "";
        for key in keys {
            ask.push(comma).bind(key.to_string());
            comma = "), (";
        }
        ask.push(
            ")) SELECT order_key FROM asked WHERE EXISTS (SELECT 1 FROM owed WHERE endpoint_id = ",
        );
        ask.bind(endpoint.to_string());
        ask.push(" AND owed.order_key = asked.order_key)");
        let mut connection = self.database.pool.acquire().await?;
        let rows = ask.fetch_all(&mut connection).await?;
        drop(connection);
        let owed = rows.iter().map(|row| row::id(row, "order_key"));
        let owed = owed.collect::<Result<Vec<OrderKey>>>()?;
        if !owed.is_empty() {
            let now_ms = self.due_now_ms().await?;
            let mut tx = self.database.begin_writing().await?;
            let keys = owed.iter().map(|key| (endpoint, *key)).collect();
            make_next_due(&mut tx, &keys, now_ms).await?;
            tx.commit().await?;
        }
        Ok(owed)
    }

    /// Partitions of which these endpoints owe ranges that are free.
    pub(super) async fn free_partitions(
        &self,
        endpoints: &[EndpointId],
    ) -> Result<Vec<(EndpointId, TopicPartition)>> {
        if endpoints.is_empty() {
            return Ok(Vec::new());
        }
        let mut ask = Statement::new(
            "SELECT DISTINCT endpoint_id, topic, part FROM owed_range WHERE claimed_by IS NULL AND log = ",
        );
        ask.bind(self.log.to_string());
        let mut comma = " AND endpoint_id IN (";
        for endpoint in endpoints {
            ask.push(comma).bind(endpoint.to_string());
            comma = ", ";
        }
        ask.push(")");
        let mut connection = self.database.pool.acquire().await?;
        let rows = ask.fetch_all(&mut connection).await?;
        let found = |found: &AnyRow| Ok((row::id(found, "endpoint_id")?, partition(found)?));
        rows.iter().map(found).collect()
    }
}
