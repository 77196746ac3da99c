//! What a registration does not name any more: which filters lose by it, and its end.

use std::collections::{BTreeSet, HashMap};

use super::super::{EventType, EventTypeId, FilterSet, LevelId, lost};
use super::{NewEventType, Registration, RegistrationChange, TouchedFilter};
use crate::error::Result;
use crate::feed::Change;
use crate::row;

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
        let mut losses: HashMap<(String, FilterSet), i64> = HashMap::new();
        for (id, _) in &self.event_types {
            let of_type = "SELECT filter_id FROM filter_event_type WHERE member_id = $1";
            count(
                change,
                of_type,
                id.to_string(),
                FilterSet::EventTypes,
                &mut losses,
            )
            .await?;
            let of_levels = "SELECT filter_id FROM filter_level JOIN level ON level.id = member_id \
                             WHERE event_type_id = $1";
            count(
                change,
                of_levels,
                id.to_string(),
                FilterSet::Levels,
                &mut losses,
            )
            .await?;
        }
        for (id, ..) in &self.levels {
            let of_level = "SELECT filter_id FROM filter_level WHERE member_id = $1";
            count(
                change,
                of_level,
                id.to_string(),
                FilterSet::Levels,
                &mut losses,
            )
            .await?;
        }
        let ids: BTreeSet<String> = losses.keys().map(|(id, _)| id.clone()).collect();
        let mut filters = Vec::new();
        for id in ids {
            filters.push(touched(change, id, &losses).await?);
        }
        Ok(filters)
    }

    pub(super) async fn delete(
        self,
        change: &mut Change<'_>,
        changes: &mut Vec<RegistrationChange>,
    ) -> Result<()> {
        for (id, name) in self.event_types {
            lost::event_type_goes(change, id).await?;
            sqlx::query("DELETE FROM event_type WHERE id = $1")
                .bind(id.to_string())
                .execute(&mut *change.tx)
                .await?;
            changes.push(RegistrationChange::EventTypeRemoved(name));
        }
        for (id, event_type, name) in self.levels {
            lost::level_goes(change, id).await?;
            sqlx::query("DELETE FROM level WHERE id = $1")
                .bind(id.to_string())
                .execute(&mut *change.tx)
                .await?;
            changes.push(RegistrationChange::LevelRemoved(event_type, name));
        }
        Ok(())
    }
}

async fn count(
    change: &mut Change<'_>,
    statement: &'static str,
    member: String,
    set: FilterSet,
    losses: &mut HashMap<(String, FilterSet), i64>,
) -> Result<()> {
    let rows = sqlx::query(statement)
        .bind(member)
        .fetch_all(&mut *change.tx)
        .await?;
    for row in rows {
        *losses
            .entry((row::text(&row, "filter_id")?, set))
            .or_default() += 1;
    }
    Ok(())
}

async fn touched(
    change: &mut Change<'_>,
    id: String,
    losses: &HashMap<(String, FilterSet), i64>,
) -> Result<TouchedFilter> {
    let row = sqlx::query(
        "SELECT filter.id, endpoint_id, number, \
         (SELECT COUNT(*) FROM filter_event_type WHERE filter_id = filter.id) AS event_types, \
         (SELECT COUNT(*) FROM filter_level WHERE filter_id = filter.id) AS levels \
         FROM filter JOIN endpoint ON endpoint.id = endpoint_id JOIN account ON account.id = account_id \
         WHERE filter.id = $1",
    )
    .bind(&id)
    .fetch_one(&mut *change.tx)
    .await?;
    let mut emptied = Vec::new();
    for (set, column) in [
        (FilterSet::EventTypes, "event_types"),
        (FilterSet::Levels, "levels"),
    ] {
        if losses.get(&(id.clone(), set)) == Some(&row::number(&row, column)?) {
            emptied.push(set);
        }
    }
    Ok(TouchedFilter {
        id: row::id(&row, "id")?,
        endpoint: row::id(&row, "endpoint_id")?,
        account_number: row::text(&row, "number")?,
        emptied,
        restored: Vec::new(),
    })
}
