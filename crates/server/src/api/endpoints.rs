//! Endpoints: where an account wants its notifications. Everything here is about the account of the
//! request only.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_store as store;
use dovecast_store::{Account, EndpointId};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::JsonBody;
use super::documents::{Document, Endpoint, ListLinks, ListMeta};
use super::endpoint_fields::{EndpointFields, EndpointRequest};
use super::error::{ApiError, AuthenticationError, ErrorDocument};
use super::identity::Tenant;
use super::path::Named;
use super::query::{Part, Query};

/// How long an old secret is good after it was replaced.
const SECRET_OVERLAP_MS: i64 = 24 * 3_600_000;

/// Endpoints.
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
}

/// An endpoint with a new secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretDocument {
    data: Endpoint,
    meta: SecretMeta,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretMeta {
    /// What webhooks are signed with, as Standard Webhooks writes it. It is shown here and never
    /// again.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    signing_secret: String,
}

/// The endpoints of the account.
#[utoipa::path(
    get, path = "/endpoints", tag = "endpoints",
    operation_id = "listEndpoints",
    params(
        ("limit" = Option<u32>, Query, description = "At most so many; 10, and 1000 at most"),
        ("offset" = Option<u32>, Query, description = "Skip so many"),
        ("order" = Option<String>, Query, description = "`name`, `url` or `active`, and `asc` or `desc`", example = "name desc"),
        ("q" = Option<String>, Query, description = "Text of name or URL, or `name~TEXT,url~TEXT`: 20 of these, and 2048 characters at most"),
    ),
    responses(
        (status = 200, description = "Done", body = EndpointList, content_type = "application/vnd.api+json"),
        (status = 401, description = "The request does not say who it is from", body = AuthenticationError, content_type = "application/vnd.api+json"),
        (status = 403, description = "Not with this token", body = ErrorDocument, content_type = "application/vnd.api+json"),
        (status = 422, description = "Something in it cannot be", body = ErrorDocument, content_type = "application/vnd.api+json"),
    ),
)]
pub(crate) async fn list(
    Tenant(account): Tenant,
    State(api): State<Api>,
    query: Query,
) -> Result<Document<EndpointList>, ApiError> {
    let wanted = query.endpoints()?;
    let page = api.store.endpoints(account.id, &wanted).await?;
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
    Ok(Document(StatusCode::OK, list))
}

/// Make an endpoint, with its filter. Without a filter it gets nothing.
#[utoipa::path(
    post, path = "/endpoints", tag = "endpoints",
    operation_id = "createEndpoint",
    request_body(content = EndpointRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 201, description = "Made", body = SecretDocument, content_type = "application/vnd.api+json"),
        (status = 400, description = "The body cannot be read", body = ErrorDocument, content_type = "application/vnd.api+json"),
        (status = 401, description = "The request does not say who it is from", body = AuthenticationError, content_type = "application/vnd.api+json"),
        (status = 403, description = "Not with this token", body = ErrorDocument, content_type = "application/vnd.api+json"),
        (status = 422, description = "Something in it cannot be", body = ErrorDocument, content_type = "application/vnd.api+json"),
    ),
)]
pub(crate) async fn create(
    Tenant(account): Tenant,
    State(api): State<Api>,
    body: JsonBody,
) -> Result<Document<SecretDocument>, ApiError> {
    let fields: EndpointFields = body.under("endpoint")?;
    let taken = is_taken(&api, &account, &fields, None).await?;
    let new = fields.into_new(taken)?;
    let most = api.max_endpoints;
    let made = api.store.create_endpoint(account.id, &new, most).await?;
    let document = SecretDocument {
        data: Endpoint::new(&made.endpoint),
        meta: SecretMeta {
            signing_secret: made.secret.expose().to_owned(),
        },
    };
    Ok(Document(StatusCode::CREATED, document))
}

