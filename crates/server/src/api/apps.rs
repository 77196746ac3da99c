//! Applications: what there is that notifications come from.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::documents::{App, Document, Included, ListLinks, ListMeta};
use super::error::{ApiError, AuthenticationError, ErrorDocument};
use super::identity::Known;
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

/// All applications, in the order in which they were registered first.
#[utoipa::path(
    get, path = "/apps", tag = "apps",
    operation_id = "listApps",
    params(
        ("limit" = Option<u32>, Query, description = "At most so many; 1000, which is the most"),
        ("offset" = Option<u32>, Query, description = "Skip so many"),
    ),
    responses(
        (status = 200, description = "Done", body = AppList, content_type = "application/vnd.api+json"),
        (status = 401, description = "The request does not say who it is from", body = AuthenticationError, content_type = "application/vnd.api+json"),
        (status = 422, description = "Something in it cannot be", body = ErrorDocument, content_type = "application/vnd.api+json"),
    ),
)]
pub(crate) async fn list(
    _: Known,
    State(api): State<Api>,
    query: Query,
) -> Result<Document<AppList>, ApiError> {
    let part = query.whole()?;
    let page = api.store.applications(part.limit, part.offset).await?;
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

/// One application.
#[utoipa::path(
    get, path = "/apps/{id}", tag = "apps",
    operation_id = "showApp",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "Done", body = AppDocument, content_type = "application/vnd.api+json"),
        (status = 401, description = "The request does not say who it is from", body = AuthenticationError, content_type = "application/vnd.api+json"),
        (status = 404, description = "There is none, or it is somebody else's", body = ErrorDocument, content_type = "application/vnd.api+json"),
    ),
)]
pub(crate) async fn show(
    _: Known,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<Document<AppDocument>, ApiError> {
    let none = || ApiError::no_record("App", &id);
    let parsed = id.parse().map_err(|_| none())?;
    let application = api.store.application(parsed).await?.ok_or_else(none)?;
    Ok(Document(StatusCode::OK, AppDocument::new(&application)))
}
