//! Redelivery of mailbox transactions: what of one was given up is owed together, in the order of
//! its records, and what is redelivered of a key one after the other.
//!
//! That has a key of its own: what comes of the mail user meanwhile does not wait for it.

use std::collections::BTreeSet;

use dovecast_dispatch::ledger::BEHIND;
use dovecast_notification::{EndpointId, NotificationId};

use super::PART;
use crate::connection::Connection;
use crate::deliveries::dead_bodies::remove_unused;
use crate::deliveries::order::{Keys, make_next_due};
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

const OF: &str = "SELECT DISTINCT txn FROM dead_letter WHERE endpoint_id = $1 AND notification_id = $2 AND txn IS NOT NULL";
const LETTERS: &str =
    "SELECT id FROM dead_letter WHERE endpoint_id = $1 AND txn = $2 AND is_base64 <> 1 ORDER BY id";
/// Owes letters without reading what they are of, which may be much.
const OWE: &str = "INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, made_ms, reason, \
    note, log, topic, part, record_offset, order_key) \
    SELECT endpoint_id, notification_id, COALESCE(dead_body.content, dead_letter.content), 0, CAST(";
const OWE_FROM: &str = " AS BIGINT), '', note, order_log, order_topic, order_part, order_offset, dead_letter.order_key \
    FROM dead_letter LEFT JOIN dead_body ON dead_body.id = body_id \
    WHERE dead_letter.id IN (SELECT MIN(id) FROM dead_letter WHERE id IN (";
/// What is owed already stays in its place.
const OWED: &str = ") GROUP BY notification_id) ON CONFLICT (endpoint_id, notification_id) \
    DO UPDATE SET failures = 0, made_ms = excluded.made_ms, \
    due_ms = CASE WHEN owed.order_key IS NULL THEN excluded.made_ms ELSE owed.due_ms END";
const TAKE: &str = "DELETE FROM dead_letter WHERE id IN (";
const TAKEN: &str = ") RETURNING order_key, body_id";

/// The mailbox transactions that letters of a notification are of.
pub(super) async fn of(
    connection: &mut Connection,
    endpoint: EndpointId,
    notification: NotificationId,
) -> Result<BTreeSet<String>> {
    let rows = sqlx::query(OF)
        .bind(endpoint.to_string())
        .bind(notification.to_string())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|found| row::text(found, "txn")).collect()
}

impl Store {
    /// What was given up of these transactions is owed now, all of it with one commit: what is
    /// claimed of one is not cut. Returns how many letters that was.
    pub(super) async fn owe_transactions(
        &self,
        connection: &mut Connection,
        endpoint: EndpointId,
        transactions: &BTreeSet<String>,
        now_ms: i64,
    ) -> Result<u64> {
        let (mut letters, mut keys) = (0, Keys::new());
        for transaction in transactions {
            let rows = sqlx::query(LETTERS)
                .bind(endpoint.to_string())
                .bind(transaction.clone())
                .fetch_all(&mut *connection)
                .await?;
            let ids = rows.iter().map(|found| row::text(found, "id"));
            let ids: Vec<String> = ids.collect::<Result<_>>()?;
            for ids in ids.chunks(usize::try_from(PART).unwrap_or(usize::MAX)) {
                let mut owe = Statement::new(OWE);
                owe.bind(BEHIND).push(" AS BIGINT), CAST(").bind(now_ms);
                owe.push(OWE_FROM).bind_list(ids.to_vec(), ", ").push(OWED);
                owe.execute(connection).await?;
                let mut take = Statement::new(TAKE);
                take.bind_list(ids.to_vec(), ", ").push(TAKEN);
                let taken = take.fetch_all(connection).await?;
                for taken in &taken {
                    keys.insert((endpoint, row::id(taken, "order_key")?));
                }
                letters += taken.len() as u64;
                remove_unused(&self.database, connection, &taken).await?;
            }
        }
        make_next_due(connection, &keys, now_ms).await?;
        Ok(letters)
    }
}
