//! Redelivery: dead letters, and what still stands in the log, are owed again, due now.
//!
//! What is owed again has its notification's id, and so the `webhook-id` it had. It begins anew:
//! its failures are counted from zero. What of a mailbox transaction was given up is owed as that
//! transaction, see `transactions`.

mod transactions;

use std::collections::BTreeSet;

use dovecast_dispatch::ledger::{BEHIND, OwedId};
use dovecast_notification::{EndpointId, Notification, NotificationId};

use sqlx::any::AnyRow;

use super::dead_bodies::remove_unused;
use super::dead_letters::fitting;
use crate::connection::{Connection, deadlock};
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

/// Most dead letters that are owed again in one transaction, so that others need not wait long.
const PART: i64 = 500;
/// How long it takes at most, in milliseconds, until other nodes deliver by what was changed: they
/// look once a second at least.
const NODES_FOLLOW_MS: i64 = 1_000;
/// Owes a dead letter again. A notification that is owed already is due now, too, as if for the
/// first time.
const OWE: &str = "INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, made_ms, reason, note) \
    VALUES ($1, $2, $3, 0, $4, $4, '', $5) ON CONFLICT (endpoint_id, notification_id) \
    DO UPDATE SET failures = 0, made_ms = excluded.made_ms, due_ms = CASE WHEN excluded.due_ms < owed.due_ms THEN excluded.due_ms ELSE owed.due_ms END";
const DUE_NOW: &str = "UPDATE owed SET failures = 0, due_ms = $3, made_ms = $3 \
    WHERE endpoint_id = $1 AND notification_id = $2 AND due_ms > $3 AND order_key IS NULL";
/// What waits for others of its key is delivered with them: the first of the key is due now.
const FIRST_DUE_NOW: &str = "UPDATE owed SET failures = 0, due_ms = $3, made_ms = $3 \
    WHERE endpoint_id = $1 AND due_ms > $3 \
    AND order_key = (SELECT order_key FROM owed WHERE endpoint_id = $1 AND notification_id = $2) \
    AND record_offset = (SELECT MIN(record_offset) FROM owed WHERE endpoint_id = $1 \
    AND order_key = (SELECT order_key FROM owed WHERE endpoint_id = $1 AND notification_id = $2))";
const CONTENT: &str = "SELECT content FROM owed WHERE endpoint_id = $1 AND notification_id = $2 \
    UNION ALL SELECT COALESCE(dead_body.content, dead_letter.content) FROM dead_letter LEFT JOIN dead_body ON dead_body.id = body_id \
    WHERE endpoint_id = $1 AND notification_id = $2 AND is_base64 <> 1 LIMIT 1";
const IS_OWED: &str = "SELECT 1 FROM owed WHERE endpoint_id = $1 AND notification_id = $2";
const TAKE_ONE: &str = "DELETE FROM dead_letter WHERE endpoint_id = $1 AND notification_id = $2 AND is_base64 <> 1 \
    RETURNING COALESCE((SELECT dead_body.content FROM dead_body WHERE dead_body.id = dead_letter.body_id), content) AS content, body_id, note";
// Of one endpoint letters and deliveries are a range of an index, as in `first_due`.
const LAST: &str = "SELECT (SELECT id FROM dead_letter WHERE endpoint_id >= $1 AND endpoint_id <= $1 \
    ORDER BY endpoint_id DESC, id DESC LIMIT 1) AS id";
/// Finds dead letters of an endpoint up to the last one when this began, and how large they are:
/// what dies meanwhile stays.
const FIND_PART: &str = "SELECT dead_letter.id, txn, COALESCE(dead_body.bytes, octet_length(dead_letter.content)) AS bytes \
    FROM dead_letter LEFT JOIN dead_body ON dead_body.id = body_id \
    WHERE endpoint_id >= $1 AND (endpoint_id, dead_letter.id) <= ($1, $3) AND time_ms >= $2 AND is_base64 <> 1 \
    ORDER BY endpoint_id, dead_letter.id LIMIT $4";
