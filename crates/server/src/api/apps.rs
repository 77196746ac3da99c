//! Applications, their event types and levels: who sends notifications, and of which kinds.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_operations::{Anyone, Registrar};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::documents::{App, Document, Included, ListLinks, ListMeta};
use super::error::described::{AnyRequest, Invalid, NotFound};
use super::error::{ApiError, ErrorDocument};
use super::path::Named;
use super::query::Query;

/// Applications with their event types and levels.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppList {
    data: Vec<App>,
    included: Vec<Included>,
    meta: ListMeta,
    links: ListLinks,
}

/// An application with its event types and levels.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppDocument {
    data: App,
    included: Vec<Included>,
}

impl AppDocument {
    pub(crate) fn new(application: &dovecast_store::Application) -> Self {
        let (data, included) = App::new(application);
        Self { data, included }
    }
}

/// List the applications, in the order in which they were first registered.
#[utoipa::path(
    get, path = "/apps", tag = "apps",
    operation_id = "listApps",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, description = "Most resources to return: 1000 if not given, and at most."),
        ("offset" = Option<i64>, Query, minimum = 0, description = "How many resources to skip."),
    ),
    responses(
        (status = 200, description = "The applications, with their event types and levels in `included`.", body = AppList, content_type = "application/vnd.api+json"),
        AnyRequest,
        Invalid,
    ),
)]
pub(crate) async fn list(
    caller: Anyone,
    State(api): State<Api>,
    query: Query,
) -> Result<Document<AppList>, ApiError> {
    let part = query.whole()?;
    let listed = api.operations.applications(caller, part.limit, part.offset);
    let page = listed.await?;
    let (meta, links) = query.describe(part, page.total);
    let (mut data, mut included) = (Vec::new(), Vec::new());
    for application in &page.items {
        let (app, mut more) = App::new(application);
        data.push(app);
        included.append(&mut more);
    }
    let list = AppList {
        data,
        included,
        meta,
        links,
    };
    Ok(Document(StatusCode::OK, list))
}

/// Show an application.
#[utoipa::path(
    get, path = "/apps/{id}", tag = "apps",
    operation_id = "showApp",
    params(("id" = String, Path, description = "Id of the application.")),
    responses(
        (status = 200, description = "The application, with its event types and levels in `included`.", body = AppDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        NotFound,
    ),
)]
pub(crate) async fn show(
    caller: Anyone,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<Document<AppDocument>, ApiError> {
    let application = api.operations.application(caller, &id).await?;
    Ok(Document(StatusCode::OK, AppDocument::new(&application)))
}

/// Remove an application with its event types and levels. Filters that name them lose them, and
/// never widen by that; they have them again once they are registered again. With a registration
/// token it is an application of this token.
#[utoipa::path(
    delete, path = "/apps/{id}", tag = "apps",
    operation_id = "removeApp",
    params(("id" = String, Path, description = "Id of the application.")),
    responses(
        (status = 204, description = "The application was removed."),
        (status = 409, description = "dovecast registers this application itself; it cannot be removed.", body = ErrorDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        NotFound,
    ),
)]
pub(crate) async fn remove(
    registrar: Registrar,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<StatusCode, ApiError> {
    api.operations.remove_application(&registrar, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
