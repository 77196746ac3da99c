//! Attempts at an endpoint, as they are shown.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_dispatch::webhook_id;
use dovecast_operations::Tenant;
use dovecast_store::{EndpointId, KeptAttempt};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::documents::{Document, time};
use super::error::ApiError;
use super::error::described::{AnyRequest, Invalid, NotFound};
use super::path::Named;
use super::query::Query;

/// The latest attempts at an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptList {
    data: Vec<Attempt>,
}

/// An attempt to deliver a notification to an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Attempt {
    /// Id of the attempt: that of its notification, and its time.
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: AttemptAttributes,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptAttributes {
    /// Id of the notification.
    notification: String,
    /// Header `webhook-id` of the delivery.
    webhook_id: String,
    /// Time when the attempt ended, RFC 3339.
    time: String,
    /// Number of the attempt; the first is 1.
    number: u32,
    /// Whether the endpoint has taken the notification.
    delivered: bool,
    /// HTTP status; null if there was no answer.
    status: Option<u16>,
    /// Milliseconds until the answer, or until the attempt had failed.
    latency_ms: f64,
    /// Beginning of the answer, or why there was none.
    said: String,
}

impl Attempt {
    fn new(endpoint: EndpointId, kept: KeptAttempt) -> Self {
        // A delivery takes minutes, not years.
        let latency_us = u32::try_from(kept.latency_us).unwrap_or(u32::MAX);
        Self {
            id: format!("{}.{}", kept.notification, kept.time_ms),
            kind: "attempt",
            attributes: AttemptAttributes {
                notification: kept.notification.to_string(),
                webhook_id: webhook_id(kept.notification, endpoint),
                time: time(kept.time_ms),
                number: kept.number,
                delivered: kept.is_delivered,
                status: kept.status,
                latency_ms: f64::from(latency_us) / 1000.0,
                said: kept.said,
            },
        }
    }
}

/// List the latest attempts at an endpoint, the newest first.
#[utoipa::path(
    get, path = "/endpoints/{id}/attempts", tag = "deliveries",
    operation_id = "listAttempts",
    params(
        ("id" = String, Path, description = "Id of the endpoint."),
        ("limit" = Option<i64>, Query, minimum = 1, description = "Most attempts to return: 10 if not given, at most 1000."),
    ),
    responses(
        (status = 200, description = "The attempts.", body = AttemptList, content_type = "application/vnd.api+json"),
        AnyRequest,
        NotFound,
        Invalid,
    ),
)]
pub(crate) async fn list(
    tenant: Tenant,
    State(api): State<Api>,
    Named(id): Named,
    query: Query,
) -> Result<Document<AttemptList>, ApiError> {
    let own = api.operations.endpoint(&tenant, &id).await?;
    let kept = api.operations.attempts(&own, query.limit()?).await?;
    let endpoint = own.endpoint().id;
    let attempts = kept.into_iter().map(|kept| Attempt::new(endpoint, kept));
    let list = AttemptList {
        data: attempts.collect(),
    };
    Ok(Document(StatusCode::OK, list))
}
