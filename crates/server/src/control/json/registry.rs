//! Applications and filters.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An application.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AppLine {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) event_types: Vec<EventTypeLine>,
}

/// An event type of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EventTypeLine {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) levels: Vec<LevelLine>,
}

/// A level of that.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LevelLine {
    pub(crate) name: String,
    pub(crate) title: String,
}

/// An endpoint and its filter.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FilterLine {
    pub(crate) endpoint: Uuid,
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) active: bool,
    /// Null: the endpoint has no filter, and receives nothing.
    pub(crate) filter: Option<FilterShown>,
    /// The filter in words.
    pub(crate) gets: String,
}

/// A filter. Of the sets null means anything, and an empty one nothing.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FilterShown {
    pub(crate) enabled: bool,
    pub(crate) condition: Option<String>,
    pub(crate) applications: Option<Vec<String>>,
    pub(crate) event_types: Option<Vec<MemberName>>,
    pub(crate) levels: Option<Vec<MemberName>>,
}

/// An event type or a level, by the names of notifications.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MemberName {
    pub(crate) application: String,
    pub(crate) event_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<String>,
}
