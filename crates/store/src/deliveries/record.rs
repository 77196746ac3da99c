//! Noting what has happened, in one transaction.

use std::collections::BTreeMap;

use crate::connection::Connection;
use dovecast_dispatch::EndpointId;
use dovecast_dispatch::work::ledger::{AttemptRow, Happened, Owed, RangeId};
use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

use super::attempts;
use crate::error::Result;
use crate::open::Store;

type Bound<'q> = Query<'q, Any, AnyArguments>;

const OWE: &str = "INSERT INTO owed (endpoint_id, notification_id, body, failures, due_ms, reason, claimed_by) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
/// Who was taken for dead meanwhile takes nothing away from those who care for it now.
const FAIL: &str = "UPDATE owed SET failures = $3, due_ms = $4, claimed_by = NULL, reason = $5 \
    WHERE endpoint_id = $1 AND notification_id = $2 AND (claimed_by IS NULL OR claimed_by = $6)";
const GIVE_BACK: &str = "UPDATE owed SET due_ms = $3, claimed_by = NULL \
    WHERE endpoint_id = $1 AND notification_id = $2 AND (claimed_by IS NULL OR claimed_by = $4)";
const DONE: &str = "DELETE FROM owed WHERE endpoint_id = $1 AND notification_id = $2";
const GROW: &str = "INSERT INTO owed_range (endpoint_id, topic, part, start_offset, from_offset, to_offset, claimed_by, log) \
    VALUES ($1, $2, $3, $4, $4, $5, $6, $7) ON CONFLICT (log, endpoint_id, topic, part, start_offset) \
    DO UPDATE SET claimed_by = excluded.claimed_by, to_offset = \
    CASE WHEN excluded.to_offset > owed_range.to_offset THEN excluded.to_offset ELSE owed_range.to_offset END";
const PROGRESS: &str = "UPDATE owed_range SET from_offset = $5 \
    WHERE endpoint_id = $1 AND topic = $2 AND part = $3 AND start_offset = $4 AND log = $6 AND from_offset < $5";
const END: &str = "DELETE FROM owed_range \
    WHERE endpoint_id = $1 AND topic = $2 AND part = $3 AND start_offset = $4 AND to_offset <= $5 AND log = $6";
const UNWANTED_RANGE: &str = "DELETE FROM owed_range WHERE endpoint_id = $1 AND topic = $2 AND part = $3 \
    AND start_offset = $4 AND log = $5 AND NOT EXISTS (SELECT 1 FROM endpoint WHERE id = $1)";
const RELEASE: &str = "UPDATE owed_range SET claimed_by = NULL WHERE endpoint_id = $1 AND topic = $2 AND part = $3 \
    AND start_offset = $4 AND log = $5 AND claimed_by = $6";
const UNWANTED: &str = "DELETE FROM owed WHERE endpoint_id = $1 AND notification_id = $2 \
    AND NOT EXISTS (SELECT 1 FROM endpoint WHERE id = $1 AND active = 1)";
/// Of a reason so much is kept.
const REASON_CHARS: usize = 2000;
const SUCCESS: &str = "UPDATE endpoint SET last_delivery_status = 'success', last_delivery_ms = $2, first_failure_ms = NULL \
    WHERE id = $1 AND (last_delivery_ms IS NULL OR last_delivery_ms <= $2)";
const FAILURE: &str = "UPDATE endpoint SET last_delivery_status = 'failure', last_delivery_ms = $2, \
    first_failure_ms = COALESCE(first_failure_ms, $3) \
    WHERE id = $1 AND (last_delivery_ms IS NULL OR last_delivery_ms <= $2)";
/// The same after a success that is not noted any more.
const FAILURE_ANEW: &str = "UPDATE endpoint SET last_delivery_status = 'failure', last_delivery_ms = $2, first_failure_ms = $3 \
    WHERE id = $1 AND (last_delivery_ms IS NULL OR last_delivery_ms <= $2)";

