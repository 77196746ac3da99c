//! Records of endpoints, as the dispatcher keeps them in memory: with secrets, and filters by the
//! names that notifications use.

use std::collections::HashMap;
use std::sync::Arc;

use crate::connection::Connection;
use dovecast_log::now_ms;
use sqlx::any::AnyRow;

use super::endpoints::{Endpoint, SELECT};
use super::secret_settings::SecretSettings;
use super::settings::{StoredSettings, ring_for};
use super::{AccountId, EndpointId};
use crate::error::{Result, with_sources};
use crate::open::Store;
use crate::row;
use crate::secrets::{Keyring, Keys};
use crate::statement::Statement;

/// Statements name so many endpoints at most.
const CHUNK: usize = 500;

/// An endpoint with all that it takes to serve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRecord {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What notifications call its account.
    pub account_number: String,
    /// What its driver takes besides the settings that are shown; where it cannot be opened, why.
    pub secrets: Result<SecretSettings, String>,
    /// When the second signing secret ends, if there are two.
    pub previous_secret_until_ms: Option<i64>,
    /// Without one it gets nothing.
    pub filter: Option<FilterRecord>,
}

/// A filter, by the names that notifications use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterRecord {
    /// Whether the filter matches anything.
    pub enabled: bool,
    /// What must hold besides.
    pub condition: Option<String>,
    /// Their names.
    pub applications: Members<String>,
    /// Event types.
    pub event_types: Members<EventTypeName>,
    /// Levels.
    pub levels: Members<LevelName>,
}

/// What a set of a filter means. A set whose members have been removed is `These` of nothing, which
/// matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members<T> {
    /// A person left it open.
    Any,
    /// These only.
    These(Vec<T>),
}

/// An event type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTypeName {
    /// The name of its application.
    pub application: String,
    /// External id of the event type.
    pub event_type: String,
}

/// A level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelName {
    /// The name of its application.
    pub application: String,
    /// External id of the event type of the level.
    pub event_type: String,
    /// External id of the level.
    pub level: String,
}

impl Store {
    /// These endpoints, as far as they are there, in no order.
    pub async fn load_endpoints(&self, ids: &[EndpointId]) -> Result<Vec<EndpointRecord>> {
        let mut records = Vec::with_capacity(ids.len());
        let mut tx = self.database.begin_reading().await?;
        for chunk in ids.chunks(CHUNK) {
            records.append(&mut load(&mut tx, &self.keys, chunk).await?);
        }
        tx.commit().await?;
        Ok(records)
    }

