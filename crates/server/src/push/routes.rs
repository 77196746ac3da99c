//! The calls of mail push, one function each.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, OriginalUri, Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dovecast_operations::Refusal;
use dovecast_operations::push::SessionRequest;
use serde_json::{Value, json};

use super::caller::{From as CalledFrom, Identified};
use super::{MAX_BODY_BYTES, PushApi, documents};
use crate::api::body;
use crate::api::error::ApiError;

/// Why a request was refused or has failed.
#[derive(Debug)]
pub(super) struct PushError(ApiError);

type Answer<T> = Result<T, PushError>;

/// A body in JSON.
pub(super) struct Body(Value);

impl From<ApiError> for PushError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<Refusal> for PushError {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for PushError {
    fn into_response(self) -> Response {
        self.0.into_plain_response()
    }
}

impl FromRequest<PushApi> for Body {
    type Rejection = PushError;

    async fn from_request(request: Request, api: &PushApi) -> Answer<Self> {
        body::json_type(&request)?;
        let bytes = Bytes::from_request(request, api).await;
        let bytes = bytes.map_err(|rejection: BytesRejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::payload_too_large(format!(
                    "The body is longer than {MAX_BODY_BYTES} bytes"
                ))
            } else {
                ApiError::bad_request("the body cannot be read")
            }
        })?;
        Ok(Self(body::json(&bytes)?))
    }
}

pub(super) async fn begin_session(
    State(api): State<PushApi>,
    CalledFrom(address): CalledFrom,
    Body(body): Body,
) -> Answer<Response> {
    let request = SessionRequest::read(&body)?;
    let begun = api.0.acts.begin_session(request, &address).await?;
    Ok(secret(StatusCode::CREATED, documents::session(&begun)))
}

pub(super) async fn end_session(State(api): State<PushApi>, who: Identified) -> Answer<StatusCode> {
    let token = who.token.unwrap_or_default();
    api.0.acts.end_session(&who.caller, &token).await?;
    api.streams().end_token(&token);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn vapid(State(api): State<PushApi>) -> Answer<Json<Value>> {
    Ok(Json(json!({ "public_key": api.0.acts.vapid()? })))
}

pub(super) async fn list(State(api): State<PushApi>, who: Identified) -> Answer<Json<Value>> {
    let records = api.0.acts.subscriptions(&who.caller).await?;
    Ok(Json(documents::list(&records)))
}

pub(super) async fn subscribe(
    State(api): State<PushApi>,
    who: Identified,
    Body(body): Body,
) -> Answer<Response> {
    let shown = api.0.acts.subscribe(&who.caller, &body).await?;
    let status = if shown.is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(secret(status, documents::made(&shown)))
}

pub(super) async fn show(
    State(api): State<PushApi>,
    who: Identified,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    let record = api.0.acts.subscription(&who.caller, &id).await?;
    Ok(Json(documents::one(&record)))
}

pub(super) async fn change(
    State(api): State<PushApi>,
    who: Identified,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let record = api
        .0
        .acts
        .change_subscription(&who.caller, &id, &body)
        .await?;
    Ok(Json(documents::one(&record)))
}

pub(super) async fn unsubscribe(
    State(api): State<PushApi>,
    who: Identified,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    api.0.acts.unsubscribe(&who.caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn test(
    State(api): State<PushApi>,
    who: Identified,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    let test = api.0.acts.test_subscription(&who.caller, &id).await?;
    Ok(Json(documents::test(&test)))
}

pub(super) async fn no_route(OriginalUri(uri): OriginalUri) -> PushError {
    PushError(ApiError::not_found(format!(
        "Could not find route {}",
        uri.path()
    )))
}

pub(super) async fn no_method(OriginalUri(uri): OriginalUri) -> Response {
    let error = no_route(OriginalUri(uri)).await;
    error.into_response()
}

/// An answer that holds a secret, and is kept by nobody on its way.
fn secret(status: StatusCode, document: Value) -> Response {
    let mut response = (status, Json(document)).into_response();
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}