impl Store {
    pub(super) async fn record_happened(&self, happened: &Happened) -> Result<()> {
        let mut tx = self.database.begin_writing().await?;
        let us = self.dispatcher_id();
        owed(&mut tx, happened, &us).await?;
        ranges(&mut tx, happened, (&us, &self.log)).await?;
        for (place, letter) in happened.dead.iter().enumerate() {
            super::dead_letters::insert(place, letter)
                .execute(&mut *tx)
                .await?;
        }
        let mut by_endpoint: BTreeMap<EndpointId, Vec<&AttemptRow>> = BTreeMap::new();
        for attempt in &happened.attempts {
            by_endpoint
                .entry(attempt.endpoint)
                .or_default()
                .push(attempt);
        }
        for (endpoint, mut rows) in by_endpoint {
            rows.sort_by_key(|row| row.time_ms);
            for (place, part) in rows.chunks(attempts::MOST).enumerate() {
                if let Some(insert) = attempts::insert(endpoint, place, part) {
                    insert.execute(&mut *tx).await?;
                }
            }
            if let Some(status) = status(endpoint, &rows) {
                status.execute(&mut *tx).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }
}

async fn owed(connection: &mut Connection, happened: &Happened, us: &str) -> Result<()> {
    let of = |statement, owed: &Owed| -> Bound<'static> {
        sqlx::query(statement)
            .bind(owed.endpoint.to_string())
            .bind(owed.notification.to_string())
    };
    let new = happened.owed.iter().map(|owed| (owed, None));
    let ours = happened.under_way.iter().map(|owed| (owed, Some(us)));
    for (owed, claimed_by) in new.chain(ours) {
        // Bodies are JSON, which is UTF-8.
        let insert = of(OWE, owed)
            .bind(String::from_utf8_lossy(&owed.body).into_owned())
            .bind(i64::from(owed.failures))
            .bind(owed.due_ms)
            .bind(reason(&owed.reason))
            .bind(claimed_by.map(str::to_owned));
        insert.execute(&mut *connection).await?;
    }
    for owed in &happened.failed_again {
        let update = of(FAIL, owed)
            .bind(i64::from(owed.failures))
            .bind(owed.due_ms)
            .bind(reason(&owed.reason))
            .bind(us.to_owned());
        update.execute(&mut *connection).await?;
    }
    for ((endpoint, notification), due_ms) in &happened.given_back {
        sqlx::query(GIVE_BACK)
            .bind(endpoint.to_string())
            .bind(notification.to_string())
            .bind(due_ms)
            .bind(us.to_owned())
            .execute(&mut *connection)
            .await?;
    }
    for (endpoint, notification) in &happened.unwanted {
        sqlx::query(UNWANTED)
            .bind(endpoint.to_string())
            .bind(notification.to_string())
            .execute(&mut *connection)
            .await?;
    }
    for (endpoint, notification) in &happened.done {
        sqlx::query(DONE)
            .bind(endpoint.to_string())
            .bind(notification.to_string())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// PostgreSQL takes no NUL, and a peer may say anything.
pub(crate) fn reason(text: &str) -> String {
    let kept = text.chars().take(REASON_CHARS);
    kept.map(|char| if char == '\0' { '\u{fffd}' } else { char })
        .collect()
}

async fn ranges(
    connection: &mut Connection,
    happened: &Happened,
    (us, log): (&str, &str),
) -> Result<()> {
    let offset = |offset: u64| i64::try_from(offset).unwrap_or(i64::MAX);
    let of = |statement, id: &RangeId| -> Bound<'static> {
        sqlx::query(statement)
            .bind(id.endpoint.to_string())
            .bind(id.topic.to_string())
            .bind(i64::from(id.partition))
            .bind(offset(id.start))
    };
    for (id, to) in &happened.grown {
        let grow = of(GROW, id)
            .bind(offset(*to))
            .bind(us.to_owned())
            .bind(log.to_owned());
        grow.execute(&mut *connection).await?;
    }
    for (id, from) in &happened.progress {
        let progress = of(PROGRESS, id).bind(offset(*from)).bind(log.to_owned());
        progress.execute(&mut *connection).await?;
    }
    for (id, to) in &happened.ended {
        let end = of(END, id).bind(offset(*to)).bind(log.to_owned());
        end.execute(&mut *connection).await?;
    }
    for id in &happened.unwanted_ranges {
        let unwanted = of(UNWANTED_RANGE, id).bind(log.to_owned());
        unwanted.execute(&mut *connection).await?;
    }
    for id in happened.released.iter().chain(&happened.unwanted_ranges) {
        let release = of(RELEASE, id).bind(log.to_owned()).bind(us.to_owned());
        release.execute(&mut *connection).await?;
    }
    Ok(())
}

/// How the endpoint is after these attempts, which are in order.
fn status(endpoint: EndpointId, rows: &[&AttemptRow]) -> Option<Bound<'static>> {
    let last = rows.last()?;
    let id = endpoint.to_string();
    if last.is_delivered {
        return Some(sqlx::query(SUCCESS).bind(id).bind(last.time_ms));
    }
    let success = rows.iter().rposition(|row| row.is_delivered);
    let first_failure = rows.get(success.map_or(0, |place| place + 1))?;
    let statement = if success.is_some() {
        FAILURE_ANEW
    } else {
        FAILURE
    };
    let update = sqlx::query(statement).bind(id).bind(last.time_ms);
    Some(update.bind(first_failure.time_ms))
}
