//! Redelivery, for the account of an endpoint: dead letters are owed again.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_notification::NotificationId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::body::JsonBody;
use super::documents::Document;
use super::endpoints::find;
use super::error::described::{AnyRequest, UnreadableBody};
use super::error::{ApiError, ErrorDocument, ErrorObject};
use super::identity::Tenant;
use super::path::Named;
use crate::cli::NotificationName;

/// Request to deliver again.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) struct RedeliverRequest {
    redeliver: RedeliverFields,
}

/// Which notifications: exactly one of the two is given.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RedeliverFields {
    /// Id of one notification, or a `webhook-id`: of a dead letter, or of a delivery that is due
    /// later.
    #[schema(example = "msg_0190a0b1c2d37e4f8a5b6c7d8e9f0a1b_0190a0b1c2d37e4f8a5b6c7d8e9f0a1c")]
    notification: Option<String>,
    /// Time, RFC 3339: all that became a dead letter at it or later.
    since: Option<String>,
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

/// Notifications that a request names.
enum Asked {
    One(NotificationName),
    Since(Timestamp),
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
        (status = 404, description = "There is no such endpoint, it belongs to another account, or the notification is neither a dead letter of it nor due later.", body = ErrorDocument, content_type = "application/vnd.api+json"),
        (status = 422, description = "Values in the request are not valid, or the endpoint is not active.", body = ErrorDocument, content_type = "application/vnd.api+json"),
    ),
)]
pub(crate) async fn redeliver(
    Tenant(account): Tenant,
    State(api): State<Api>,
    Named(id): Named,
    body: JsonBody,
) -> Result<Document<RedeliverDocument>, ApiError> {
    let known = find(&api, &account, &id).await?;
    let asked = read(body.under("redeliver")?)?;
    if !known.active {
        let detail = "is false: the endpoint receives nothing";
        return Err(ApiError::invalid(vec![ErrorObject::attribute(
            "active", detail,
        )]));
    }
    let endpoint = known.id;
    let redelivered = match asked {
        Asked::Since(time) => {
            let since_ms = time.as_millisecond();
            api.store.redeliver_since(endpoint, since_ms).await?
        }
        Asked::One(name) => {
            let is_its = name.endpoint.is_none_or(|of| of == endpoint.0);
            let notification = NotificationId(name.id);
            if !is_its || !api.store.redeliver(endpoint, notification).await? {
                let name = name.to_string();
                return Err(ApiError::no_record("a dead letter", &name));
            }
            1
        }
    };
    tracing::info!(endpoint.id = %endpoint, redelivered, "deliveries are due again: a request asked for it");
    let meta = RedeliverMeta { redelivered };
    Ok(Document(StatusCode::ACCEPTED, RedeliverDocument { meta }))
}

fn read(fields: RedeliverFields) -> Result<Asked, ApiError> {
    let wrong = |key: &str, detail: String| {
        ApiError::invalid(vec![ErrorObject::at(format!("/redeliver/{key}"), detail)])
    };
    match (fields.notification, fields.since) {
        (Some(name), None) => {
            let name = name.parse().map(Asked::One);
            name.map_err(|detail: String| wrong("notification", detail))
        }
        (None, Some(since)) => {
            let time = since.parse().map(Asked::Since);
            time.map_err(|_| wrong("since", format!("`{since}` is not an RFC 3339 time")))
        }
        (None, None) => Err(wrong(
            "notification",
            "is missing: either `notification` or `since` is required".to_owned(),
        )),
        (Some(_), Some(_)) => Err(wrong(
            "since",
            "cannot be given together with `notification`".to_owned(),
        )),
    }
}
