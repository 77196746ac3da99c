//! Members that registrations have taken out of filters, by their names: remembered when they go,
//! put back when they are registered again.
//!
//! A person has chosen them, and nothing else is ever put back: a filter never widens by that.
//! Whoever sets the sets of a filter anew has what was lost forgotten (`filters::put`).

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;

use super::{ApplicationId, FilterId, FilterSet, TouchedFilter};
use crate::error::Result;
use crate::feed::Change;
use crate::row;
use crate::statement::Statement;

const APPLICATIONS: &str = "INSERT INTO filter_lost (filter_id, application, event_type, level) \
    SELECT filter_id, application.name, '', '' FROM filter_application \
    JOIN application ON application.id = member_id WHERE ";
const EVENT_TYPES: &str = "INSERT INTO filter_lost (filter_id, application, event_type, level) \
    SELECT filter_id, application.name, event_type.external_id, '' FROM filter_event_type \
    JOIN event_type ON event_type.id = member_id \
    JOIN application ON application.id = event_type.application_id WHERE ";
const LEVELS: &str = "INSERT INTO filter_lost (filter_id, application, event_type, level) \
    SELECT filter_id, application.name, event_type.external_id, level.external_id FROM filter_level \
    JOIN level ON level.id = member_id JOIN event_type ON event_type.id = level.event_type_id \
    JOIN application ON application.id = event_type.application_id WHERE ";

/// A set of filters to which members come back.
struct Restored {
    set: FilterSet,
    /// From the row of `filter_lost` to the row of its member.
    member: &'static str,
    /// Condition of the rows of `filter_lost` that are of this set.
    rows: &'static str,
}

const RESTORED: [Restored; 3] = [
    Restored {
        set: FilterSet::Applications,
        member: "application ON application.name = filter_lost.application",
        rows: "filter_lost.event_type = ''",
    },
    Restored {
        set: FilterSet::EventTypes,
        member: "application ON application.name = filter_lost.application \
            JOIN event_type ON event_type.application_id = application.id \
            AND event_type.external_id = filter_lost.event_type",
        rows: "filter_lost.event_type <> '' AND filter_lost.level = ''",
    },
    Restored {
        set: FilterSet::Levels,
        member: "application ON application.name = filter_lost.application \
            JOIN event_type ON event_type.application_id = application.id \
            AND event_type.external_id = filter_lost.event_type \
            JOIN level ON level.event_type_id = event_type.id AND level.external_id = filter_lost.level",
        rows: "filter_lost.level <> ''",
    },
];

/// Event types are about to go, with their levels.
pub(super) async fn event_types_go(change: &mut Change<'_>, ids: &[String]) -> Result<()> {
    for insert in [EVENT_TYPES, LEVELS] {
        remember(change, insert, "event_type.id IN (", ids).await?;
    }
    Ok(())
}

/// Levels are about to go.
pub(super) async fn levels_go(change: &mut Change<'_>, ids: &[String]) -> Result<()> {
    remember(change, LEVELS, "level.id IN (", ids).await
}

/// An application is about to go, with its event types and levels.
pub(super) async fn application_goes(change: &mut Change<'_>, id: ApplicationId) -> Result<()> {
    for insert in [APPLICATIONS, EVENT_TYPES, LEVELS] {
        remember(change, insert, "application.id IN (", &[id.to_string()]).await?;
    }
    Ok(())
}

async fn remember(
    change: &mut Change<'_>,
    insert: &'static str,
    one_of: &'static str,
    ids: &[String],
) -> Result<()> {
    let mut remember = Statement::new(insert);
    remember.push(one_of);
    remember.bind_list(ids.iter().cloned(), ", ").push(")");
    remember.execute(&mut change.tx).await?;
    Ok(())
}

/// What was lost of a filter is not put back any more: a person has set its sets.
pub(super) async fn forget(change: &mut Change<'_>, filter: FilterId) -> Result<()> {
    sqlx::query("DELETE FROM filter_lost WHERE filter_id = $1")
        .bind(filter.to_string())
        .execute(&mut *change.tx)
        .await?;
    Ok(())
}

/// Puts back what is registered again of an application. Returns the filters that have got
/// something, each once.
pub(super) async fn restore(
    change: &mut Change<'_>,
    application: &str,
) -> Result<Vec<TouchedFilter>> {
    let mut filters: BTreeMap<String, TouchedFilter> = BTreeMap::new();
    for Restored { set, member, rows } in RESTORED {
        let (table, members, any) = (set.table(), set.member_table(), set.any_column());
        // Statements are made of constants.
        let from = format!("filter_lost JOIN filter ON filter.id = filter_id JOIN {member}");
        let condition = format!("filter_lost.application = $1 AND {rows} AND filter.{any} = 0");
        let found = format!(
            "SELECT DISTINCT filter.id, endpoint_id, number FROM {from} \
             JOIN endpoint ON endpoint.id = endpoint_id JOIN account ON account.id = account_id \
             WHERE {condition}"
        );
        let found = sqlx::query(AssertSqlSafe(found)).bind(application);
        let found = found.fetch_all(&mut *change.tx).await?;
        if found.is_empty() {
            continue;
        }
        for row in found {
            let id = row::text(&row, "id")?;
            if !filters.contains_key(&id) {
                let filter = TouchedFilter {
                    id: row::id(&row, "id")?,
                    endpoint: row::id(&row, "endpoint_id")?,
                    account_number: row::text(&row, "number")?,
                    emptied: Vec::new(),
                    restored: Vec::new(),
                };
                filters.insert(id.clone(), filter);
            }
            if let Some(filter) = filters.get_mut(&id) {
                filter.restored.push(set);
            }
        }
        let insert = format!(
            "INSERT INTO {table} (filter_id, member_id) SELECT filter_id, {members}.id FROM {from} \
             WHERE {condition} ON CONFLICT DO NOTHING"
        );
        let delete = format!(
            "DELETE FROM filter_lost WHERE application = $1 AND {rows} AND EXISTS \
             (SELECT 1 FROM filter JOIN {member} WHERE filter.id = filter_lost.filter_id)"
        );
        for statement in [insert, delete] {
            let query = sqlx::query(AssertSqlSafe(statement)).bind(application);
            query.execute(&mut *change.tx).await?;
        }
    }
    Ok(filters.into_values().collect())
}
