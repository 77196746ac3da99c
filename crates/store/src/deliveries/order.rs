//! Owed deliveries of one key in order: the first of a key is due, the others are [`BEHIND`] it.
//!
//! Whatever takes the first one out makes the next one due, in the same transaction. Two nodes that
//! write about one key at the same moment may each miss what the other does; the dispatcher asks
//! about keys that wait now and then, and what was left behind so is due then.

pub(super) mod run;
pub(super) mod shares;
mod whole;

use std::collections::BTreeSet;
use std::sync::Arc;

use dovecast_dispatch::ledger::{
    BEHIND, Claimed, Debts, KeyPlace, LEFT_ALONE_MS, Millis, Owed, TopicPartition,
};
use dovecast_notification::{EndpointId, OrderKey};
use sqlx::any::AnyRow;

use super::claims::count;
use super::due;
use super::record::Bound;
use crate::connection::{Connection, Line};
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::{ROWS, Statement};
use run::{Key, Run};
use shares::{Rooms, Shares};

/// Most ranges of a partition that are claimed for one endpoint at a time.
const RANGES: i64 = 1_000;

const DEBTORS: &str = "SELECT endpoint_id FROM owed WHERE log = $1 AND topic = $2 AND part = $3 AND order_key IS NOT NULL \
    UNION SELECT endpoint_id FROM owed_range WHERE log = $1 AND topic = $2 AND part = $3";
const KEYS: &str = "SELECT DISTINCT order_key FROM owed WHERE endpoint_id = $4 AND log = $1 AND topic = $2 AND part = $3 \
    AND order_key IS NOT NULL";
const CLAIM_RANGES: &str = "UPDATE owed_range SET claimed_by = $5 \
    WHERE claimed_by IS NULL AND log = $1 AND topic = $2 AND part = $3 AND endpoint_id = $4 \
    AND start_offset IN (SELECT start_offset FROM owed_range WHERE claimed_by IS NULL AND log = $1 AND topic = $2 \
    AND part = $3 AND endpoint_id = $4 ORDER BY from_offset LIMIT $6) \
    RETURNING endpoint_id, topic, part, start_offset, from_offset, to_offset";
const RANGES_OF: &str = "SELECT endpoint_id, topic, part, start_offset, from_offset, to_offset, claimed_by FROM owed_range \
    WHERE log = $1 AND topic = $2 AND part = $3 AND endpoint_id = $4";

/// The columns of the place of a row.
pub(super) const PLACE: &str = "log, topic, part, record_offset, order_key";

/// Keys of which something was written.
pub(super) type Keys = BTreeSet<(EndpointId, OrderKey)>;

/// Pushes the values of [`PLACE`], with a comma between each and the next. The log is this one
/// where the place names no other.
pub(super) fn push_place(statement: &mut Statement, place: Option<&KeyPlace>, log: &str) {
    statement
        .bind(place.map(|place| place.log.as_deref().unwrap_or(log).to_owned()))
        .push(", ")
        .bind(place.map(|place| place.of.topic.to_string()))
        .push(", ")
        .bind(place.map(|place| i64::from(place.of.partition)))
        .push(", ")
        .bind(place.map(|place| super::ranges::offset(place.offset)))
        .push(", ")
        .bind(place.map(|place| place.key.to_string()));
}

/// The place of a row. It names its log, also where that is ours.
pub(super) fn place(found: &AnyRow) -> Result<Option<KeyPlace>> {
    if row::optional_text(found, "order_key")?.is_none() {
        return Ok(None);
    }
    Ok(Some(KeyPlace {
        of: partition(found)?,
        key: row::id(found, "order_key")?,
        offset: count(found, "record_offset")?,
        log: row::optional_text(found, "log")?.map(Arc::from),
    }))
}

pub(super) fn partition(found: &AnyRow) -> Result<TopicPartition> {
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
    let keys: Vec<_> = keys.iter().collect();
    for part in keys.chunks(ROWS) {
        next_due(part, now_ms).execute(connection).await?;
    }
    Ok(())
}

/// The first of a key is one entry of an index, and its row another one.
pub(super) fn next_due(keys: &[&(EndpointId, OrderKey)], now_ms: i64) -> Statement {
    let mut next = Statement::new("WITH asked (endpoint_id, order_key) AS (VALUES ");
    next.bind_rows(keys, |next, (endpoint, key)| {
        next.bind(endpoint.to_string()).bind_next(key.to_string());
    });
    next.push(") UPDATE owed SET due_ms = ").bind(now_ms);
    next.push(", made_ms = ").bind(now_ms);
    next.push(" WHERE due_ms = ").bind(BEHIND);
    next.push(
        " AND order_key IS NOT NULL AND (endpoint_id, order_key, record_offset) IN (SELECT endpoint_id, order_key, \
         (SELECT MIN(record_offset) FROM owed AS waiting WHERE waiting.endpoint_id = asked.endpoint_id \
         AND waiting.order_key = asked.order_key) FROM asked)",
    );
    next
}

