//! What the endpoints of an account receive: their filters by names, and in words.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_operations::{FilterInWords, Tenant};
use dovecast_store::{EventTypeName, FilterRecord, LevelName, Members};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::documents::Document;
use super::error::ApiError;
use super::error::described::{AnyRequest, Invalid, TooMuch};
use super::held::HeldAnswer;
use super::query::Query;

/// What the endpoints of the account receive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FilterWordsList {
    data: Vec<FilterWords>,
    links: FilterWordsLinks,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FilterWordsLinks {
    /// Part with later endpoints, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What an endpoint receives.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FilterWords {
    /// Id of the endpoint.
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: FilterWordsAttributes,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FilterWordsAttributes {
    /// Name of the endpoint.
    name: String,
    /// Whether the endpoint receives notifications.
    active: bool,
    /// What the endpoint receives, in words.
    #[schema(example = "application billing, condition message.amount > 100")]
    gets: String,
    /// The filter by names; null if the endpoint has none, and receives nothing.
    filter: Option<FilterNames>,
}

/// A filter by the names that notifications have. A set that is null was left open, and matches
/// anything; an empty one matches nothing.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct FilterNames {
    /// Whether the filter matches anything.
    enabled: bool,
    /// CEL expression that must hold, too; null for none.
    condition: Option<String>,
    /// Names of applications.
    applications: Option<Vec<String>>,
    /// Event types.
    event_types: Option<Vec<MemberName>>,
    /// Levels.
    levels: Option<Vec<MemberName>>,
}

/// An event type or a level, by names.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct MemberName {
    /// Name of the application.
    application: String,
    /// Name of the event type.
    event_type: String,
    /// Name of the level; an event type has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<String>,
}

impl From<FilterInWords> for FilterWords {
    fn from(filter: FilterInWords) -> Self {
        Self {
            id: filter.endpoint.to_string(),
            kind: "filter_in_words",
            attributes: FilterWordsAttributes {
                name: filter.name,
                active: filter.active,
                gets: filter.gets,
                filter: filter.filter.map(FilterNames::from),
            },
        }
    }
}

impl From<FilterRecord> for FilterNames {
    fn from(filter: FilterRecord) -> Self {
        Self {
            enabled: filter.enabled,
            condition: filter.condition,
            applications: list(filter.applications),
            event_types: list(filter.event_types),
            levels: list(filter.levels),
        }
    }
}

impl From<EventTypeName> for MemberName {
    fn from(of: EventTypeName) -> Self {
        Self {
            application: of.application,
            event_type: of.event_type,
            level: None,
        }
    }
}

impl From<LevelName> for MemberName {
    fn from(of: LevelName) -> Self {
        Self {
            application: of.application,
            event_type: of.event_type,
            level: Some(of.level),
        }
    }
}

fn list<T, U: From<T>>(members: Members<T>) -> Option<Vec<U>> {
    match members {
        Members::Any => None,
        Members::These(list) => Some(list.into_iter().map(U::from).collect()),
    }
}

/// List what the endpoints of the account receive, in words.
#[utoipa::path(
    get, path = "/filters", tag = "endpoints",
    operation_id = "listFiltersInWords",
    params(
        ("after" = Option<String>, Query, description = "Id of an endpoint: only later ones are returned."),
    ),
    responses(
        (status = 200, description = "What each endpoint receives, of as many as have 4 MiB of filters.", body = FilterWordsList, content_type = "application/vnd.api+json"),
        AnyRequest,
        Invalid,
        TooMuch,
    ),
)]
pub(crate) async fn list_all(
    tenant: Tenant,
    State(api): State<Api>,
    query: Query,
) -> Result<HeldAnswer<FilterWordsList>, ApiError> {
    let after = query.get("after").map(|text| {
        let bad =
            |_| ApiError::parameter("after", format!("`{text}` is not the id of an endpoint"));
        text.parse().map_err(bad)
    });
    let place = api.operations.read_place(&tenant).await?;
    let page = api.operations.filters_in_words(&tenant, after.transpose()?);
    let page = page.await?;
    let list = FilterWordsList {
        data: page.filters.into_iter().map(Into::into).collect(),
        links: FilterWordsLinks {
            next: page
                .more_after
                .map(|id| query.with("after", &id.to_string())),
        },
    };
    Ok(HeldAnswer(Document(StatusCode::OK, list), place))
}
