//! Applications with their event types and levels, in the order of their registration.

use std::collections::HashMap;

use crate::connection::Connection;
use sqlx::any::AnyRow;

use super::listing::Page;
use super::{ApplicationId, EventTypeId, LevelId};
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

/// What sends notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Id of the application.
    pub id: ApplicationId,
    /// What notifications call it.
    pub name: String,
    /// For people.
    pub title: String,
    /// In the order of registration.
    pub event_types: Vec<EventType>,
}

/// What a notification is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventType {
    /// Id of the event type.
    pub id: EventTypeId,
    /// What notifications call it; unique within the application.
    pub external_id: String,
    /// For people.
    pub title: String,
    /// In the order of registration.
    pub levels: Vec<Level>,
}

/// How much it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Id of the level.
    pub id: LevelId,
    /// What notifications call it; unique within the event type.
    pub external_id: String,
    /// For people.
    pub title: String,
}

/// Which applications.
#[derive(Clone, Copy)]
pub(super) enum Which<'a> {
    Page { limit: i64, offset: i64 },
    Id(ApplicationId),
    Name(&'a str),
}

impl Store {
    /// Some of all applications, in the order in which they came.
    pub async fn applications(&self, limit: i64, offset: i64) -> Result<Page<Application>> {
        let mut tx = self.database.begin_reading().await?;
        let total = sqlx::query("SELECT COUNT(*) AS total FROM application")
            .fetch_one(&mut *tx)
            .await?;
        let total = row::number(&total, "total")?;
        let items = load(&mut tx, Which::Page { limit, offset }).await?;
        tx.commit().await?;
        Ok(Page { items, total })
    }

    /// One application.
    pub async fn application(&self, id: ApplicationId) -> Result<Option<Application>> {
        let mut tx = self.database.begin_reading().await?;
        let found = load(&mut tx, Which::Id(id)).await?;
        tx.commit().await?;
        Ok(found.into_iter().next())
    }

    /// The application that notifications call so.
    pub async fn application_named(&self, name: &str) -> Result<Option<Application>> {
        let mut tx = self.database.begin_reading().await?;
        let found = load(&mut tx, Which::Name(name)).await?;
        tx.commit().await?;
        Ok(found.into_iter().next())
    }
}

/// Three statements, however many there are.
pub(super) async fn load(
    connection: &mut Connection,
    which: Which<'_>,
) -> Result<Vec<Application>> {
    let mut levels_of: HashMap<EventTypeId, Vec<Level>> = HashMap::new();
    for row in fetch(connection, LEVELS, which).await? {
        let level = Level {
            id: row::id(&row, "id")?,
            external_id: row::text(&row, "external_id")?,
            title: row::text(&row, "title")?,
        };
        let of = row::id(&row, "event_type_id")?;
        levels_of.entry(of).or_default().push(level);
    }
    let mut types_of: HashMap<ApplicationId, Vec<EventType>> = HashMap::new();
    for row in fetch(connection, EVENT_TYPES, which).await? {
        let id = row::id(&row, "id")?;
        let event_type = EventType {
            id,
            external_id: row::text(&row, "external_id")?,
            title: row::text(&row, "title")?,
            levels: levels_of.remove(&id).unwrap_or_default(),
        };
        let of = row::id(&row, "application_id")?;
        types_of.entry(of).or_default().push(event_type);
    }
    let rows = fetch(connection, APPLICATIONS, which).await?;
    let applications = rows.iter().map(|row| {
        let id = row::id(row, "id")?;
        Ok(Application {
            id,
            name: row::text(row, "name")?,
            title: row::text(row, "title")?,
            event_types: types_of.remove(&id).unwrap_or_default(),
        })
    });
    applications.collect()
}

/// What stands before and after the statement that chooses applications.
struct Around {
    before: &'static str,
    after: &'static str,
}

/// The applications themselves.
const APPLICATIONS: Around = Around {
    before: "",
    after: "",
};
/// Event types of the applications.
const EVENT_TYPES: Around = Around {
    before: "SELECT id, application_id, external_id, title FROM event_type WHERE application_id IN (SELECT id FROM (",
    after: ") AS chosen) ORDER BY position, id",
};
/// Levels of the event types of the applications.
const LEVELS: Around = Around {
    before: "SELECT level.id, event_type_id, level.external_id, level.title FROM level \
     JOIN event_type ON event_type.id = event_type_id WHERE application_id IN (SELECT id FROM (",
    after: ") AS chosen) ORDER BY level.position, level.id",
};

async fn fetch(
    connection: &mut Connection,
    around: Around,
    which: Which<'_>,
) -> Result<Vec<AnyRow>> {
    let mut statement = Statement::new(around.before);
    statement.push("SELECT id, name, title FROM application ");
    match which {
        Which::Page { limit, offset } => statement
            .push("ORDER BY id LIMIT ")
            .bind(limit)
            .push(" OFFSET ")
            .bind(offset),
        Which::Id(id) => statement.push("WHERE id = ").bind(id.to_string()),
        Which::Name(name) => statement.push("WHERE name = ").bind(name.to_owned()),
    };
    statement.push(around.after);
    statement.fetch_all(connection).await
}
