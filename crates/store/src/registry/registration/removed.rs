//! What a registration does not name any more: which filters lose by it, and its end.

use std::collections::{BTreeSet, HashMap};

use sqlx::any::AnyRow;

use super::super::{EventType, EventTypeId, FilterSet, LevelId, lost};
use super::{NewEventType, Registration, RegistrationChange, TouchedFilter};
use crate::error::Result;
use crate::feed::Change;
use crate::row;
use crate::statement::Statement;

/// Ids that one statement asks for; SQLite takes 32,766 values.
const IDS: usize = 500;

/// How many of these each filter names: event types, levels of event types, levels.
const OF_TYPES: &str =
    "SELECT filter_id, COUNT(*) AS lost FROM filter_event_type WHERE member_id IN (";
const OF_LEVELS_OF_TYPES: &str = "SELECT filter_id, COUNT(*) AS lost FROM filter_level \
    JOIN level ON level.id = member_id WHERE event_type_id IN (";
const OF_LEVELS: &str = "SELECT filter_id, COUNT(*) AS lost FROM filter_level WHERE member_id IN (";
const EACH: &str = ") GROUP BY filter_id";
const FILTERS: &str = "SELECT filter.id, endpoint_id, number, \
    (SELECT COUNT(*) FROM filter_event_type WHERE filter_id = filter.id) AS event_types, \
    (SELECT COUNT(*) FROM filter_level WHERE filter_id = filter.id) AS levels \
    FROM filter JOIN endpoint ON endpoint.id = endpoint_id JOIN account ON account.id = account_id \
    WHERE filter.id IN (";

/// How many members filters lose, by set.
type Losses = HashMap<(String, FilterSet), i64>;

/// What is known and not wanted any more.
pub(super) struct Removed {
    event_types: Vec<(EventTypeId, String)>,
    levels: Vec<(LevelId, String, String)>,
}

impl Removed {
    pub(super) fn of(known: &[EventType], wanted: &Registration) -> Self {
        let mut removed = Self {
            event_types: Vec::new(),
            levels: Vec::new(),
        };
        let wanted: HashMap<&str, &NewEventType> = wanted
            .event_types
            .iter()
            .map(|event_type| (&*event_type.external_id, event_type))
            .collect();
        for event_type in known {
            let Some(kept) = wanted.get(&*event_type.external_id) else {
                removed
                    .event_types
                    .push((event_type.id, event_type.external_id.clone()));
                continue;
            };
            let names: BTreeSet<&str> = kept
                .levels
                .iter()
                .map(|level| &*level.external_id)
                .collect();
            for level in &event_type.levels {
                if !names.contains(&*level.external_id) {
                    let names = (event_type.external_id.clone(), level.external_id.clone());
                    removed.levels.push((level.id, names.0, names.1));
                }
            }
        }
        removed
    }

    /// The filters that name any of it, and what it leaves of them. To be asked before it is
    /// deleted.
    pub(super) async fn filters(&self, change: &mut Change<'_>) -> Result<Vec<TouchedFilter>> {
        let mut losses = Losses::new();
        let (event_types, levels) = self.ids();
        for (statement, ids, set) in [
            (OF_TYPES, &event_types, FilterSet::EventTypes),
            (OF_LEVELS_OF_TYPES, &event_types, FilterSet::Levels),
            (OF_LEVELS, &levels, FilterSet::Levels),
        ] {
            for row in fetch(change, (statement, EACH), ids).await? {
                let filter = row::text(&row, "filter_id")?;
                *losses.entry((filter, set)).or_default() += row::number(&row, "lost")?;
            }
        }
        let ids: BTreeSet<String> = losses.keys().map(|(id, _)| id.clone()).collect();
        let ids: Vec<String> = ids.into_iter().collect();
        let found = fetch(change, (FILTERS, ")"), &ids).await?;
        found.iter().map(|row| touched(row, &losses)).collect()
    }

    pub(super) async fn delete(
        self,
        change: &mut Change<'_>,
        changes: &mut Vec<RegistrationChange>,
    ) -> Result<()> {
        let (event_types, levels) = self.ids();
        for part in event_types.chunks(IDS) {
            lost::event_types_go(change, part).await?;
            delete(change, "DELETE FROM event_type WHERE id IN (", part).await?;
        }
        for part in levels.chunks(IDS) {
            lost::levels_go(change, part).await?;
            delete(change, "DELETE FROM level WHERE id IN (", part).await?;
        }
        for (_, name) in self.event_types {
            changes.push(RegistrationChange::EventTypeRemoved(name));
        }
        for (_, event_type, name) in self.levels {
            changes.push(RegistrationChange::LevelRemoved(event_type, name));
        }
        Ok(())
    }

    /// Ids of the event types, and of the levels.
    fn ids(&self) -> (Vec<String>, Vec<String>) {
        let event_types = self.event_types.iter().map(|(id, _)| id.to_string());
        let levels = self.levels.iter().map(|(id, ..)| id.to_string());
        (event_types.collect(), levels.collect())
    }
}

/// The rows of these ids, by a statement that has them between two parts.
async fn fetch(
    change: &mut Change<'_>,
    (before, after): (&'static str, &'static str),
    ids: &[String],
) -> Result<Vec<AnyRow>> {
    let mut rows = Vec::new();
    for part in ids.chunks(IDS) {
        let mut ask = Statement::new(before);
        ask.bind_list(part.iter().cloned(), ", ").push(after);
        rows.extend(ask.fetch_all(&mut change.tx).await?);
    }
    Ok(rows)
}

async fn delete(change: &mut Change<'_>, statement: &'static str, ids: &[String]) -> Result<()> {
    let mut delete = Statement::new(statement);
    delete.bind_list(ids.iter().cloned(), ", ").push(")");
    delete.execute(&mut change.tx).await?;
    Ok(())
}

fn touched(row: &AnyRow, losses: &Losses) -> Result<TouchedFilter> {
    let id = row::text(row, "id")?;
    let mut emptied = Vec::new();
    for (set, column) in [
        (FilterSet::EventTypes, "event_types"),
        (FilterSet::Levels, "levels"),
    ] {
        if losses.get(&(id.clone(), set)) == Some(&row::number(row, column)?) {
            emptied.push(set);
        }
    }
    Ok(TouchedFilter {
        id: row::id(row, "id")?,
        endpoint: row::id(row, "endpoint_id")?,
        account_number: row::text(row, "number")?,
        emptied,
        restored: Vec::new(),
    })
}
