//! Filters: one per endpoint, three sets and a condition.
//!
//! Whether an empty set means anything is a column that only a person's request sets, see
//! `migrations/0001_registry.sql`.

use std::collections::HashSet;

use crate::connection::Connection;
use sqlx::AssertSqlSafe;

use super::{AccountId, ApplicationId, EndpointId, EventTypeId, FilterId, LevelId, lost};
use crate::error::{MemberKind, Result, StoreError};
use crate::feed::Change;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

/// Members that one statement puts into a set; SQLite takes 32,766 values.
const CHUNK: usize = 500;

/// A filter, by ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Id of the filter.
    pub id: FilterId,
    /// Endpoint that the filter belongs to.
    pub endpoint: EndpointId,
    /// Whether the filter matches anything.
    pub enabled: bool,
    /// What must hold besides.
    pub condition: Option<String>,
    /// Members.
    pub sets: FilterSets,
    /// Sets that are empty because what was in them is gone: they match nothing.
    pub stale: Vec<FilterSet>,
}

/// The members of a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterSets {
    /// In the order of their names.
    pub applications: Vec<ApplicationId>,
    /// In no order that means anything.
    pub event_types: Vec<EventTypeId>,
    /// In no order that means anything.
    pub levels: Vec<LevelId>,
}

/// One of the three sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterSet {
    /// Applications.
    Applications,
    /// Event types.
    EventTypes,
    /// Levels.
    Levels,
}

/// What a person says about a filter. Where nothing is said, a new filter has the default and an
/// old one stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterFields {
    /// Default: yes.
    pub enabled: Option<bool>,
    /// Default: none.
    pub condition: Option<Option<String>>,
    /// Default: all empty, which means anything.
    pub sets: Option<FilterSets>,
}

impl FilterSet {
    const ALL: [Self; 3] = [Self::Applications, Self::EventTypes, Self::Levels];

    /// Where its members are.
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Applications => "filter_application",
            Self::EventTypes => "filter_event_type",
            Self::Levels => "filter_level",
        }
    }

    /// What its members are.
    pub(super) fn member_table(self) -> &'static str {
        match self {
            Self::Applications => "application",
            Self::EventTypes => "event_type",
            Self::Levels => "level",
        }
    }

    fn member_kind(self) -> MemberKind {
        match self {
            Self::Applications => MemberKind::Application,
            Self::EventTypes => MemberKind::EventType,
            Self::Levels => MemberKind::Level,
        }
    }

    pub(super) fn any_column(self) -> &'static str {
        match self {
            Self::Applications => "applications_any",
            Self::EventTypes => "event_types_any",
            Self::Levels => "levels_any",
        }
    }
}

