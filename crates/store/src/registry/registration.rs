//! Registration: an application says which event types and levels it has, all of them.
//!
//! Known ones keep their row, and so stay in the filters that name them; those that are not named
//! any more are removed, which may leave the set of a filter empty. Such a set matches nothing, see
//! [`super::Members`], until what it had is registered again ([`super::lost`]).

mod removed;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use dovecast_log::now_ms;

use super::applications::{self, Application, EventType, Which};
use super::{ApplicationId, EndpointId, EventTypeId, FilterId, FilterSet, TokenId, lost, owners};
use crate::error::Result;
use crate::feed::Change;
use crate::id::Id;
use crate::open::Store;
use crate::statement::{ROWS, Statement};
use removed::Removed;

/// What an application says about itself. Names are unique where they have to be: the caller has
/// checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What notifications call it.
    pub name: String,
    /// For people.
    pub title: String,
    /// In the order in which they are shown.
    pub event_types: Vec<NewEventType>,
}

/// An event type of a [`Registration`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEventType {
    /// What notifications call it.
    pub external_id: String,
    /// For people.
    pub title: String,
    /// In the order in which they are shown.
    pub levels: Vec<NewLevel>,
}

/// A level of a [`NewEventType`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLevel {
    /// What notifications call it.
    pub external_id: String,
    /// For people.
    pub title: String,
}

/// One thing that a registration changes. Names are those of notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationChange {
    /// A new application.
    ApplicationAdded,
    /// Another title.
    ApplicationRetitled,
    /// A new event type.
    EventTypeAdded(String),
    /// Another title. That a place in the list has changed is not told.
    EventTypeRetitled(String),
    /// An event type and its levels are gone.
    EventTypeRemoved(String),
    /// A new level (event type, level).
    LevelAdded(String, String),
    /// Another title.
    LevelRetitled(String, String),
    /// A level is gone.
    LevelRemoved(String, String),
}

impl RegistrationChange {
    /// What has happened (`added`, `retitled`, `removed`), and the event type and the level it has
    /// happened to.
    pub fn into_words(self) -> (&'static str, Option<String>, Option<String>) {
        match self {
            Self::ApplicationAdded => ("added", None, None),
            Self::ApplicationRetitled => ("retitled", None, None),
            Self::EventTypeAdded(name) => ("added", Some(name), None),
            Self::EventTypeRetitled(name) => ("retitled", Some(name), None),
            Self::EventTypeRemoved(name) => ("removed", Some(name), None),
            Self::LevelAdded(of, name) => ("added", Some(of), Some(name)),
            Self::LevelRetitled(of, name) => ("retitled", Some(of), Some(name)),
            Self::LevelRemoved(of, name) => ("removed", Some(of), Some(name)),
        }
    }
}

/// A filter that loses members, or gets back what it had lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TouchedFilter {
    /// The filter.
    pub id: FilterId,
    /// Endpoint of the filter.
    pub endpoint: EndpointId,
    /// The number of its account.
    pub account_number: String,
    /// Sets that are empty now and match nothing until a person changes them.
    pub emptied: Vec<FilterSet>,
    /// Sets that have got back members which an earlier registration had taken from them.
    pub restored: Vec<FilterSet>,
}

/// What a registration did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// As it is now.
    pub application: Application,
    /// What is different.
    pub changes: Vec<RegistrationChange>,
    /// Filters that lost members or got some back.
    pub filters: Vec<TouchedFilter>,
}

impl Store {
    /// Registers an application, in one transaction; with `dry_run` nothing is kept.
    pub async fn register(&self, wanted: &Registration, dry_run: bool) -> Result<Registered> {
        self.register_by(None, wanted, dry_run).await
    }

    /// Registers an application with a token of the scope `registration`: one that is the token's,
    /// or that is nobody's yet and is so from now on.
    pub async fn register_with(
        &self,
        token: TokenId,
        wanted: &Registration,
        dry_run: bool,
    ) -> Result<Registered> {
        self.register_by(Some(token), wanted, dry_run).await
    }

    async fn register_by(
        &self,
        token: Option<TokenId>,
        wanted: &Registration,
        dry_run: bool,
    ) -> Result<Registered> {
        let mut change = self.change().await?;
        let known = applications::load(&mut change.tx, Which::Name(&wanted.name)).await?;
        let known = known.into_iter().next();
        if let Some(token) = token {
            owners::claim(&mut change, token, &wanted.name, known.is_some()).await?;
        }
        let mut changes = Vec::new();
        let id = put_application(&mut change, known.as_ref(), wanted, &mut changes).await?;
        let event_types = known.map(|known| known.event_types).unwrap_or_default();
        let is_growing = wanted.count() > count(&event_types);
        let removed = Removed::of(&event_types, wanted);
        let filters = removed.filters(&mut change).await?;
        removed.delete(&mut change, &mut changes).await?;
        put_event_types(&mut change, id, &event_types, wanted, &mut changes).await?;
        if let Some(token) = token.filter(|_| is_growing) {
            // What was registered before there was a limit may be registered again.
            owners::must_have_room(&mut change, token).await?;
        }
        let restored = lost::restore(&mut change, &wanted.name).await?;
        let filters = merged(filters, restored);
        let touched: Vec<_> = filters.iter().map(|filter| filter.endpoint).collect();
        change.touch_all(&touched).await?;
        let loaded = applications::load(&mut change.tx, Which::Id(id)).await?;
        let application = loaded.into_iter().next().ok_or(sqlx::Error::RowNotFound)?;
        if !dry_run {
            change.commit().await?;
        }
        Ok(Registered {
            application,
            changes,
            filters,
        })
    }
}

