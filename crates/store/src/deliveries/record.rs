//! Noting what has happened, in one transaction. What becomes of ranges is in [`super::ranges`].

use std::collections::BTreeMap;

use crate::connection::Connection;
use dovecast_dispatch::ledger::{AttemptRow, BEHIND, Happened, Owed};
use dovecast_notification::EndpointId;
use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

use super::attempts;
use super::order::{Keys, bind_place, make_next_due};
use super::status::Seen;
use crate::error::Result;
use crate::open::Store;
use crate::row;

pub(crate) type Bound<'q> = Query<'q, Any, AnyArguments>;

const OWE: &str = "INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, reason, made_ms, claimed_by, \
    log, topic, part, record_offset, order_key) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING";
/// An owed delivery has failed again. Where its row is gone the database has lost it, or others
/// have made the delivery since, and then it is made once more and known by its `webhook-id`. Who
/// was taken for dead meanwhile takes nothing from the one that has claimed it now.
const FAIL: &str = "INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, reason, made_ms, \
    log, topic, part, record_offset, order_key) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $9, $10, $11, $12, $13) ON CONFLICT (endpoint_id, notification_id) \
    DO UPDATE SET failures = excluded.failures, due_ms = excluded.due_ms, made_ms = excluded.made_ms, claimed_by = NULL, \
    reason = excluded.reason WHERE owed.claimed_by IS NULL OR owed.claimed_by = $8";
const GIVE_BACK: &str = "INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, reason, made_ms, \
    log, topic, part, record_offset, order_key) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $9, $10, $11, $12, $13) ON CONFLICT (endpoint_id, notification_id) \
    DO UPDATE SET due_ms = excluded.due_ms, made_ms = excluded.made_ms, claimed_by = NULL \
    WHERE owed.claimed_by IS NULL OR owed.claimed_by = $8";
const POSTPONE: &str = "UPDATE owed SET due_ms = $3, made_ms = $4 \
    WHERE endpoint_id = $1 AND notification_id = $2 AND claimed_by IS NULL";
const DONE: &str =
    "DELETE FROM owed WHERE endpoint_id = $1 AND notification_id = $2 RETURNING order_key";
const UNWANTED: &str = "DELETE FROM owed WHERE endpoint_id = $1 AND notification_id = $2 \
    AND NOT EXISTS (SELECT 1 FROM endpoint WHERE id = $1 AND active = 1) RETURNING order_key";
/// Most characters of a reason that are kept.
const REASON_CHARS: usize = 2000;

impl Store {
    pub(super) async fn record_happened(&self, happened: &Happened) -> Result<()> {
        // Taken before the transaction: SQLite has one writer.
        let _writing = self.writing_ranges.lock().await;
        // Asked before, as it may take a connection.
        let ahead_ms = self.due_ahead_ms().await?;
        let mut tx = self.database.begin_writing().await?;
        let us = self.dispatcher_id();
        let time = Time {
            made_ms: self.clock.now_ms().saturating_add(ahead_ms),
            ahead_ms,
        };
        owed(&mut tx, happened, (&us, &self.log, time)).await?;
        let changed = self.ranges(&mut tx, happened).await?;
        for (place, letter) in happened.dead.iter().enumerate() {
            super::dead_letters::insert(place, letter, &self.log)
                .execute(&mut *tx)
                .await?;
        }
        let mut seen = Seen::new();
        let mut by_endpoint: BTreeMap<EndpointId, Vec<&AttemptRow>> = BTreeMap::new();
        for attempt in &happened.attempts {
            by_endpoint
                .entry(attempt.endpoint)
                .or_default()
                .push(attempt);
        }
        for (endpoint, mut rows) in by_endpoint {
            rows.sort_by_key(|row| row.time_ms);
            for (place, part) in rows.chunks(attempts::MAX_ROWS).enumerate() {
                if let Some(insert) = attempts::insert(endpoint, place, part) {
                    insert.execute(&mut *tx).await?;
                }
            }
            if let Some(status) = self.status(endpoint, &rows, &mut seen) {
                status.execute(&mut *tx).await?;
            }
        }
        tx.commit().await?;
        self.held().apply(changed);
        self.failing().apply(seen);
        Ok(())
    }
}

/// The time in which deliveries are due.
#[derive(Clone, Copy)]
struct Time {
    /// Now.
    made_ms: i64,
    /// How far it is ahead of this node's clock.
    ahead_ms: i64,
}

async fn owed(
    connection: &mut Connection,
    happened: &Happened,
    (us, log, time): (&str, &str, Time),
) -> Result<()> {
    // Keys of which the first may be another one now.
    let mut keys = Keys::new();
    let mut behind = |owed: &Owed| {
        if let Some(place) = owed.place.as_ref().filter(|_| owed.due_ms == BEHIND) {
            keys.insert((owed.endpoint, place.key));
        }
    };
    let of = |statement, owed: &Owed| -> Bound<'static> {
        sqlx::query(statement)
            .bind(owed.endpoint.to_string())
            .bind(owed.notification.to_string())
            // Canonical JSON is UTF-8.
            .bind(String::from_utf8_lossy(&owed.content).into_owned())
            .bind(i64::from(owed.failures))
            .bind(time.due_ms(owed.due_ms))
            .bind(reason(&owed.reason))
            .bind(time.made_ms)
    };
    let new = happened.owed.iter().map(|owed| (owed, None));
    let ours = happened.under_way.iter().map(|owed| (owed, Some(us)));
    for (owed, claimed_by) in new.chain(ours) {
        behind(owed);
        let insert = of(OWE, owed).bind(claimed_by.map(str::to_owned));
        let insert = bind_place(insert, owed.place.as_ref(), log);
        insert.execute(&mut *connection).await?;
    }
    let failed = happened.failed_again.iter().map(|owed| (FAIL, owed));
    let given_back = happened.given_back.iter().map(|owed| (GIVE_BACK, owed));
    for (statement, owed) in failed.chain(given_back) {
        behind(owed);
        let upsert = of(statement, owed).bind(us.to_owned());
        let upsert = bind_place(upsert, owed.place.as_ref(), log);
        upsert.execute(&mut *connection).await?;
    }
    for ((endpoint, notification), due_ms) in &happened.postponed {
        sqlx::query(POSTPONE)
            .bind(endpoint.to_string())
            .bind(notification.to_string())
            .bind(due_ms.saturating_add(time.ahead_ms))
            .bind(time.made_ms)
            .execute(&mut *connection)
            .await?;
    }
    let unwanted = happened.unwanted.iter().map(|id| (UNWANTED, id));
    let done = happened.done.iter().map(|id| (DONE, id));
    for (statement, (endpoint, notification)) in unwanted.chain(done) {
        let removed = sqlx::query(statement)
            .bind(endpoint.to_string())
            .bind(notification.to_string())
            .fetch_all(&mut *connection)
            .await?;
        for removed in removed {
            if row::optional_text(&removed, "order_key")?.is_some() {
                keys.insert((*endpoint, row::id(&removed, "order_key")?));
            }
        }
    }
    make_next_due(connection, &keys, time.made_ms).await
}

impl Time {
    /// When a delivery is due, in the time of rows.
    fn due_ms(self, due_ms: i64) -> i64 {
        if due_ms == BEHIND {
            return due_ms;
        }
        due_ms.saturating_add(self.ahead_ms)
    }
}

/// PostgreSQL takes no NUL, and a peer may say anything.
pub(crate) fn reason(text: &str) -> String {
    let kept = text.chars().take(REASON_CHARS);
    kept.map(|char| if char == '\0' { '\u{fffd}' } else { char })
        .collect()
}