const TAKE: &str = "DELETE FROM dead_letter WHERE id IN (";
const TAKEN: &str = ") RETURNING notification_id, \
    COALESCE((SELECT dead_body.content FROM dead_body WHERE dead_body.id = dead_letter.body_id), content) AS content, body_id, note";

/// What is delivered again.
struct Again {
    content: String,
    /// What the driver has noted of it.
    note: String,
}

impl Again {
    fn of(letter: &AnyRow) -> Result<Self> {
        Ok(Self {
            content: row::text(letter, "content")?,
            note: row::text(letter, "note")?,
        })
    }
}

/// Dead letters that one transaction of a redelivery has taken.
struct TakenPart {
    letters: u64,
    /// Whether there were more than it takes.
    is_more: bool,
}

impl Store {
    /// A notification whose delivery to this endpoint is a dead letter, or is owed for later, is
    /// owed now, with what was given up of its mailbox transaction; how many deliveries that is, 0
    /// if it is neither.
    pub async fn redeliver(
        &self,
        endpoint: EndpointId,
        notification: NotificationId,
    ) -> Result<u64> {
        deadlock::again(|| self.redeliver_once(endpoint, notification)).await
    }

    async fn redeliver_once(
        &self,
        endpoint: EndpointId,
        notification: NotificationId,
    ) -> Result<u64> {
        let now_ms = self.due_now_ms().await?;
        let mut tx = self.database.begin_writing().await?;
        let transactions = transactions::of(&mut tx, endpoint, notification).await?;
        if !transactions.is_empty() {
            let owed = self.owe_transactions(&mut tx, endpoint, &transactions, now_ms);
            let owed = owed.await?;
            tx.commit().await?;
            return Ok(owed);
        }
        let letters = sqlx::query(TAKE_ONE)
            .bind(endpoint.to_string())
            .bind(notification.to_string())
            .fetch_all(&mut *tx)
            .await?;
        if let Some(letter) = letters.first() {
            owe(
                &mut tx,
                (endpoint, notification),
                Again::of(letter)?,
                now_ms,
            )
            .await?;
            remove_unused(&self.database, &mut tx, &letters).await?;
            tx.commit().await?;
            return Ok(1);
        }
        for due_now in [DUE_NOW, FIRST_DUE_NOW] {
            sqlx::query(due_now)
                .bind(endpoint.to_string())
                .bind(notification.to_string())
                .bind(now_ms)
                .execute(&mut *tx)
                .await?;
        }
        let owed = sqlx::query(IS_OWED)
            .bind(endpoint.to_string())
            .bind(notification.to_string())
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(u64::from(owed.is_some()))
    }

    /// The deliveries to this endpoint that have become dead letters since a time are owed now; how
    /// many dead letters that were.
    pub async fn redeliver_since(&self, endpoint: EndpointId, since_ms: i64) -> Result<u64> {
        let last = sqlx::query(LAST)
            .bind(endpoint.to_string())
            .fetch_one(&self.database.pool)
            .await?;
        let Some(last) = row::optional_text(&last, "id")? else {
            return Ok(0);
        };
        let mut redelivered = 0;
        loop {
            let part = || self.redeliver_part(endpoint, since_ms, &last);
            let part = deadlock::again(part).await?;
            redelivered += part.letters;
            if !part.is_more {
                return Ok(redelivered);
            }
        }
    }