/// An endpoint.
#[utoipa::path(
    get, path = "/endpoints/{id}", tag = "endpoints",
    operation_id = "showEndpoint",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "Done", body = EndpointDocument, content_type = "application/vnd.api+json"),
        (status = 401, description = "The request does not say who it is from", body = AuthenticationError, content_type = "application/vnd.api+json"),
        (status = 404, description = "There is none, or it is somebody else's", body = ErrorDocument, content_type = "application/vnd.api+json"),
    ),
)]
pub(crate) async fn show(
    Tenant(account): Tenant,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<Document<EndpointDocument>, ApiError> {
    let endpoint = find(&api, &account, &id).await?;
    let data = Endpoint::new(&endpoint);
    Ok(Document(StatusCode::OK, EndpointDocument { data }))
}

/// Change an endpoint and its filter: what is not named stays.
#[utoipa::path(
    put, path = "/endpoints/{id}", tag = "endpoints",
    operation_id = "updateEndpoint",
    params(("id" = String, Path, description = "Its id")),
    request_body(content = EndpointRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 200, description = "Done", body = EndpointDocument, content_type = "application/vnd.api+json"),
        (status = 400, description = "The body cannot be read", body = ErrorDocument, content_type = "application/vnd.api+json"),
        (status = 401, description = "The request does not say who it is from", body = AuthenticationError, content_type = "application/vnd.api+json"),
        (status = 404, description = "There is none, or it is somebody else's", body = ErrorDocument, content_type = "application/vnd.api+json"),
        (status = 422, description = "Something in it cannot be", body = ErrorDocument, content_type = "application/vnd.api+json"),
    ),
)]
pub(crate) async fn update(
    Tenant(account): Tenant,
    State(api): State<Api>,
    Named(id): Named,
    body: JsonBody,
) -> Result<Document<EndpointDocument>, ApiError> {
    let known = find(&api, &account, &id).await?;
    let fields: EndpointFields = body.under("endpoint")?;
    let taken = is_taken(&api, &account, &fields, Some(known.id)).await?;
    let edit = fields.into_edit(taken)?;
    let endpoint = api.store.edit_endpoint(account.id, known.id, &edit).await?;
    let data = Endpoint::new(&endpoint);
    Ok(Document(StatusCode::OK, EndpointDocument { data }))
}

/// Delete an endpoint and its filter.
#[utoipa::path(
    delete, path = "/endpoints/{id}", tag = "endpoints",
    operation_id = "deleteEndpoint",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, description = "The request does not say who it is from", body = AuthenticationError, content_type = "application/vnd.api+json"),
        (status = 404, description = "There is none, or it is somebody else's", body = ErrorDocument, content_type = "application/vnd.api+json"),
    ),
)]
pub(crate) async fn delete(
    Tenant(account): Tenant,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<StatusCode, ApiError> {
    let parsed = parse(&id)?;
    if !api.store.delete_endpoint(account.id, parsed).await? {
        return Err(ApiError::no_record("Endpoint", &id));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Send a test: one attempt, now. It leaves no trace on the endpoint.
#[utoipa::path(
    post, path = "/endpoints/{id}/test", tag = "endpoints",
    operation_id = "testEndpoint",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 204, description = "It was delivered"),
        (status = 401, description = "The request does not say who it is from", body = AuthenticationError, content_type = "application/vnd.api+json"),
        (status = 404, description = "There is none, or it is somebody else's", body = ErrorDocument, content_type = "application/vnd.api+json"),
        (status = 502, body = ErrorDocument, content_type = "application/vnd.api+json", description = "It was not, with the reason"),
    ),
)]
pub(crate) async fn test(
    Tenant(account): Tenant,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<StatusCode, ApiError> {
    let known = find(&api, &account, &id).await?;
    let records = api.store.load_endpoints(&[known.id]).await?;
    let none = || ApiError::no_record("Endpoint", &id);
    let record = records.first().ok_or_else(none)?;
    let Some(test_delivery) = &api.test_delivery else {
        return Err(ApiError::bad_gateway("This dovecast delivers nothing"));
    };
    let delivered = test_delivery.deliver_test(record).await;
    delivered.map_err(ApiError::bad_gateway)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give an endpoint a new signing secret. The old one is good for 24 hours more.
#[utoipa::path(
    post, path = "/endpoints/{id}/secret", tag = "endpoints",
    operation_id = "rotateSecret",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "Done", body = SecretDocument, content_type = "application/vnd.api+json"),
        (status = 401, description = "The request does not say who it is from", body = AuthenticationError, content_type = "application/vnd.api+json"),
        (status = 404, description = "There is none, or it is somebody else's", body = ErrorDocument, content_type = "application/vnd.api+json"),
    ),
)]
pub(crate) async fn rotate_secret(
    Tenant(account): Tenant,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<Document<SecretDocument>, ApiError> {
    let known = find(&api, &account, &id).await?;
    let rotated = api
        .store
        .rotate_secret(account.id, known.id, SECRET_OVERLAP_MS);
    let document = SecretDocument {
        meta: SecretMeta {
            signing_secret: rotated.await?.expose().to_owned(),
        },
        data: Endpoint::new(&known),
    };
    Ok(Document(StatusCode::OK, document))
}

fn parse(id: &str) -> Result<EndpointId, ApiError> {
    id.parse().map_err(|_| ApiError::no_record("Endpoint", id))
}

pub(super) async fn find(
    api: &Api,
    account: &Account,
    id: &str,
) -> Result<store::Endpoint, ApiError> {
    let found = api.store.endpoint(account.id, parse(id)?).await?;
    found.ok_or_else(|| ApiError::no_record("Endpoint", id))
}

/// Asked beforehand, so that the answer tells all that is wrong at once.
async fn is_taken(
    api: &Api,
    account: &Account,
    fields: &EndpointFields,
    except: Option<EndpointId>,
) -> Result<bool, ApiError> {
    match fields.name() {
        Some(name) => Ok(api.store.is_name_taken(account.id, name, except).await?),
        None => Ok(false),
    }
}
