//! Endpoints: where an account wants its notifications. Everything here is about the account of the
//! request only.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_operations::{EndpointFields, EndpointRequest, Tenant};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::JsonBody;
use super::documents::{Document, Endpoint, ListLinks, ListMeta};
use super::error::described::{AnyRequest, Invalid, NotFound, TooMuch, UnreadableBody};
use super::error::{ApiError, ErrorDocument};
use super::held::HeldAnswer;
use super::path::Named;
use super::query::{Part, Query};

/// A part of the list of endpoints.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointList {
    data: Vec<Endpoint>,
    meta: ListMeta,
    links: ListLinks,
}

/// An endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointDocument {
    data: Endpoint,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<WarningMeta>,
}

/// What was found about an endpoint that was saved.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WarningMeta {
    /// Why the endpoint will receive nothing as it stands.
    warnings: Vec<String>,
}

/// An endpoint with a new secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretDocument {
    data: Endpoint,
    meta: SecretMeta,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretMeta {
    /// Secret that webhooks are signed with, in the format of Standard Webhooks. Shown this once.
    /// Other drivers have none.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<String>,
    /// Why the endpoint will receive nothing as it stands; not there where nothing is known against
    /// it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// List the endpoints of the account.
#[utoipa::path(
    get, path = "/endpoints", tag = "endpoints",
    operation_id = "listEndpoints",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, description = "Most resources to return: 10 if not given, at most 1000."),
        ("offset" = Option<i64>, Query, minimum = 0, description = "How many resources to skip."),
        ("order" = Option<String>, Query, pattern = "^((name|url|active)( ([Aa][Ss][Cc]|[Dd][Ee][Ss][Cc]))?)?$", description = "Attribute to sort by: `name`, `url` or `active`, followed by `asc` or `desc`.", example = "name desc"),
        ("q" = Option<String>, Query, description = "Text to find in name or URL, or conditions that must all hold: `name~TEXT,url~TEXT`. At most 20 conditions and 2048 characters."),
    ),
    responses(
        (status = 200, description = "The endpoints.", body = EndpointList, content_type = "application/vnd.api+json"),
        AnyRequest,
        Invalid,
        TooMuch,
    ),
)]
pub(crate) async fn list(
    tenant: Tenant,
    State(api): State<Api>,
    query: Query,
) -> Result<HeldAnswer<EndpointList>, ApiError> {
    let wanted = query.endpoints()?;
    let place = api.operations.read_place(&tenant).await?;
    let page = api.operations.endpoints(&tenant, &wanted).await?;
    let part = Part {
        limit: wanted.limit,
        offset: wanted.offset,
    };
    let (meta, links) = query.describe(part, page.total);
    let list = EndpointList {
        data: page.items.iter().map(Endpoint::new).collect(),
        meta,
        links,
    };
    Ok(HeldAnswer(Document(StatusCode::OK, list), place))
}

/// Create an endpoint, with its filter. An endpoint without a filter receives nothing; what keeps
/// it from receiving anything is in `meta.warnings`.
#[utoipa::path(
    post, path = "/endpoints", tag = "endpoints",
    operation_id = "createEndpoint",
    request_body(content = EndpointRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 201, description = "The endpoint was created; the answer has its signing secret.", body = SecretDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        UnreadableBody,
        Invalid,
    ),
)]
pub(crate) async fn create(
    tenant: Tenant,
    State(api): State<Api>,
    body: JsonBody,
) -> Result<Document<SecretDocument>, ApiError> {
    let fields: EndpointFields = body.under("endpoint")?;
    let made = api.operations.create_endpoint(&tenant, fields).await?;
    let warnings = api.operations.warnings(&made.endpoint).await;
    let document = SecretDocument {
        data: Endpoint::new(&made.endpoint),
        meta: SecretMeta {
            signing_secret: made.secret.map(|secret| secret.expose().to_owned()),
            warnings,
        },
    };
    Ok(Document(StatusCode::CREATED, document))
}