/// When the first delivery of each of these keys is due that is owed to an endpoint, `NULL` where
/// none is: one entry of an index each.
fn first_of(endpoint: EndpointId, keys: &[OrderKey]) -> Statement {
    let mut ask = Statement::new("WITH asked (order_key) AS (VALUES (");
    ask.bind_list(keys.iter().map(ToString::to_string), "), (");
    ask.push(")) SELECT order_key, (SELECT due_ms FROM owed WHERE endpoint_id = ");
    ask.bind(endpoint.to_string());
    ask.push(
        " AND owed.order_key = asked.order_key ORDER BY record_offset LIMIT 1) AS due_ms FROM asked",
    );
    ask
}

impl Store {
    /// Adds what follows those that were claimed and have an order, in their order, and says which
    /// keys are complete with that. Mailbox transactions are claimed whole; keys for which there is
    /// no room then are given back.
    pub(super) async fn claim_followers(
        &self,
        connection: &mut Connection,
        first: Vec<Owed>,
        rooms: Rooms,
        now_ms: Millis,
    ) -> Result<Claimed> {
        let mut claimed = Claimed {
            is_more: first.len() >= rooms.most,
            ..Claimed::default()
        };
        let mut shares = Shares::new(&rooms, &first);
        let mut given_back = Vec::new();
        for owed in first {
            let id = (owed.endpoint, owed.notification);
            let Some(place) = &owed.place else {
                claimed.owed.push(owed);
                continue;
            };
            let Some(limit) = shares.next(owed.endpoint) else {
                claimed.is_more = true;
                given_back.push(id);
                continue;
            };
            let key = Key::new(&owed, place.key, self.dispatcher_id());
            let of_key = (owed.endpoint, place.key);
            // Whoever has something of it that long may have it for ever. Who reads another
            // partition does not claim it before it has been left alone.
            let waits = now_ms.saturating_sub(owed.due_ms) < 2 * LEFT_ALONE_MS;
            match key.claim(connection, owed, limit, waits).await? {
                Run::Claimed(run, is_complete) if shares.take(&run) => {
                    claimed.owed.extend(run);
                    claimed.complete.extend(is_complete.then_some(of_key));
                }
                // It is the first one when it is due for longest, and then has room.
                Run::Claimed(run, _) => {
                    claimed.is_more = true;
                    given_back.extend(run.iter().map(|owed| (owed.endpoint, owed.notification)));
                }
                Run::NoRoom => {
                    claimed.is_more = true;
                    given_back.push(id);
                }
                Run::InOtherHands => given_back.push(id),
            }
        }
        if !given_back.is_empty() {
            let mut unclaim =
                Statement::new("UPDATE owed SET claimed_by = NULL WHERE claimed_by = ");
            unclaim.bind(self.dispatcher_id());
            unclaim.push(" AND (endpoint_id, notification_id) IN (");
            due::values(&mut unclaim, &given_back);
            unclaim.push(")");
            unclaim.execute(connection).await?;
        }
        // What is in other hands is looked at again after a while.
        claimed.is_more &= !claimed.owed.is_empty();
        Ok(claimed)
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
        let of_endpoint = |statement| self.of_partition(statement, of).bind(endpoint.to_string());
        let mut tx = self.database.begin_writing_in(Line::Deliveries).await?;
        let rows = of_endpoint(CLAIM_RANGES)
            .bind(self.dispatcher_id())
            .bind(RANGES)
            .fetch_all(&mut *tx)
            .await?;
        let all = of_endpoint(RANGES_OF).fetch_all(&mut *tx).await?;
        let keys = of_endpoint(KEYS).fetch_all(&mut *tx).await?;
        let claimed = self.commit_range_claim(tx, &rows).await?;
        let mut others = Vec::new();
        for found in &all {
            let row = super::claims::range(found)?.id;
            let by = row::optional_text(found, "claimed_by")?;
            // Whoever asks knows ours by the name of the range.
            let id = if by.as_deref() == Some(&*self.dispatcher_id()) {
                self.held().name_of(row)
            } else {
                row
            };
            if !claimed.iter().any(|claimed| claimed.id == id) && !others.contains(&id) {
                others.push(id);
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
        let ask = first_of(endpoint, keys);
        let mut connection = self.database.pool.acquire().await?;
        let rows = ask.fetch_all(&mut connection).await?;
        drop(connection);
        let mut owed = Vec::new();
        let mut left_behind = Keys::new();
        for found in &rows {
            let Some(due_ms) = row::optional_number(found, "due_ms")? else {
                continue;
            };
            let key = row::id(found, "order_key")?;
            owed.push(key);
            if due_ms == BEHIND {
                left_behind.insert((endpoint, key));
            }
        }
        // Nearly always there is none, and nobody waits for a lock.
        if !left_behind.is_empty() {
            let now_ms = self.due_now_ms().await?;
            let mut tx = self.database.begin_writing_in(Line::Deliveries).await?;
            make_next_due(&mut tx, &left_behind, now_ms).await?;
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
        ask.push(" AND endpoint_id IN (");
        ask.bind_list(endpoints.iter().map(ToString::to_string), ", ");
        ask.push(")");
        let mut connection = self.database.pool.acquire().await?;
        let rows = ask.fetch_all(&mut connection).await?;
        let found = |found: &AnyRow| Ok((row::id(found, "endpoint_id")?, partition(found)?));
        rows.iter().map(found).collect()
    }
}
