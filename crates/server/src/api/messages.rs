//! Notifications over HTTP: what an application would write into the topic `hooks.outbox`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use dovecast_event::header_name;
use dovecast_log::NewRecord;
use dovecast_notification::outbox::{FIELDS, NewNotification};
use dovecast_operations::Sender;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::body::{self, JsonBytes};
use super::documents::Document;
use super::error::described::{AnyRequest, Invalid, UnreadableBody};
use super::error::{ApiError, ErrorObject, Errors};
use crate::headers::header;

/// Notification to send.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) struct MessageRequest {
    /// Name of the application.
    application: String,
    /// Id of the event type, as registered.
    event_type: String,
    /// Id of the level, as registered; null for a notification without a level.
    #[schema(required)]
    level: Option<String>,
    /// Time of the event, RFC 3339; the time of the request if not given.
    timestamp: Option<String>,
    /// Any JSON; endpoints receive it unchanged.
    message: Value,
    /// Number of the account; may be left out with a token of the account.
    account_id: Option<String>,
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

/// Send a notification. It is durable once the request is answered.
#[utoipa::path(
    post, path = "/messages", tag = "messages",
    operation_id = "createMessage",
    security(("token" = [])),
    request_body(content = MessageRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 201, description = "The notification is durable in the log.", body = MessageDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        UnreadableBody,
        Invalid,
    ),
)]
pub(crate) async fn create(
    sender: Sender,
    State(api): State<Api>,
    JsonBytes(body): JsonBytes,
) -> Result<Document<MessageDocument>, ApiError> {
    let now = Timestamp::now();
    let notification = read(&body, &sender, now)?;
    let id = Uuid::now_v7();
    let value = serde_json::to_vec(&notification).map_err(ApiError::bad_request)?;
    let shown = id.hyphenated().to_string();
    let record = NewRecord {
        topic: Arc::clone(&api.outbox.topic),
        key: Some(Bytes::from(notification.account_id)),
        value: value.into(),
        headers: vec![header(header_name::ID, shown.as_bytes())],
        timestamp_ms: now.as_millisecond(),
        id: Some(id.as_u128()),
    };
    let taken = api.outbox.append(record).await;
    taken.map_err(|reason| ApiError::not_taken(&reason))?;
    let data = Message {
        kind: "message",
        id: shown,
    };
    Ok(Document(StatusCode::CREATED, MessageDocument { data }))
}

pub(super) fn read<'a>(
    body: &'a [u8],
    sender: &Sender,
    now: Timestamp,
) -> Result<NewNotification<String, &'a RawValue>, ApiError> {
    let Value::Object(fields) = body::json(body)? else {
        return Err(ApiError::bad_request("the body is not an object"));
    };
    // Endpoints get it byte by byte, with numbers that no program here understands.
    let mut messages: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(body).map_err(ApiError::bad_request)?;
    let mut errors = Errors::default();
    for name in fields.keys().filter(|name| !FIELDS.contains(&&***name)) {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        errors.push(ErrorObject::at(pointer, "is not a field of a notification"));
    }
    let mut noted = |name: &str, read: Result<String, &str>| {
        read.map_err(|detail| errors.push(ErrorObject::at(format!("/{name}"), detail)))
            .ok()
    };
    let application = noted("application", filled(fields.get("application")));
    let event_type = noted("event_type", filled(fields.get("event_type")));
    let level = match fields.get("level") {
        Some(Value::Null) => Some(None),
        None => noted("level", Err("is missing (null for none)")).map(Some),
        value => noted("level", filled(value)).map(Some),
    };
    let timestamp = noted("timestamp", timestamp(fields.get("timestamp"), now));
    let account_id = noted("account_id", account(fields.get("account_id"), sender));
    let message = messages.remove("message");
    if message.is_none() {
        noted("message", Err("is missing"));
    }
    let (Some(application), Some(event_type), Some(level)) = (application, event_type, level)
    else {
        return Err(ApiError::invalid(errors));
    };
    let (Some(timestamp), Some(account_id), Some(message), true) =
        (timestamp, account_id, message, errors.is_empty())
    else {
        return Err(ApiError::invalid(errors));
    };
    if let Sender::Account(account) = sender
        && account.number != account_id
    {
        return Err(ApiError::forbidden(
            "This token sends notifications for its own account only",
        ));
    }
    Ok(NewNotification {
        application,
        event_type,
        level,
        account_id,
        timestamp,
        message,
    })
}

fn filled(value: Option<&Value>) -> Result<String, &'static str> {
    match value {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.clone()),
        None | Some(Value::Null | Value::String(_)) => Err("can't be blank"),
        Some(_) => Err("is not a string"),
    }
}

fn timestamp(value: Option<&Value>, now: Timestamp) -> Result<String, &'static str> {
    let time = match value {
        None => Ok(now),
        Some(Value::String(text)) => text.parse().map_err(drop),
        Some(_) => Err(()),
    };
    match time {
        Ok(time) => Ok(format!("{time:.3}")),
        Err(()) => Err("is not an RFC 3339 time"),
    }
}

/// Number of the account. Some senders write it as a JSON number.
fn account(value: Option<&Value>, sender: &Sender) -> Result<String, &'static str> {
    match (value, sender) {
        (None, Sender::Account(account)) => Ok(account.number.clone()),
        (Some(Value::Number(number)), _) => Ok(number.to_string()),
        (value, _) => filled(value),
    }
}
