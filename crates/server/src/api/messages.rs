//! Notifications over HTTP: what an application would write into the topic `hooks.outbox`, one or
//! an array of them.
//!
//! `body` bounds what comes, `reading` makes a notification of it, `array` answers for several,
//! `key` makes a request that is sent again send nothing twice.

mod array;
mod body;
mod key;
mod reading;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dovecast_event::header_name;
use dovecast_log::NewRecord;
use dovecast_operations::Sender;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::documents::Document;
use super::error::ApiError;
use super::error::described::{AnyRequest, Invalid, TooMuch, UnreadableBody};
use crate::headers::header;
use array::ResultsDocument;
use body::MessagesBody;
use key::IdempotencyKey;

pub(super) use body::Bounds;
pub(super) use reading::read;

/// What the path of the request ends with.
pub(super) const PATH: &str = "/messages";
/// Room in a value for what a notification may leave out: the time, the account.
const VALUE_BYTES: usize = 96;

/// Notification to send.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessageRequest {
    /// Name of the application.
    #[schema(pattern = r"\S")]
    application: String,
    /// Id of the event type, as registered.
    #[schema(pattern = r"\S")]
    event_type: String,
    /// Id of the level, as registered; null for a notification without a level.
    #[schema(required, pattern = r"\S")]
    level: Option<String>,
    /// Time of the event, RFC 3339; the time of the request if not given.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
    /// Any JSON; endpoints receive it unchanged.
    message: Value,
    /// Number of the account; may be left out with a token of the account.
    #[schema(pattern = r"\S")]
    account_id: Option<String>,
}

/// One notification or several.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) enum MessagesRequest {
    /// One notification.
    One(MessageRequest),
    /// Several, each of which gets its own answer.
    Several(Vec<MessageRequest>),
}

/// A notification that is in the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageDocument {
    data: Message,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Message {
    #[serde(rename = "type")]
    kind: &'static str,
    /// Id of the notification: the header `dovecast-id` of its record.
    id: String,
}

impl Message {
    fn new(id: String) -> Self {
        Self {
            kind: "message",
            id,
        }
    }
}

/// What became of one notification or of several.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Sent {
    One(MessageDocument),
    Several(ResultsDocument),
}

/// Send a notification, or an array of notifications. What is accepted is durable once the request
/// is answered.
///
/// The notifications of an array are sent in its order, and each has a result of its own: one that
/// is refused stops no other. The number of notifications and the length of the body are limited
/// by `max_messages` and `max_messages_bytes` of the configuration.
#[utoipa::path(
    post, path = "/messages", tag = "messages",
    operation_id = "createMessage",
    security(("token" = [])),
    params(
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, description = "Text of 1 to 255 ASCII characters. The same request sent again with the same key to the same node sends no notification twice, as long as the node remembers the ids of its last records."),
    ),
    request_body(content = MessagesRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 201, description = "The notification is durable in the log; of an array, each.", body = Sent, content_type = "application/vnd.api+json"),
        (status = 207, description = "At least one notification of the array is not accepted: each result has its status. The header `Retry-After` is there where one has 429.", body = ResultsDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        UnreadableBody,
        Invalid,
        TooMuch,
    ),
)]
pub(crate) async fn create(
    sender: Sender,
    State(api): State<Api>,
    key: IdempotencyKey,
    body: MessagesBody,
) -> Result<Response, ApiError> {
    if body.is_array() {
        let results = array::send(&api, &sender, &key, &body).await?;
        let sent = Document(results.status, Sent::Several(results.document));
        let after = results.retry_after.map(HeaderValue::from);
        let after = after.map(|seconds| [(RETRY_AFTER, seconds)]);
        return Ok((after, sent).into_response());
    }
    let json = body.json();
    let told = Told {
        json,
        what: "the body",
        id: key.id(&sender, 0, json),
        now: Now::default(),
    };
    let (record, id) = record(&api, &sender, &told)?;
    let taken = api.outbox.append(record).await;
    taken.map_err(|reason| ApiError::not_taken(&reason))?;
    let data = Message::new(id);
    let sent = Sent::One(MessageDocument { data });
    Ok(Document(StatusCode::CREATED, sent).into_response())
}

/// When a request came.
#[derive(Clone, Copy)]
struct Now {
    time: Timestamp,
    /// By the clock that is not set.
    steady: Instant,
}

impl Default for Now {
    fn default() -> Self {
        Self {
            time: Timestamp::now(),
            steady: Instant::now(),
        }
    }
}

/// A notification as a request has it.
struct Told<'a> {
    json: &'a [u8],
    /// Which part of the request it is, for errors.
    what: &'a str,
    /// The id that its record gets.
    id: Uuid,
    now: Now,
}

/// The record of a notification, and its id as it is shown.
fn record(api: &Api, sender: &Sender, told: &Told) -> Result<(NewRecord, String), ApiError> {
    let Told {
        json,
        what,
        id,
        now,
    } = *told;
    if json.len() > super::MAX_BODY_BYTES {
        return Err(ApiError::payload_too_large(format!(
            "{what} is longer than {} bytes",
            super::MAX_BODY_BYTES
        )));
    }
    let notification = read(json, what, sender, now.time)?;
    let mut value = Vec::with_capacity(json.len() + VALUE_BYTES);
    serde_json::to_writer(&mut value, &notification).map_err(ApiError::bad_request)?;
    let account = &*notification.account_id;
    api.operations
        .take_message(sender, account, value.len(), now.steady)?;
    let shown = id.hyphenated().to_string();
    let record = NewRecord {
        topic: Arc::clone(&api.outbox.topic),
        key: Some(Bytes::from(notification.account_id)),
        value: value.into(),
        headers: vec![header(header_name::ID, shown.as_bytes())],
        timestamp_ms: now.time.as_millisecond(),
        id: Some(id.as_u128()),
    };
    Ok((record, shown))
}