    /// Ids of the endpoints of an account, in the order in which they were made.
    pub async fn endpoint_ids(&self, account: AccountId) -> Result<Vec<EndpointId>> {
        let rows = sqlx::query("SELECT id FROM endpoint WHERE account_id = $1")
            .bind(account.to_string())
            .fetch_all(&self.database.pool)
            .await?;
        let ids = rows.iter().map(|row| row::id(row, "id"));
        let mut ids: Vec<EndpointId> = ids.collect::<Result<_>>()?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// The next endpoints after one, in the order of ids; empty: these were all. Ask for
    /// [`Store::last_change`] before the first page, and for what has changed since after the last.
    pub async fn load_endpoints_after(
        &self,
        after: Option<EndpointId>,
        limit: i64,
    ) -> Result<Vec<EndpointRecord>> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let rows = sqlx::query("SELECT id FROM endpoint WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(limit)
            .fetch_all(&self.database.pool)
            .await?;
        let ids: Result<Vec<_>> = rows.iter().map(|row| row::id(row, "id")).collect();
        let mut records = self.load_endpoints(&ids?).await?;
        records.sort_by_key(|record| record.endpoint.id);
        Ok(records)
    }
}

async fn load(
    connection: &mut Connection,
    keys: &Arc<Keys>,
    ids: &[EndpointId],
) -> Result<Vec<EndpointRecord>> {
    let mut head = Statement::new(SELECT);
    head.push(HEAD);
    let rows = fetch(connection, head, ids).await?;
    let mut applications = members(connection, ids, APPLICATIONS, |row| {
        row::text(row, "application")
    })
    .await?;
    let mut event_types = members(connection, ids, EVENT_TYPES, |row| {
        Ok(EventTypeName {
            application: row::text(row, "application")?,
            event_type: row::text(row, "event_type")?,
        })
    })
    .await?;
    let mut levels = members(connection, ids, LEVELS, |row| {
        Ok(LevelName {
            application: row::text(row, "application")?,
            event_type: row::text(row, "event_type")?,
            level: row::text(row, "level")?,
        })
    })
    .await?;
    let ring = ring_for(keys, &rows).await?;
    let records = rows.iter().map(|row| {
        let mut record = from_row(&ring, row)?;
        let id = record.endpoint.id;
        if let Some(filter) = &mut record.filter {
            fill(&mut filter.applications, applications.remove(&id));
            fill(&mut filter.event_types, event_types.remove(&id));
            fill(&mut filter.levels, levels.remove(&id));
        }
        Ok(record)
    });
    records.collect()
}

/// The members of a set that has any; an open one has none.
fn fill<T>(members: &mut Members<T>, found: Option<Vec<T>>) {
    if let Some(found) = found {
        *members = Members::These(found);
    }
}

fn from_row(ring: &Keyring, found: &AnyRow) -> Result<EndpointRecord> {
    // Of one endpoint that cannot be opened the others do not suffer.
    let stored = StoredSettings::from_row(ring, found).map(|mut stored| {
        let until_ms = stored.current(now_ms());
        (stored.secret, until_ms)
    });
    let (secrets, until_ms) = match stored {
        Ok((secrets, until_ms)) => (Ok(secrets), until_ms),
        Err(error) => (Err(with_sources(&error)), None),
    };
    Ok(EndpointRecord {
        secrets,
        previous_secret_until_ms: until_ms,
        endpoint: Endpoint::from_row(found)?,
        account_number: row::text(found, "number")?,
        filter: match row::optional_text(found, "filter_id")? {
            None => None,
            Some(_) => Some(FilterRecord {
                enabled: row::truth(found, "enabled")?,
                condition: row::optional_text(found, "condition")?,
                applications: open_or_empty(found, "applications_any")?,
                event_types: open_or_empty(found, "event_types_any")?,
                levels: open_or_empty(found, "levels_any")?,
            }),
        },
    })
}

fn open_or_empty<T>(found: &AnyRow, column: &str) -> Result<Members<T>> {
    Ok(if row::truth(found, column)? {
        Members::Any
    } else {
        Members::These(Vec::new())
    })
}

const HEAD: &str = ", number, \
    filter.id AS filter_id, enabled, condition, applications_any, event_types_any, levels_any FROM endpoint \
    JOIN account ON account.id = endpoint.account_id \
    LEFT JOIN filter ON filter.endpoint_id = endpoint.id WHERE endpoint.id IN ";
const APPLICATIONS: &str = "SELECT endpoint_id, application.name AS application FROM filter \
    JOIN filter_application ON filter_application.filter_id = filter.id \
    JOIN application ON application.id = member_id WHERE endpoint_id IN ";
const EVENT_TYPES: &str = "SELECT endpoint_id, application.name AS application, \
    event_type.external_id AS event_type FROM filter \
    JOIN filter_event_type ON filter_event_type.filter_id = filter.id \
    JOIN event_type ON event_type.id = member_id \
    JOIN application ON application.id = event_type.application_id WHERE endpoint_id IN ";
const LEVELS: &str = "SELECT endpoint_id, application.name AS application, \
    event_type.external_id AS event_type, level.external_id AS level FROM filter \
    JOIN filter_level ON filter_level.filter_id = filter.id \
    JOIN level ON level.id = member_id \
    JOIN event_type ON event_type.id = level.event_type_id \
    JOIN application ON application.id = event_type.application_id WHERE endpoint_id IN ";

async fn members<T>(
    connection: &mut Connection,
    ids: &[EndpointId],
    head: &'static str,
    read: impl Fn(&AnyRow) -> Result<T>,
) -> Result<HashMap<EndpointId, Vec<T>>> {
    let mut members: HashMap<EndpointId, Vec<T>> = HashMap::new();
    for row in fetch(connection, Statement::new(head), ids).await? {
        let endpoint = row::id(&row, "endpoint_id")?;
        members.entry(endpoint).or_default().push(read(&row)?);
    }
    Ok(members)
}

/// `statement` ends where the list begins.
async fn fetch(
    connection: &mut Connection,
    mut statement: Statement,
    ids: &[EndpointId],
) -> Result<Vec<AnyRow>> {
    statement.push("(");
    statement.bind_list(ids.iter().map(ToString::to_string), ", ");
    statement.push(")");
    statement.fetch_all(connection).await
}
