//! Claiming owed deliveries that are due: they are looked for by reading, which locks nothing, and
//! claimed by their keys.
//!
//! What is owed to endpoints that must wait may be a million rows that are due. So no step reads
//! more than it may claim, but for a window of the rows that are due first, and, where more is due
//! than that, one entry of an index for each endpoint that owes anything, a page of them in each
//! call: so that who has a thousand endpoints takes no other account's share.

pub(crate) mod by_account;
mod found;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::PoisonError;

use dovecast_dispatch::ledger::{
    BEHIND, Claimed, Claiming, LEFT_ALONE_MS, Millis, Owed, OwedId, TopicPartition,
};
use dovecast_notification::EndpointId;
use sqlx::any::AnyRow;

use super::claims::count;
use super::order::{self, shares::Rooms};
use found::{DueRow, Found};

use crate::clock::SKEW_MS;
use crate::connection::Line;
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

/// Rows that are looked at from the one that is due first on, by how many may be claimed: more than
/// one, so that dispatchers that look at the same time find different ones.
const WINDOW: usize = 2;
/// Rows that one statement makes due.
const AT_A_TIME: i64 = 1_000;

/// How long until the next line that says that a clock was set back.
const TELL_EVERY_MS: i64 = 60_000;

const SET_BACK: &str = "SELECT made_ms FROM owed WHERE claimed_by IS NULL AND made_ms > $1 ORDER BY made_ms DESC LIMIT 1";
const DUE_FIRST: &str = "SELECT endpoint_id, notification_id, due_ms, log, topic, part, octet_length(content) AS bytes FROM owed \
    WHERE claimed_by IS NULL AND due_ms <= $1 ORDER BY due_ms LIMIT $2";
/// What to claim, and of whom.
struct Looking<'a> {
    now_ms: Millis,
    most: usize,
    bytes: usize,
    except: &'a BTreeSet<EndpointId>,
    partitions: &'a BTreeSet<TopicPartition>,
}

impl Store {
    pub(super) async fn claim_due(&self, claiming: Claiming) -> Result<Claimed> {
        let now_ms = claiming.now_ms;
        self.release_unsure().await?;
        self.free_claims_of_the_dead(now_ms).await?;
        let ahead_ms = self.due_ahead_ms().await?;
        let now_ms = now_ms.saturating_add(ahead_ms);
        self.make_due_what_was_set_back(now_ms).await?;
        let looking = Looking {
            now_ms,
            most: claiming.most,
            bytes: claiming.bytes,
            except: &claiming.except.into_iter().collect(),
            partitions: &claiming.partitions.into_iter().collect(),
        };
        let found = self.find_due(&looking).await?;
        if found.ids.is_empty() {
            return Ok(Claimed::default());
        }
        let mut claimed = self.claim_these(found, &looking).await?;
        for owed in &mut claimed.owed {
            if owed.due_ms != BEHIND {
                owed.due_ms = owed.due_ms.saturating_sub(ahead_ms);
            }
            if let Some(place) = &mut owed.place {
                place.log = place.log.take().filter(|log| *log != self.log);
            }
        }
        Ok(claimed)
    }

    /// After the clock was set back, times that were decided on before lie further ahead than was
    /// meant: they are now.
    async fn make_due_what_was_set_back(&self, now_ms: Millis) -> Result<()> {
        let believed = now_ms.saturating_add(SKEW_MS);
        let ahead = sqlx::query(SET_BACK)
            .bind(believed)
            .fetch_optional(&self.database.pool)
            .await?;
        if ahead.is_none() {
            return Ok(());
        }
        let mut deliveries = 0;
        loop {
            let mut due = Statement::new("UPDATE owed SET made_ms = ");
            due.bind(now_ms).push(", due_ms = CASE WHEN due_ms < ");
            due.bind(now_ms).push(" OR due_ms = ").bind(BEHIND);
            due.push(" THEN due_ms ELSE ").bind(now_ms);
            due.push(
                " END WHERE (endpoint_id, notification_id) IN (\
                 SELECT endpoint_id, notification_id FROM owed WHERE claimed_by IS NULL AND made_ms > ",
            );
            due.bind(believed).push(" LIMIT ").bind(AT_A_TIME);
            due.push(self.skip_locked()).push(")");
            let rows = due
                .execute_in(&self.database.pool, Line::Deliveries)
                .await?;
            deliveries += rows;
            if rows < AT_A_TIME.unsigned_abs() {
                break;
            }
        }
        if let Some(deliveries) = self.tell_set_back(deliveries) {
            tracing::warn!(
                deliveries,
                "the clock (on PostgreSQL that of the database) was set back: deliveries whose times are from before that are due now"
            );
        }
        Ok(())
    }

    /// How many deliveries are to be told of now, with those that were not told of before.
    fn tell_set_back(&self, deliveries: u64) -> Option<u64> {
        let now_ms = self.clock.steady_ms();
        let mut told = self
            .set_back_told
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (last_ms, untold) = &mut *told;
        *untold += deliveries;
        if last_ms.is_some_and(|last_ms| now_ms.saturating_sub(last_ms) < TELL_EVERY_MS) {
            return None;
        }
        *last_ms = Some(now_ms);
        Some(std::mem::take(untold))
    }

    async fn find_due(&self, looking: &Looking<'_>) -> Result<Found> {
        let window = looking.most.saturating_mul(WINDOW);
        let rows = sqlx::query(DUE_FIRST)
            .bind(looking.now_ms)
            .bind(number(window))
            .fetch_all(&self.database.pool)
            .await?;
        let may_be_more = rows.len() >= window;
        let mut first = self.ours(looking, &rows)?;
        first.retain(|row| !looking.except.contains(&row.id.0));
        let mut found = Found::new(looking);
        if may_be_more && (first.len() < looking.most || self.is_time_for_a_page()) {
            found = self.find_by_account(looking).await?;
            let ids: BTreeSet<&OwedId> = found.ids.iter().collect();
            first.retain(|row| !ids.contains(&row.id));
            first.truncate(found.left);
        }
        for row in &first {
            found.add(row);
        }
        Ok(found)
    }

