//! Applications, filters and tokens.

use dovecast_operations::FilterInWords;
use dovecast_store::{ApiToken, Application, RegistrationChange, TouchedFilter};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::filters_in_words::FilterNames;

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
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) levels: Vec<LevelLine>,
}

/// A level of that.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LevelLine {
    pub(crate) id: Uuid,
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
    pub(crate) filter: Option<FilterNames>,
    /// The filter in words.
    pub(crate) gets: String,
}

/// Answer to what has nothing to say.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {}

/// What a registration has changed, or would change.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Registered {
    pub(crate) application: AppLine,
    pub(crate) changes: Vec<ChangeLine>,
    pub(crate) filters: Vec<TouchedLine>,
}

/// A difference between what was and what is registered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangeLine {
    /// `added`, `retitled` or `removed`.
    pub(crate) change: String,
    /// Name of the event type, or of the event type of the level; null: the application.
    pub(crate) event_type: Option<String>,
    pub(crate) level: Option<String>,
}

/// A filter that has lost members, or got some back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TouchedLine {
    pub(crate) endpoint: Uuid,
    pub(crate) account: String,
    /// Whether a set of it has lost all members, and so the filter matches nothing.
    pub(crate) stale: bool,
    /// Whether a set of it has got back what an earlier registration had taken.
    pub(crate) restored: bool,
}

/// A token, without its secret.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TokenLine {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    /// `admin`, `registration`, `send`, `account` or `person`.
    pub(crate) scope: String,
    pub(crate) account: Option<String>,
    /// Names of the applications that it registers or sends for.
    pub(crate) applications: Vec<String>,
    pub(crate) last_four: String,
    pub(crate) created_ms: i64,
    /// When it is refused, if ever.
    pub(crate) expires_ms: Option<i64>,
    /// When it was last used, to about a minute.
    pub(crate) last_used_ms: Option<i64>,
}

/// A token at the one moment at which it is known.
#[derive(Serialize, Deserialize)]
pub(crate) struct NewToken {
    #[serde(flatten)]
    pub(crate) token: TokenLine,
    /// The token itself.
    #[serde(rename = "token")]
    pub(crate) secret: String,
}

impl From<Application> for AppLine {
    fn from(application: Application) -> Self {
        let event_types = application.event_types.into_iter();
        Self {
            id: application.id.uuid(),
            name: application.name,
            title: application.title,
            event_types: event_types
                .map(|event_type| EventTypeLine {
                    id: event_type.id.uuid(),
                    name: event_type.external_id,
                    title: event_type.title,
                    levels: event_type
                        .levels
                        .into_iter()
                        .map(|level| LevelLine {
                            id: level.id.uuid(),
                            name: level.external_id,
                            title: level.title,
                        })
                        .collect(),
                })
                .collect(),
        }
    }
}

impl From<dovecast_operations::Registered> for Registered {
    fn from(registered: dovecast_operations::Registered) -> Self {
        let filters = registered.filters.unwrap_or_default();
        Self {
            application: registered.application.into(),
            changes: registered.changes.into_iter().map(Into::into).collect(),
            filters: filters.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<RegistrationChange> for ChangeLine {
    fn from(change: RegistrationChange) -> Self {
        let (change, event_type, level) = change.into_words();
        Self {
            change: change.to_owned(),
            event_type,
            level,
        }
    }
}

impl From<TouchedFilter> for TouchedLine {
    fn from(filter: TouchedFilter) -> Self {
        Self {
            endpoint: filter.endpoint.0,
            account: filter.account_number,
            stale: !filter.emptied.is_empty(),
            restored: !filter.restored.is_empty(),
        }
    }
}

impl From<FilterInWords> for FilterLine {
    fn from(filter: FilterInWords) -> Self {
        Self {
            filter: filter.filter.map(FilterNames::from),
            endpoint: filter.endpoint.0,
            account: filter.account,
            name: filter.name,
            active: filter.active,
            gets: filter.gets,
        }
    }
}

impl From<ApiToken> for TokenLine {
    fn from(token: ApiToken) -> Self {
        Self {
            id: token.id.uuid(),
            name: token.name,
            scope: token.scope.as_str().to_owned(),
            account: token
                .scope
                .account_number()
                .map(str::to_owned)
                .or_else(|| token.scope.person().map(ToString::to_string)),
            applications: token.applications,
            last_four: token.last_four,
            created_ms: token.created_ms,
            expires_ms: token.expires_ms,
            last_used_ms: token.last_used_ms,
        }
    }
}