impl Registration {
    /// Number of event types and levels.
    fn count(&self) -> usize {
        let levels = self.event_types.iter().map(|of| of.levels.len());
        self.event_types.len() + levels.sum::<usize>()
    }
}

/// Number of event types and levels that an application has.
fn count(event_types: &[EventType]) -> usize {
    let levels = event_types.iter().map(|of| of.levels.len());
    event_types.len() + levels.sum::<usize>()
}

/// Filters that lose members and filters that get some back, each once: a set that gets some is not
/// empty.
fn merged(losing: Vec<TouchedFilter>, restored: Vec<TouchedFilter>) -> Vec<TouchedFilter> {
    let mut all: BTreeMap<EndpointId, TouchedFilter> = BTreeMap::new();
    for filter in losing.into_iter().chain(restored) {
        match all.entry(filter.endpoint) {
            Entry::Vacant(entry) => {
                entry.insert(filter);
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.emptied.retain(|set| !filter.restored.contains(set));
                known.restored = filter.restored;
            }
        }
    }
    all.into_values().collect()
}

async fn put_application(
    change: &mut Change<'_>,
    known: Option<&Application>,
    wanted: &Registration,
    changes: &mut Vec<RegistrationChange>,
) -> Result<ApplicationId> {
    let Some(known) = known else {
        let id = Id::new();
        sqlx::query(
            "INSERT INTO application (id, name, title, created_ms, updated_ms) VALUES ($1, $2, $3, $4, $4)",
        )
        .bind(id.to_string())
        .bind(&wanted.name)
        .bind(&wanted.title)
        .bind(now_ms())
        .execute(&mut *change.tx)
        .await?;
        changes.push(RegistrationChange::ApplicationAdded);
        return Ok(id);
    };
    if known.title != wanted.title {
        sqlx::query("UPDATE application SET title = $1, updated_ms = $2 WHERE id = $3")
            .bind(&wanted.title)
            .bind(now_ms())
            .bind(known.id.to_string())
            .execute(&mut *change.tx)
            .await?;
        changes.push(RegistrationChange::ApplicationRetitled);
    }
    Ok(known.id)
}

async fn put_event_types(
    change: &mut Change<'_>,
    application: ApplicationId,
    known: &[EventType],
    wanted: &Registration,
    changes: &mut Vec<RegistrationChange>,
) -> Result<()> {
    let known: HashMap<&str, (usize, &EventType)> = known
        .iter()
        .enumerate()
        .map(|(place, event_type)| (&*event_type.external_id, (place, event_type)))
        .collect();
    let (mut event_types, mut levels) = (Vec::new(), Vec::new());
    for (place, event_type) in wanted.event_types.iter().enumerate() {
        let name = event_type.external_id.clone();
        let found = known.get(&*name);
        let is_same =
            found.is_some_and(|(was, known)| *was == place && known.title == event_type.title);
        let id = found.map_or_else(Id::new, |(_, known)| known.id);
        if !is_same {
            event_types.push(Row {
                id: id.to_string(),
                of: application.to_string(),
                name: &event_type.external_id,
                title: &event_type.title,
                place,
            });
            match found {
                None => changes.push(RegistrationChange::EventTypeAdded(name)),
                Some((_, known)) if known.title != event_type.title => {
                    changes.push(RegistrationChange::EventTypeRetitled(name));
                }
                Some(_) => {}
            }
        }
        let known = found.map_or(&[][..], |(_, known)| &known.levels);
        levels.extend(levels_to_put(id, known, event_type, changes));
    }
    // Levels name their event types.
    put(change, EVENT_TYPES, &event_types).await?;
    put(change, LEVELS, &levels).await
}

/// Levels of an event type that are new, retitled or in another place.
fn levels_to_put<'a>(
    of: EventTypeId,
    known: &[super::Level],
    wanted: &'a NewEventType,
    changes: &mut Vec<RegistrationChange>,
) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for (place, level) in wanted.levels.iter().enumerate() {
        let found = known
            .iter()
            .position(|known| known.external_id == level.external_id);
        if found == Some(place) && known[place].title == level.title {
            continue;
        }
        let id = found.map_or_else(Id::new, |at| known[at].id);
        rows.push(Row {
            id: id.to_string(),
            of: of.to_string(),
            name: &level.external_id,
            title: &level.title,
            place,
        });
        let names = (wanted.external_id.clone(), level.external_id.clone());
        match found {
            None => changes.push(RegistrationChange::LevelAdded(names.0, names.1)),
            Some(at) if known[at].title != level.title => {
                changes.push(RegistrationChange::LevelRetitled(names.0, names.1));
            }
            Some(_) => {}
        }
    }
    rows
}

/// A row of `event_type` or `level`.
struct Row<'a> {
    id: String,
    of: String,
    name: &'a str,
    title: &'a str,
    place: usize,
}

const EVENT_TYPES: &str =
    "INSERT INTO event_type (id, application_id, external_id, title, position) VALUES ";
const LEVELS: &str = "INSERT INTO level (id, event_type_id, external_id, title, position) VALUES ";

/// Inserts rows, and gives those that are there their title and place. None is there twice: names
/// are unique.
async fn put(change: &mut Change<'_>, insert: &'static str, rows: &[Row<'_>]) -> Result<()> {
    for part in rows.chunks(ROWS) {
        let mut put = Statement::new(insert);
        put.bind_rows(part, |put, row| {
            put.bind(row.id.clone())
                .bind_next(row.of.clone())
                .bind_next(row.name.to_owned())
                .bind_next(row.title.to_owned())
                .bind_next(i64::try_from(row.place).unwrap_or(i64::MAX));
        });
        put.push(
            " ON CONFLICT (id) DO UPDATE SET title = excluded.title, position = excluded.position",
        );
        put.execute(&mut change.tx).await?;
    }
    Ok(())
}