    /// What of these rows has no order, or is of a partition that this dispatcher reads; the rest
    /// is left to whoever reads its partition, for a while.
    fn ours(&self, looking: &Looking<'_>, rows: &[AnyRow]) -> Result<Vec<DueRow>> {
        let left_alone_ms = looking.now_ms.saturating_sub(LEFT_ALONE_MS);
        let mut ids = Vec::with_capacity(rows.len());
        for found in rows {
            let topic = row::optional_text(found, "topic")?;
            let has_order = topic.is_some();
            let due_ms = row::number(found, "due_ms")?;
            let is_ours = match topic {
                None => true,
                Some(_) if due_ms <= left_alone_ms => true,
                Some(topic) => {
                    let of = TopicPartition {
                        topic: topic.into(),
                        partition: count(found, "part")?,
                    };
                    let log = row::optional_text(found, "log")?;
                    log.is_some_and(|log| *log == *self.log) && looking.partitions.contains(&of)
                }
            };
            if is_ours {
                ids.push(DueRow {
                    id: id(found)?,
                    due_ms,
                    has_order,
                    bytes: count(found, "bytes")?,
                });
            }
        }
        Ok(ids)
    }

    /// Claims those of them that are free still, the longest due first. Rows that another
    /// dispatcher is at are passed over.
    async fn claim_these(&self, found: Found, looking: &Looking<'_>) -> Result<Claimed> {
        let most = looking.most;
        let is_more = found.is_cut || found.left == 0 || found.ids.len() >= most;
        let ids = found.ids;
        let rooms = Rooms {
            most,
            bytes: looking.bytes,
            of_endpoints: found.rooms,
        };
        let claim = claim(self.dispatcher_id(), &ids, most, self.skip_locked());
        let mut tx = self.database.begin_writing_in(Line::Deliveries).await?;
        let rows = claim.fetch_all(&mut tx).await?;
        let mut owed = rows.iter().map(owed).collect::<Result<Vec<Owed>>>()?;
        owed.sort_by_key(|owed| owed.due_ms);
        if owed.len() < ids.len().min(most) {
            put_behind(&ids).execute(&mut tx).await?;
        }
        let mut claimed = self
            .claim_followers(&mut tx, owed, rooms, looking.now_ms)
            .await?;
        // Some of them may be no first ones, or another dispatcher's.
        claimed.is_more |= is_more && !claimed.owed.is_empty();
        let ids = claimed.owed.iter();
        let ids = ids.map(|owed| (owed.endpoint, owed.notification));
        self.commit_claim(tx, |unsure| unsure.owed.extend(ids))
            .await?;
        Ok(claimed)
    }
}

/// What is due and not the first of its key waits for that.
fn put_behind(ids: &[OwedId]) -> Statement {
    let mut put = Statement::new("UPDATE owed SET due_ms = ");
    put.bind(BEHIND);
    put.push(" WHERE claimed_by IS NULL AND order_key IS NOT NULL AND (endpoint_id, notification_id) IN (");
    values(&mut put, ids);
    put.push(
        ") AND EXISTS (SELECT 1 FROM owed AS earlier WHERE earlier.endpoint_id = owed.endpoint_id \
         AND earlier.order_key = owed.order_key AND earlier.record_offset < owed.record_offset)",
    );
    put
}

/// Ids as the rows of a list.
pub(super) fn values(statement: &mut Statement, ids: &[OwedId]) {
    let mut comma = "VALUES (";
    for (endpoint, notification) in ids {
        statement.push(comma).bind(endpoint.to_string());
        statement.push(", ").bind(notification.to_string());
        comma = "), (";
    }
    statement.push(")");
}

fn claim(us: String, ids: &[OwedId], most: usize, skip_locked: &'static str) -> Statement {
    let mut claim = Statement::new("UPDATE owed SET claimed_by = ");
    claim.bind(us);
    claim.push(
        " WHERE (endpoint_id, notification_id) IN (SELECT endpoint_id, notification_id FROM owed AS due \
         WHERE claimed_by IS NULL AND (endpoint_id, notification_id) IN (",
    );
    values(&mut claim, ids);
    // Of a key the first one only.
    claim.push(
        ") AND NOT EXISTS (SELECT 1 FROM owed AS earlier WHERE due.order_key IS NOT NULL \
         AND earlier.endpoint_id = due.endpoint_id AND earlier.order_key = due.order_key \
         AND earlier.record_offset < due.record_offset) ORDER BY due_ms LIMIT ",
    );
    claim.bind(number(most)).push(skip_locked);
    claim.push(
        ") RETURNING endpoint_id, notification_id, content, failures, due_ms, reason, note, ",
    );
    claim.push(order::PLACE);
    claim
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn id(found: &AnyRow) -> Result<OwedId> {
    let endpoint = row::id(found, "endpoint_id")?;
    Ok((endpoint, row::id(found, "notification_id")?))
}

pub(super) fn owed(found: &AnyRow) -> Result<Owed> {
    Ok(Owed {
        note: row::text(found, "note")?,
        endpoint: row::id(found, "endpoint_id")?,
        notification: row::id(found, "notification_id")?,
        content: row::text(found, "content")?.into(),
        failures: count(found, "failures")?,
        due_ms: row::number(found, "due_ms")?,
        reason: row::text(found, "reason")?,
        place: order::place(found)?,
    })
}