/// Show an endpoint.
#[utoipa::path(
    get, path = "/endpoints/{id}", tag = "endpoints",
    operation_id = "showEndpoint",
    params(("id" = String, Path, description = "Id of the endpoint.")),
    responses(
        (status = 200, description = "The endpoint.", body = EndpointDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        NotFound,
    ),
)]
pub(crate) async fn show(
    tenant: Tenant,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<Document<EndpointDocument>, ApiError> {
    let own = api.operations.endpoint(&tenant, &id).await?;
    let data = Endpoint::new(own.endpoint());
    let document = EndpointDocument { data, meta: None };
    Ok(Document(StatusCode::OK, document))
}

/// Change an endpoint and its filter. Attributes that are not given stay as they are.
#[utoipa::path(
    put, path = "/endpoints/{id}", tag = "endpoints",
    operation_id = "updateEndpoint",
    params(("id" = String, Path, description = "Id of the endpoint.")),
    request_body(content = EndpointRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 200, description = "The endpoint as it is now.", body = EndpointDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        UnreadableBody,
        NotFound,
        Invalid,
    ),
)]
pub(crate) async fn update(
    tenant: Tenant,
    State(api): State<Api>,
    Named(id): Named,
    body: JsonBody,
) -> Result<Document<EndpointDocument>, ApiError> {
    let own = api.operations.endpoint(&tenant, &id).await?;
    let fields: EndpointFields = body.under("endpoint")?;
    let endpoint = api.operations.change_endpoint(&own, fields).await?;
    let warnings = api.operations.warnings(&endpoint).await;
    let meta = (!warnings.is_empty()).then_some(WarningMeta { warnings });
    let data = Endpoint::new(&endpoint);
    Ok(Document(StatusCode::OK, EndpointDocument { data, meta }))
}

/// Change an endpoint and its filter, as `PUT` does.
#[utoipa::path(
    patch, path = "/endpoints/{id}", tag = "endpoints",
    operation_id = "patchEndpoint",
    params(("id" = String, Path, description = "Id of the endpoint.")),
    request_body(content = EndpointRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 200, description = "The endpoint as it is now.", body = EndpointDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        UnreadableBody,
        NotFound,
        Invalid,
    ),
)]
pub(crate) async fn patch(
    tenant: Tenant,
    state: State<Api>,
    id: Named,
    body: JsonBody,
) -> Result<Document<EndpointDocument>, ApiError> {
    update(tenant, state, id, body).await
}

/// Delete an endpoint and its filter.
#[utoipa::path(
    delete, path = "/endpoints/{id}", tag = "endpoints",
    operation_id = "deleteEndpoint",
    params(("id" = String, Path, description = "Id of the endpoint.")),
    responses(
        (status = 204, description = "The endpoint was deleted."),
        AnyRequest,
        NotFound,
    ),
)]
pub(crate) async fn delete(
    tenant: Tenant,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<StatusCode, ApiError> {
    let own = api.operations.endpoint(&tenant, &id).await?;
    api.operations.delete_endpoint(&own).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send a test notification to an endpoint: one attempt, now. Its outcome is not recorded on the
/// endpoint.
#[utoipa::path(
    post, path = "/endpoints/{id}/test", tag = "endpoints",
    operation_id = "testEndpoint",
    params(("id" = String, Path, description = "Id of the endpoint.")),
    responses(
        (status = 204, description = "The test was delivered."),
        AnyRequest,
        NotFound,
        TooMuch,
        (status = 409, body = ErrorDocument, content_type = "application/vnd.api+json", description = "A test of this endpoint is under way. The header `Retry-After` says when to ask again."),
        (status = 502, body = ErrorDocument, content_type = "application/vnd.api+json", description = "The test was not delivered; `detail` is the reason."),
    ),
)]
pub(crate) async fn test(
    tenant: Tenant,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<StatusCode, ApiError> {
    let own = api.operations.endpoint(&tenant, &id).await?;
    api.operations.test_endpoint(&own).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give an endpoint a new signing secret. Webhooks are signed with each old one, too, for 24 hours
/// after it was replaced.
#[utoipa::path(
    post, path = "/endpoints/{id}/secret", tag = "endpoints",
    operation_id = "rotateSecret",
    params(("id" = String, Path, description = "Id of the endpoint.")),
    responses(
        (status = 200, description = "The endpoint; `meta` has its new signing secret.", body = SecretDocument, content_type = "application/vnd.api+json"),
        (status = 409, description = "The endpoint has as many valid signing secrets as it may have.", body = ErrorDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        NotFound,
    ),
)]
pub(crate) async fn rotate_secret(
    tenant: Tenant,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<Document<SecretDocument>, ApiError> {
    let own = api.operations.endpoint(&tenant, &id).await?;
    let secret = api.operations.rotate_secret(&own).await?;
    let document = SecretDocument {
        meta: SecretMeta {
            signing_secret: Some(secret.expose().to_owned()),
            warnings: Vec::new(),
        },
        data: Endpoint::new(own.endpoint()),
    };
    Ok(Document(StatusCode::OK, document))
}
