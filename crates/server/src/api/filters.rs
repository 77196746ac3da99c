//! The filter of an endpoint, as it is shown. Requests about the endpoint change it.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::documents::{Document, Filter};
use super::error::ApiError;
use super::error::described::{AnyRequest, NotFound};
use super::identity::Tenant;
use super::path::Named;

/// A filter.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FilterDocument {
    data: Filter,
}

/// Show the filter of an endpoint.
#[utoipa::path(
    get, path = "/endpoints/{id}/filter", tag = "endpoints",
    operation_id = "showFilter",
    params(("id" = String, Path, description = "Id of the endpoint.")),
    responses(
        (status = 200, description = "The filter.", body = FilterDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        NotFound,
    ),
)]
pub(crate) async fn show(
    Tenant(account): Tenant,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<Document<FilterDocument>, ApiError> {
    let none = || ApiError::not_found(format!("Could not find Filter of endpoint with 'id'={id}"));
    let endpoint = id.parse().map_err(|_| none())?;
    let filter = api.store.filter(account.id, endpoint).await?;
    let data = Filter::new(&filter.ok_or_else(none)?);
    Ok(Document(StatusCode::OK, FilterDocument { data }))
}
