//! Redelivery, for whose endpoint it is: dead letters are owed again.

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
use super::error::{ApiError, AuthenticationError, ErrorDocument, ErrorObject};
use super::identity::Tenant;
use super::path::Named;
use crate::cli::NotificationName;

/// What is to be delivered again.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) struct RedeliverRequest {
    redeliver: RedeliverFields,
}

/// One of the two.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RedeliverFields {
    /// The id of a notification, or a `webhook-id`.
    #[schema(example = "msg_0190a0b1c2d37e4f8a5b6c7d8e9f0a1b_0190a0b1c2d37e4f8a5b6c7d8e9f0a1c")]
    notification: Option<String>,
    /// RFC 3339: all that has become a dead letter since then.
    since: Option<String>,
}

/// What is delivered again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RedeliverDocument {
    meta: RedeliverMeta,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RedeliverMeta {
    /// How many deliveries are due now.
    redelivered: u64,
}

/// What is asked for.
enum Asked {
    One(NotificationName),
    Since(Timestamp),
}

/// Deliver again what was given up: with the same `webhook-id`, now, and with all attempts as if
/// for the first time.
#[utoipa::path(
    post, path = "/endpoints/{id}/redeliver", tag = "endpoints",
    operation_id = "redeliver",
    params(("id" = String, Path, description = "Its id")),
    request_body(content = RedeliverRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 202, description = "It is due now", body = RedeliverDocument, content_type = "application/vnd.api+json"),
        (status = 400, description = "The body cannot be read", body = ErrorDocument, content_type = "application/vnd.api+json"),
        (status = 401, description = "The request does not say who it is from", body = AuthenticationError, content_type = "application/vnd.api+json"),
        (status = 404, description = "There is no such endpoint, it is somebody else's, or the notification is no dead letter of it", body = ErrorDocument, content_type = "application/vnd.api+json"),
        (status = 422, description = "Something in it cannot be, or the endpoint is not active", body = ErrorDocument, content_type = "application/vnd.api+json"),
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
        let detail = "is false: nothing is delivered to it";
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
    tracing::info!(endpoint.id = %endpoint, redelivered, "deliveries are due again, as a request says");
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
            time.map_err(|_| wrong("since", format!("`{since}` is no RFC 3339 time")))
        }
        (None, None) => Err(wrong(
            "notification",
            "is missing, and so is `since`".to_owned(),
        )),
        (Some(_), Some(_)) => Err(wrong("since", "is there beside `notification`".to_owned())),
    }
}
