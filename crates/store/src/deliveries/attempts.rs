//! Attempts, a row for those at one endpoint that were noted together: at high rates one row holds
//! hundreds.
//!
//! The row's content is JSON: what was said, each once, and an array for each attempt that names
//! what was said by its place.

use std::collections::HashMap;

use dovecast_dispatch::ledger::AttemptRow;
use dovecast_notification::{EndpointId, NotificationId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::Result;
use crate::id::repeatable;
use crate::open::{Database, Store};
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

/// Attempts of one row: what is shown of an endpoint is read by rows.
const ATTEMPTS: usize = 1_000;
/// Rows that one statement inserts, so that it ends soon.
const ROWS: usize = 500;
/// Bytes of content that one statement inserts, in about; one row may have more.
const ROWS_BYTES: usize = 1 << 20;

// The rows are one value, so that the statement is the same for any number of them, and prepared.
const INSERT_ON_SQLITE: &str = "INSERT INTO attempts (id, endpoint_id, first_ms, last_ms, content) \
    SELECT value ->> 'id', value ->> 'endpoint_id', value ->> 'first_ms', value ->> 'last_ms', value ->> 'content' \
    FROM json_each($1) WHERE true ON CONFLICT DO NOTHING";
const INSERT_ON_POSTGRES: &str = "INSERT INTO attempts (id, endpoint_id, first_ms, last_ms, content) \
    SELECT id, endpoint_id, first_ms, last_ms, content FROM json_to_recordset(CAST($1 AS json)) \
    AS said (id text, endpoint_id text, first_ms bigint, last_ms bigint, content text) ON CONFLICT DO NOTHING";

/// Rows that are inserted by one statement, each once, however often that is tried.
#[derive(Default)]
pub(super) struct Rows {
    rows: Vec<NewRow>,
    bytes: usize,
}

#[derive(Serialize)]
struct NewRow {
    id: String,
    endpoint_id: String,
    first_ms: i64,
    last_ms: i64,
    content: String,
}

impl Rows {
    /// Adds attempts at one endpoint, in the order of their times. Inserts what is enough for a
    /// statement; the last ones are inserted by [`Self::insert`].
    pub(super) async fn add(
        &mut self,
        database: &Database,
        connection: &mut Connection,
        (endpoint, attempts): (EndpointId, &[&AttemptRow]),
    ) -> Result<()> {
        for (place, part) in attempts.chunks(ATTEMPTS).enumerate() {
            if let Some(row) = NewRow::of(endpoint, place, part) {
                self.bytes += row.content.len();
                self.rows.push(row);
            }
            if self.rows.len() >= ROWS || self.bytes >= ROWS_BYTES {
                self.insert(database, connection).await?;
            }
        }
        Ok(())
    }

    /// Inserts what was added.
    pub(super) async fn insert(
        &mut self,
        database: &Database,
        connection: &mut Connection,
    ) -> Result<()> {
        let Self { rows, .. } = std::mem::take(self);
        if rows.is_empty() {
            return Ok(());
        }
        let statement = if database.is_postgres {
            INSERT_ON_POSTGRES
        } else {
            INSERT_ON_SQLITE
        };
        let insert = sqlx::query(statement).bind(json(&rows));
        insert.execute(connection).await?;
        Ok(())
    }
}

impl NewRow {
    /// `None`: there are no attempts.
    fn of(endpoint: EndpointId, place: usize, rows: &[&AttemptRow]) -> Option<Self> {
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
        // PostgreSQL takes no NUL; as JSON it is escaped.
        let content = json(&content);
        let id = repeatable(
            last.time_ms,
            place,
            &[endpoint.0.as_bytes(), content.as_bytes()],
        );
        Some(Self {
            id: id.to_string(),
            endpoint_id: endpoint.to_string(),
            first_ms: first.time_ms,
            last_ms: last.time_ms,
            content,
        })
    }
}

/// Strings and numbers, which can always be written.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl Store {
    /// The latest attempts at an endpoint, at most so many, the newest first.
    pub async fn attempts(&self, endpoint: EndpointId, most: usize) -> Result<Vec<KeptAttempt>> {
        let mut attempts = Vec::new();
        let mut before = "g".to_owned();
        while attempts.len() < most {
            let found = sqlx::query(
                // A range of one endpoint: see `first_due`.
                "SELECT id, content FROM attempts WHERE endpoint_id >= $1 AND (endpoint_id, id) < ($1, $2) \
                 ORDER BY endpoint_id DESC, id DESC LIMIT 20",
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
