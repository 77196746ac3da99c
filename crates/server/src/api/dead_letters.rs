//! Dead letters of an endpoint: shown, and dropped. `redelivery` delivers them again.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_dispatch::webhook_id;
use dovecast_operations::{ChosenLetters, Tenant};
use dovecast_store::{EndpointId, KeptDeadLetter};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::documents::{Document, time};
use super::error::ApiError;
use super::error::described::{AnyRequest, Invalid, NotFound, TooMuch};
use super::held::HeldAnswer;
use super::path::Named;
use super::query::Query;
use super::times;

/// A part of the dead letters of an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterList {
    data: Vec<DeadLetter>,
    links: DeadLetterLinks,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterLinks {
    /// Part with older ones, if there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A delivery that was given up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetter {
    /// Id of the dead letter; those of later ones are greater.
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: DeadLetterAttributes,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterAttributes {
    /// Id of the notification.
    notification: String,
    /// Header `webhook-id` of the delivery.
    webhook_id: String,
    /// Time when the delivery was given up, RFC 3339.
    time: String,
    /// Number of attempts.
    attempts: u32,
    /// Why the delivery was given up.
    reason: String,
    /// The notification, as a webhook would have it.
    body: String,
}

/// How many dead letters were dropped.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DroppedDocument {
    meta: DroppedMeta,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DroppedMeta {
    /// Number of dead letters that were dropped.
    dropped: u64,
}

impl DeadLetter {
    fn new(endpoint: EndpointId, kept: KeptDeadLetter) -> Self {
        let body = kept.body();
        let letter = kept.letter;
        Self {
            id: kept.id.to_string(),
            kind: "dead_letter",
            attributes: DeadLetterAttributes {
                notification: letter.notification.to_string(),
                webhook_id: webhook_id(letter.notification, endpoint),
                time: time(letter.time_ms),
                attempts: letter.attempts,
                reason: letter.reason,
                body: String::from_utf8_lossy(&body).into_owned(),
            },
        }
    }
}

/// List the dead letters of an endpoint, the newest first.
#[utoipa::path(
    get, path = "/endpoints/{id}/dead_letters", tag = "deliveries",
    operation_id = "listDeadLetters",
    params(
        ("id" = String, Path, description = "Id of the endpoint."),
        ("limit" = Option<i64>, Query, minimum = 1, description = "Most dead letters to return: 10 if not given, at most 1000, and as many as have 4 MiB of notifications."),
        ("before" = Option<String>, Query, description = "Id of a dead letter: only older ones are returned."),
    ),
    responses(
        (status = 200, description = "The dead letters.", body = DeadLetterList, content_type = "application/vnd.api+json"),
        AnyRequest,
        NotFound,
        Invalid,
        TooMuch,
    ),
)]
pub(crate) async fn list(
    tenant: Tenant,
    State(api): State<Api>,
    Named(id): Named,
    query: Query,
) -> Result<HeldAnswer<DeadLetterList>, ApiError> {
    let own = api.operations.endpoint(&tenant, &id).await?;
    let limit = query.limit()?;
    let before = match query.get("before") {
        None => None,
        Some(text) => Some(Uuid::try_parse(text).map_err(|_| {
            ApiError::parameter("before", format!("`{text}` is not the id of a dead letter"))
        })?),
    };
    let place = api.operations.read_place(&tenant).await?;
    let page = api.operations.dead_letters(&own, before, limit).await?;
    let endpoint = own.endpoint().id;
    let letters = page.letters.into_iter();
    let list = DeadLetterList {
        data: letters
            .map(|kept| DeadLetter::new(endpoint, kept))
            .collect(),
        links: DeadLetterLinks {
            next: page
                .older_before
                .map(|id| query.with("before", &id.to_string())),
        },
    };
    Ok(HeldAnswer(Document(StatusCode::OK, list), place))
}

/// Drop dead letters of an endpoint. They cannot be delivered again then, unless they are still in
/// the log.
#[utoipa::path(
    delete, path = "/endpoints/{id}/dead_letters", tag = "deliveries",
    operation_id = "dropDeadLetters",
    params(
        ("id" = String, Path, description = "Id of the endpoint."),
        ("notification" = Option<String>, Query, description = "Id of one notification, or a `webhook-id`."),
        ("since" = Option<String>, Query, description = "Time, RFC 3339: all that became a dead letter at it or later. Exactly one of the two is given."),
    ),
    responses(
        (status = 200, description = "The dead letters were dropped.", body = DroppedDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        NotFound,
        Invalid,
    ),
)]
pub(crate) async fn delete(
    tenant: Tenant,
    State(api): State<Api>,
    Named(id): Named,
    query: Query,
) -> Result<Document<DroppedDocument>, ApiError> {
    let own = api.operations.endpoint(&tenant, &id).await?;
    let chosen = chosen(&query)?;
    let dropped = api.operations.drop_dead_letters(&own, chosen).await?;
    let meta = DroppedMeta { dropped };
    Ok(Document(StatusCode::OK, DroppedDocument { meta }))
}

fn chosen(query: &Query) -> Result<ChosenLetters, ApiError> {
    match (query.get("notification"), query.get("since")) {
        (Some(name), None) => {
            let name = name.parse().map(ChosenLetters::One);
            name.map_err(|detail: String| ApiError::parameter("notification", detail))
        }
        (None, Some(since)) => {
            let time = times::read(since).map(ChosenLetters::Since);
            time.map_err(|detail| ApiError::parameter("since", format!("`{since}` {detail}")))
        }
        (None, None) => Err(ApiError::parameter(
            "notification",
            "is missing: either `notification` or `since` is required",
        )),
        (Some(_), Some(_)) => Err(ApiError::parameter(
            "since",
            "cannot be given together with `notification`",
        )),
    }
}
