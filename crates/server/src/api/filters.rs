//! The filter of an endpoint, as it is shown. Requests about the endpoint change it.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_operations::Tenant;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::documents::{Document, Filter};
use super::error::ApiError;
use super::error::described::{AnyRequest, NotFound};
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
    tenant: Tenant,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<Document<FilterDocument>, ApiError> {
    let data = Filter::new(&api.operations.filter(&tenant, &id).await?);
    Ok(Document(StatusCode::OK, FilterDocument { data }))
}