impl FilterSets {
    fn ids(&self, set: FilterSet) -> Vec<String> {
        match set {
            FilterSet::Applications => self.applications.iter().map(ToString::to_string).collect(),
            FilterSet::EventTypes => self.event_types.iter().map(ToString::to_string).collect(),
            FilterSet::Levels => self.levels.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Store {
    /// The filter of an endpoint of this account; `None`: it has none, or there is no such
    /// endpoint.
    pub async fn filter(&self, account: AccountId, endpoint: EndpointId) -> Result<Option<Filter>> {
        let mut tx = self.database.begin_reading().await?;
        let found = sqlx::query(
            "SELECT filter.id, enabled, condition, applications_any, event_types_any, levels_any FROM filter \
             JOIN endpoint ON endpoint.id = endpoint_id WHERE endpoint_id = $1 AND account_id = $2",
        )
        .bind(endpoint.to_string())
        .bind(account.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        let Some(found) = found else {
            return Ok(None);
        };
        let id: FilterId = row::id(&found, "id")?;
        let sets = FilterSets {
            applications: members(&mut tx, id, FilterSet::Applications).await?,
            event_types: members(&mut tx, id, FilterSet::EventTypes).await?,
            levels: members(&mut tx, id, FilterSet::Levels).await?,
        };
        tx.commit().await?;
        let mut stale = Vec::new();
        for set in FilterSet::ALL {
            if sets.ids(set).is_empty() && !row::truth(&found, set.any_column())? {
                stale.push(set);
            }
        }
        Ok(Some(Filter {
            id,
            endpoint,
            enabled: row::truth(&found, "enabled")?,
            condition: row::optional_text(&found, "condition")?,
            sets,
            stale,
        }))
    }
}

async fn members<Of>(
    connection: &mut Connection,
    filter: FilterId,
    set: FilterSet,
) -> Result<Vec<crate::id::Id<Of>>> {
    let (table, members) = (set.table(), set.member_table());
    let order = match set {
        FilterSet::Applications => "name",
        FilterSet::EventTypes | FilterSet::Levels => "position",
    };
    let statement = format!(
        "SELECT member_id FROM {table} JOIN {members} ON {members}.id = member_id \
         WHERE filter_id = $1 ORDER BY {members}.{order}, member_id"
    );
    // Made of constants.
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(filter.to_string())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| row::id(row, "member_id")).collect()
}

/// Makes or changes the filter of an endpoint.
pub(super) async fn put(
    change: &mut Change<'_>,
    endpoint: EndpointId,
    fields: &FilterFields,
) -> Result<()> {
    let found = sqlx::query("SELECT id FROM filter WHERE endpoint_id = $1")
        .bind(endpoint.to_string())
        .fetch_optional(&mut *change.tx)
        .await?;
    let id = match found {
        Some(row) => row::id(&row, "id")?,
        None => insert(change, endpoint).await?,
    };
    if let Some(enabled) = fields.enabled {
        sqlx::query("UPDATE filter SET enabled = $1 WHERE id = $2")
            .bind(i64::from(enabled))
            .bind(id.to_string())
            .execute(&mut *change.tx)
            .await?;
    }
    if let Some(condition) = &fields.condition {
        sqlx::query("UPDATE filter SET condition = $1 WHERE id = $2")
            .bind(condition)
            .bind(id.to_string())
            .execute(&mut *change.tx)
            .await?;
    }
    if let Some(sets) = &fields.sets {
        lost::forget(change, id).await?;
        for set in FilterSet::ALL {
            replace(change, id, set, &sets.ids(set)).await?;
        }
    }
    Ok(())
}

/// A filter that matches everything of the account.
async fn insert(change: &mut Change<'_>, endpoint: EndpointId) -> Result<FilterId> {
    let id = FilterId::new();
    sqlx::query(
        "INSERT INTO filter (id, endpoint_id, enabled, condition, applications_any, event_types_any, levels_any) \
         VALUES ($1, $2, 1, NULL, 1, 1, 1)",
    )
    .bind(id.to_string())
    .bind(endpoint.to_string())
    .execute(&mut *change.tx)
    .await?;
    Ok(id)
}

async fn replace(
    change: &mut Change<'_>,
    filter: FilterId,
    set: FilterSet,
    ids: &[String],
) -> Result<()> {
    let (table, any) = (set.table(), set.any_column());
    // Made of constants.
    let delete = AssertSqlSafe(format!("DELETE FROM {table} WHERE filter_id = $1"));
    sqlx::query(delete)
        .bind(filter.to_string())
        .execute(&mut *change.tx)
        .await?;
    for ids in distinct(ids).chunks(CHUNK) {
        insert_members(change, filter, set, ids).await?;
    }
    let mark = AssertSqlSafe(format!("UPDATE filter SET {any} = $1 WHERE id = $2"));
    sqlx::query(mark)
        .bind(i64::from(ids.is_empty()))
        .bind(filter.to_string())
        .execute(&mut *change.tx)
        .await?;
    Ok(())
}

/// Each id once, in the order in which they came.
fn distinct(ids: &[String]) -> Vec<&str> {
    let mut seen = HashSet::new();
    let ids = ids.iter().map(String::as_str);
    ids.filter(|id| seen.insert(*id)).collect()
}

/// Puts members into a set in which none of them is.
async fn insert_members(
    change: &mut Change<'_>,
    filter: FilterId,
    set: FilterSet,
    ids: &[&str],
) -> Result<()> {
    let mut insert = Statement::new("INSERT INTO ");
    insert.push(set.table());
    insert.push(" (filter_id, member_id) SELECT ");
    insert.bind(filter.to_string()).push(", id FROM ");
    insert.push(set.member_table()).push(" WHERE ");
    one_of(&mut insert, ids);
    let inserted = insert.execute(&mut change.tx).await?;
    if usize::try_from(inserted) == Ok(ids.len()) {
        return Ok(());
    }
    let mut find = Statement::new("SELECT id FROM ");
    find.push(set.member_table()).push(" WHERE ");
    one_of(&mut find, ids);
    let mut known = HashSet::new();
    for found in find.fetch_all(&mut change.tx).await? {
        known.insert(row::text(&found, "id")?);
    }
    let unknown = ids.iter().find(|id| !known.contains(**id));
    Err(StoreError::Unknown {
        kind: set.member_kind(),
        id: unknown.copied().unwrap_or_default().to_owned(),
    })
}

fn one_of(statement: &mut Statement, ids: &[&str]) {
    statement.push("id IN (");
    statement.bind_list(ids.iter().map(|id| (*id).to_owned()), ", ");
    statement.push(")");
}

/// Takes the filter of an endpoint away.
pub(super) async fn remove(change: &mut Change<'_>, endpoint: EndpointId) -> Result<()> {
    sqlx::query("DELETE FROM filter WHERE endpoint_id = $1")
        .bind(endpoint.to_string())
        .execute(&mut *change.tx)
        .await?;
    Ok(())
}
