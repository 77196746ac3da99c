//! Redelivery, for the account of an endpoint: dead letters, and what still stands in the log, are
//! owed again.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_notification::Notification;
use dovecast_operations::{ChosenLetters, NotificationName, OwnEndpoint, Refusal, Tenant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::body::JsonBody;
use super::documents::Document;
use super::error::described::{AnyRequest, TooMuch, UnreadableBody};
use super::error::{ApiError, ErrorDocument, ErrorObject};
use super::path::Named;
use super::times;

/// Request to deliver again.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) struct RedeliverRequest {
    redeliver: RedeliverFields,
}

/// Which notifications: exactly one of these is given.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RedeliverFields {
    /// Id of one notification, or a `webhook-id`: of a dead letter, of a delivery that is due
    /// later, or of what still stands in the log.
    #[schema(example = "msg_0190a0b1c2d37e4f8a5b6c7d8e9f0a1b_0190a0b1c2d37e4f8a5b6c7d8e9f0a1c")]
    notification: Option<String>,
    /// Time, RFC 3339: all that became a dead letter at it or later.
    since: Option<String>,
    /// Whether to deliver all dead letters of the endpoint again, and to try at once what waits for
    /// a retry. Earlier failures of the endpoint do not count any more.
    all: Option<bool>,
}

/// How much is delivered again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RedeliverDocument {
    meta: RedeliverMeta,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RedeliverMeta {
    /// Number of deliveries that are due now.
    redelivered: u64,
}

/// Deliver dead letters of an endpoint again. Each keeps its `webhook-id`, is due now, and is tried
/// as often as a new delivery.
#[utoipa::path(
    post, path = "/endpoints/{id}/redeliver", tag = "endpoints",
    operation_id = "redeliver",
    params(("id" = String, Path, description = "Id of the endpoint.")),
    request_body(content = RedeliverRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 202, description = "The deliveries are due now.", body = RedeliverDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        UnreadableBody,
        TooMuch,
        (status = 404, description = "There is no such endpoint, it belongs to another account, or the notification is neither a dead letter of it nor due later nor in the log.", body = ErrorDocument, content_type = "application/vnd.api+json"),
        (status = 409, description = "The notification stands in the log, and the endpoint does not receive it.", body = ErrorDocument, content_type = "application/vnd.api+json"),
        (status = 422, description = "Values in the request are not valid, or the endpoint is not active.", body = ErrorDocument, content_type = "application/vnd.api+json"),
    ),
)]
pub(crate) async fn redeliver(
    tenant: Tenant,
    State(api): State<Api>,
    Named(id): Named,
    body: JsonBody,
) -> Result<Document<RedeliverDocument>, ApiError> {
    let own = api.operations.endpoint(&tenant, &id).await?;
    let asked = read(body.under("redeliver")?)?;
    let redelivered = match (api.operations.redeliver(&own, asked).await, asked) {
        (Err(refusal @ Refusal::NotFound { .. }), ChosenLetters::One(name)) => {
            let found = past(&api, &tenant, &own, name).await?;
            let found = found.ok_or(refusal)?;
            api.operations.deliver_again(&own, &found).await?;
            1
        }
        (redelivered, _) => redelivered?,
    };
    let meta = RedeliverMeta { redelivered };
    Ok(Document(StatusCode::ACCEPTED, RedeliverDocument { meta }))
}

/// The notification of a name that the log has.
pub(super) async fn past(
    api: &Api,
    tenant: &Tenant,
    own: &OwnEndpoint,
    name: NotificationName,
) -> Result<Option<Notification>, ApiError> {
    match name.for_endpoint(own.endpoint().id) {
        Some(id) => {
            let found = api.past.find(tenant.number(), id).await;
            found.map_err(ApiError::unsearched)
        }
        None => Ok(None),
    }
}

fn read(fields: RedeliverFields) -> Result<ChosenLetters, ApiError> {
    let wrong = |key: &str, detail: String| {
        ApiError::invalid(vec![ErrorObject::at(format!("/redeliver/{key}"), detail)])
    };
    let is_all = fields.all == Some(true);
    match (fields.notification, fields.since) {
        (None, None) if is_all => Ok(ChosenLetters::All),
        (Some(_), _) | (_, Some(_)) if is_all => Err(wrong(
            "all",
            "cannot be given together with `notification` or `since`".to_owned(),
        )),
        (Some(name), None) => {
            let name = name.parse().map(ChosenLetters::One);
            name.map_err(|detail: String| wrong("notification", detail))
        }
        (None, Some(since)) => {
            let time = times::read(&since).map(ChosenLetters::Since);
            time.map_err(|detail| wrong("since", format!("`{since}` {detail}")))
        }
        (None, None) => Err(wrong(
            "notification",
            "is missing: one of `notification`, `since` and `all` is required".to_owned(),
        )),
        (Some(_), Some(_)) => Err(wrong(
            "since",
            "cannot be given together with `notification`".to_owned(),
        )),
    }
}
