//! Attempts, a row for those at one endpoint that were noted together: at high rates one row holds
//! hundreds.
//!
//! The row's content is JSON: what was said, each once, and an array for each attempt that names
//! what was said by its place.

use std::collections::HashMap;

use dovecast_dispatch::ledger::AttemptRow;
use dovecast_notification::{EndpointId, NotificationId};
use serde::{Deserialize, Serialize};
use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use uuid::Uuid;

use crate::error::Result;
use crate::id::repeatable;
use crate::open::Store;
use crate::row;

/// An attempt that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAttempt {
    /// What it told of.
    pub notification: NotificationId,
    /// When it ended.
    pub time_ms: i64,
    /// The first is 1.
    pub number: u32,
    /// Whether the endpoint has it.
    pub is_delivered: bool,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// How long it took.
    pub latency_us: u64,
    /// The head of the answer, or why there was none.
    pub said: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Content {
    said: Vec<String>,
    rows: Vec<Row>,
}

/// Notification, time, number, delivered, status, microseconds, place of what was said.
type Row = (Uuid, i64, u32, bool, Option<u16>, u64, usize);

/// Attempts of one row.
pub(super) const MAX_ROWS: usize = 1_000;

const INSERT: &str = "INSERT INTO attempts (id, endpoint_id, first_ms, last_ms, content) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";

/// Attempts in the order of their times, inserted once, however often that is tried; `None`: there
/// are none.
pub(super) fn insert(
    endpoint: EndpointId,
    place: usize,
    rows: &[&AttemptRow],
) -> Option<Query<'static, Any, AnyArguments>> {
    let (first, last) = (rows.first()?, rows.last()?);
    let mut content = Content::default();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for row in rows {
        let said = *places.entry(&row.said).or_insert_with(|| {
            content.said.push(row.said.clone());
            content.said.len() - 1
        });
        content.rows.push((
            row.notification.0,
            row.time_ms,
            row.number,
            row.is_delivered,
            row.status,
            row.latency_us,
            said,
        ));
    }
    // Strings and numbers can always be written. PostgreSQL takes no NUL; as JSON it is escaped.
    let content = serde_json::to_string(&content).unwrap_or_default();
    let id = repeatable(
        last.time_ms,
        place,
        &[endpoint.0.as_bytes(), content.as_bytes()],
    );
    let insert = sqlx::query(INSERT)
        .bind(id.to_string())
        .bind(endpoint.to_string())
        .bind(first.time_ms)
        .bind(last.time_ms)
        .bind(content);
    Some(insert)
}

impl Store {
    /// The latest attempts at an endpoint, at most so many, the newest first.
    pub async fn attempts(&self, endpoint: EndpointId, most: usize) -> Result<Vec<KeptAttempt>> {
        let mut attempts = Vec::new();
        let mut before = "g".to_owned();
        while attempts.len() < most {
            let found = sqlx::query(
                "SELECT id, content FROM attempts WHERE endpoint_id = $1 AND id < $2 ORDER BY id DESC LIMIT 20",
            )
            .bind(endpoint.to_string())
            .bind(before.clone())
            .fetch_all(&self.database.pool)
            .await?;
            let Some(last) = found.last() else {
                break;
            };
            before = row::text(last, "id")?;
            for found in &found {
                let content = row::text(found, "content")?;
                let content: Content =
                    serde_json::from_str(&content).map_err(|error| row::wrong("content", error))?;
                attempts.extend(kept(content).into_iter().rev());
            }
        }
        attempts.truncate(most);
        Ok(attempts)
    }
}

fn kept(content: Content) -> Vec<KeptAttempt> {
    let Content { said, rows } = content;
    let attempt =
        |(notification, time_ms, number, is_delivered, status, latency_us, place)| KeptAttempt {
            notification: NotificationId(notification),
            time_ms,
            number,
            is_delivered,
            status,
            latency_us,
            said: said.get::<usize>(place).cloned().unwrap_or_default(),
        };
    rows.into_iter().map(attempt).collect()
}