    /// Some dead letters since a time, up to one, are owed now: as many as may be in memory.
    async fn redeliver_part(
        &self,
        endpoint: EndpointId,
        since_ms: i64,
        last: &str,
    ) -> Result<TakenPart> {
        let now_ms = self.due_now_ms().await?;
        let mut tx = self.database.begin_writing().await?;
        let found = sqlx::query(FIND_PART)
            .bind(endpoint.to_string())
            .bind(since_ms)
            .bind(last.to_owned())
            .bind(PART)
            .fetch_all(&mut *tx)
            .await?;
        let fitting = fitting(&found)?;
        let is_more = fitting < found.len() || found.len() as u64 == PART.unsigned_abs();
        if fitting == 0 {
            tx.commit().await?;
            return Ok(TakenPart {
                letters: 0,
                is_more,
            });
        }
        let (mut ids, mut transactions) = (Vec::new(), BTreeSet::new());
        for found in &found[..fitting] {
            match row::optional_text(found, "txn")? {
                Some(transaction) => _ = transactions.insert(transaction),
                None => ids.push(row::text(found, "id")?),
            }
        }
        let owed = self.owe_transactions(&mut tx, endpoint, &transactions, now_ms);
        let owed = owed.await?;
        let mut letters = Vec::new();
        if !ids.is_empty() {
            let mut take = Statement::new(TAKE);
            take.bind_list(ids, ", ").push(TAKEN);
            // Another one may have taken some of them meanwhile.
            letters = take.fetch_all(&mut tx).await?;
        }
        for letter in &letters {
            let notification = row::id(letter, "notification_id")?;
            owe(
                &mut tx,
                (endpoint, notification),
                Again::of(letter)?,
                now_ms,
            )
            .await?;
        }
        remove_unused(&self.database, &mut tx, &letters).await?;
        tx.commit().await?;
        Ok(TakenPart {
            letters: owed + letters.len() as u64,
            is_more,
        })
    }

    /// What an endpoint owes for later is due now, as if nothing had failed yet; how many
    /// deliveries that is. Those behind another one of their key come after that.
    pub async fn due_at_once(&self, endpoint: EndpointId) -> Result<u64> {
        let mut deliveries = 0;
        loop {
            let now_ms = self.due_now_ms().await?;
            // On other nodes the change that is the reason counts a little later.
            let due_ms = if self.database.is_postgres {
                now_ms.saturating_add(NODES_FOLLOW_MS)
            } else {
                now_ms
            };
            let mut due = Statement::new("UPDATE owed SET due_ms = ");
            due.bind(due_ms).push(", made_ms = ").bind(now_ms);
            due.push(", failures = 0");
            due.push(" WHERE endpoint_id = ").bind(endpoint.to_string());
            due.push(" AND notification_id IN (SELECT notification_id FROM owed WHERE claimed_by IS NULL AND (endpoint_id, due_ms) > (");
            due.bind(endpoint.to_string()).push(", ").bind(due_ms);
            due.push(") AND (endpoint_id, due_ms) < (");
            due.bind(endpoint.to_string()).push(", ").bind(BEHIND);
            due.push(") ORDER BY endpoint_id, due_ms LIMIT ").bind(PART);
            due.push(self.skip_locked()).push(")");
            let rows = due.execute_on(&self.database.pool).await?;
            deliveries += rows;
            if rows < PART.unsigned_abs() {
                return Ok(deliveries);
            }
        }
    }

    /// A notification whose delivery to this endpoint is owed or a dead letter, as canonical JSON;
    /// `None`: it is neither.
    pub async fn content_of(
        &self,
        endpoint: EndpointId,
        notification: NotificationId,
    ) -> Result<Option<String>> {
        let found = sqlx::query(CONTENT)
            .bind(endpoint.to_string())
            .bind(notification.to_string())
            .fetch_optional(&self.database.pool)
            .await?;
        found.map(|found| row::text(&found, "content")).transpose()
    }

    /// A notification is owed to an endpoint, now, whatever has become of it before.
    pub async fn owe_now(&self, endpoint: EndpointId, notification: &Notification) -> Result<()> {
        let now_ms = self.due_now_ms().await?;
        let mut tx = self.database.begin_writing().await?;
        // Canonical JSON is UTF-8.
        let content = String::from_utf8_lossy(&notification.canonical()).into_owned();
        let again = Again {
            content,
            note: String::new(),
        };
        owe(&mut tx, (endpoint, notification.id), again, now_ms).await?;
        tx.commit().await?;
        Ok(())
    }
}

async fn owe(
    connection: &mut Connection,
    (endpoint, notification): OwedId,
    again: Again,
    now_ms: i64,
) -> Result<()> {
    sqlx::query(OWE)
        .bind(endpoint.to_string())
        .bind(notification.to_string())
        .bind(again.content)
        .bind(now_ms)
        .bind(again.note)
        .execute(connection)
        .await?;
    Ok(())
}
