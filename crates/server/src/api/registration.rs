//! Registration: an application says what it sends. Only with an admin or a registration token.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_operations::{FilterCounts, Registrar, RegistrationRequest, read_registration};
use dovecast_store::{RegistrationChange, TouchedFilter};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::apps::AppDocument;
use super::body::AnyBody;
use super::documents::{Document, relation};
use super::error::ApiError;
use super::error::described::{AnyRequest, Invalid, UnreadableBody};
use super::query::Query;

/// An application as it is registered now; with `dry_run`, as it would be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RegistrationDocument {
    #[serde(flatten)]
    app: AppDocument,
    meta: RegistrationMeta,
}

/// What a registration has changed; with `dry_run`, what it would change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RegistrationMeta {
    /// Whether this is only what would change.
    dry_run: bool,
    changes: Vec<ChangeNote>,
    /// Filters that change. Only an admin token learns which.
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<Vec<FilterNote>>,
    /// Numbers of filters that change.
    filter_counts: FilterCountsNote,
}

/// Numbers of filters that change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FilterCountsNote {
    /// Filters that lose members or get some back.
    changed: usize,
    /// Filters of which a set loses all members and so matches nothing.
    stale: usize,
    /// Filters of which a set gets back members that an earlier registration took from it.
    restored: usize,
}

/// A difference between what was and what is registered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangeNote {
    /// `added`, `retitled` or `removed`.
    change: &'static str,
    /// `app`, `event_type` or `level`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Id of the event type, or of the event type of the level.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    /// Id of the level.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<String>,
}

/// A filter that loses members, or gets some back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FilterNote {
    id: String,
    endpoint_id: String,
    account_number: String,
    /// Sets of the filter that lose all members and so match nothing: `event_types`, `levels`.
    becomes_stale: Vec<&'static str>,
    /// Sets that get back members which an earlier registration took from them: `apps`,
    /// `event_types`, `levels`.
    restored: Vec<&'static str>,
}

impl From<RegistrationChange> for ChangeNote {
    fn from(change: RegistrationChange) -> Self {
        let (change, event_type, level) = change.into_words();
        let kind = match (&event_type, &level) {
            (_, Some(_)) => "level",
            (Some(_), None) => "event_type",
            (None, None) => "app",
        };
        Self {
            change,
            kind,
            event_type,
            level,
        }
    }
}

impl From<TouchedFilter> for FilterNote {
    fn from(filter: TouchedFilter) -> Self {
        Self {
            id: filter.id.to_string(),
            endpoint_id: filter.endpoint.to_string(),
            account_number: filter.account_number,
            becomes_stale: filter.emptied.into_iter().map(relation).collect(),
            restored: filter.restored.into_iter().map(relation).collect(),
        }
    }
}

impl From<FilterCounts> for FilterCountsNote {
    fn from(counts: FilterCounts) -> Self {
        Self {
            changed: counts.changed,
            stale: counts.stale,
            restored: counts.restored,
        }
    }
}

/// Register an application, or change its registration. Event types and levels that are not listed
/// any more are removed. With a registration token it is an application of this token, or one that
/// nobody has registered, which is this token's from now on.
#[utoipa::path(
    post, path = "/apps/register", tag = "apps",
    operation_id = "registerApp",
    params(("dry_run" = Option<bool>, Query, description = "Whether to answer what would change, and change nothing.")),
    request_body(content(
        (RegistrationRequest = "application/json"),
        (RegistrationRequest = "application/yaml"),
    )),
    responses(
        (status = 200, description = "The application is registered like this; with `dry_run`, it would be.", body = RegistrationDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        UnreadableBody,
        Invalid,
    ),
)]
pub(crate) async fn register(
    registrar: Registrar,
    State(api): State<Api>,
    query: Query,
    AnyBody(body): AnyBody,
) -> Result<Document<RegistrationDocument>, ApiError> {
    let dry_run = query.is_set("dry_run")?;
    let registration = read_registration(&body)?;
    let registering = api.operations.register(&registrar, &registration, dry_run);
    let registered = registering.await?;
    let document = RegistrationDocument {
        app: AppDocument::new(&registered.application),
        meta: RegistrationMeta {
            dry_run,
            changes: registered
                .changes
                .into_iter()
                .map(ChangeNote::from)
                .collect(),
            filters: registered
                .filters
                .map(|filters| filters.into_iter().map(FilterNote::from).collect()),
            filter_counts: registered.counts.into(),
        },
    };
    Ok(Document(StatusCode::OK, document))
}
