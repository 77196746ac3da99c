//! Why the endpoints of an account receive a notification, or do not.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_log::Record;
use dovecast_notification::outbox::NewNotification;
use dovecast_notification::{Notification, NotificationId};
use dovecast_operations::{Explanation, NotificationName, Tenant};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Api;
use super::body::MessageBody;
use super::documents::Document;
use super::error::described::{AnyRequest, Invalid, NotFound, TooMuch, UnreadableBody};
use super::error::{ApiError, ErrorObject, Errors};
use super::times;

/// Notification to explain.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) struct ExplainRequest {
    explain: Explained,
}

/// A notification of the account: its fields, or one that the log has.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(try_from = "Box<RawValue>", untagged)]
pub(crate) enum Explained {
    /// Notification that was sent.
    Past(PastFields),
    /// Notification that may be sent.
    Fields(ExplainFields),
}

impl TryFrom<Box<RawValue>> for Explained {
    type Error = serde_json::Error;

    fn try_from(json: Box<RawValue>) -> Result<Self, Self::Error> {
        let fields: BTreeMap<String, IgnoredAny> = serde_json::from_str(json.get())?;
        if fields.contains_key("notification") {
            serde_json::from_str(json.get()).map(Self::Past)
        } else {
            serde_json::from_str(json.get()).map(Self::Fields)
        }
    }
}

/// A notification that was sent, and is in the log still.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PastFields {
    /// Id of the notification, or a `webhook-id`: with that only its endpoint is explained.
    notification: String,
}

/// A notification of the account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainFields {
    /// Name of the application.
    #[schema(pattern = r"\S")]
    application: String,
    /// Id of the event type, as registered.
    #[schema(pattern = r"\S")]
    event_type: String,
    /// Id of the level, as registered; null for a notification without a level.
    level: Option<String>,
    /// Time of the event, RFC 3339; the time of the request if not given.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
    /// Any JSON: conditions of filters are evaluated on it. Null if not given.
    #[schema(value_type = Value, required = false)]
    message: Option<Box<RawValue>>,
}

/// Which endpoints of the account receive a notification.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplanationList {
    data: Vec<ExplanationObject>,
}

/// Whether an endpoint receives a notification, and if not, why.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplanationObject {
    /// Id of the endpoint.
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: ExplanationAttributes,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplanationAttributes {
    /// Name of the endpoint.
    name: String,
    /// Whether the endpoint receives the notification, now or later.
    matches: bool,
    /// Why the endpoint does not receive the notification, or not now; null if it does.
    reason: Option<String>,
}

impl From<Explanation> for ExplanationObject {
    fn from(explanation: Explanation) -> Self {
        Self {
            id: explanation.endpoint.id.to_string(),
            kind: "explanation",
            attributes: ExplanationAttributes {
                name: explanation.endpoint.name,
                matches: explanation.matches,
                reason: explanation.reason,
            },
        }
    }
}

/// Explain which endpoints of the account receive a notification, and why the others do not.
/// Nothing is sent. A notification that was sent is looked for in the log.
#[utoipa::path(
    post, path = "/explain", tag = "deliveries",
    operation_id = "explain",
    request_body(content = ExplainRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 200, description = "Whether each endpoint of the account receives the notification, and if not, why.", body = ExplanationList, content_type = "application/vnd.api+json"),
        AnyRequest,
        UnreadableBody,
        NotFound,
        Invalid,
        TooMuch,
    ),
)]
pub(crate) async fn explain(
    tenant: Tenant,
    State(api): State<Api>,
    body: MessageBody,
) -> Result<Document<ExplanationList>, ApiError> {
    let (notification, of) = match body.under("explain")? {
        Explained::Fields(fields) => (notification(&api, &tenant, &fields, "/explain")?, None),
        Explained::Past(PastFields { notification: name }) => {
            let name = named(&name)?;
            (past(&api, &tenant, name).await?, name.endpoint)
        }
    };
    let _place = api.operations.read_place(&tenant).await?;
    let mut data = Vec::new();
    let show = |explained: Explanation| {
        if of.is_none_or(|of| of == explained.endpoint.id.0) {
            data.push(explained.into());
        }
    };
    let explain = api.operations.explain(&tenant, &notification, show);
    explain.await?;
    Ok(Document(StatusCode::OK, ExplanationList { data }))
}

fn named(name: &str) -> Result<NotificationName, ApiError> {
    let place = "/explain/notification".to_owned();
    name.parse()
        .map_err(|detail: String| ApiError::invalid(vec![ErrorObject::at(place, detail)]))
}

/// The notification of the account that the log has by this name.
async fn past(
    api: &Api,
    tenant: &Tenant,
    name: NotificationName,
) -> Result<Notification, ApiError> {
    let found = api.past.find(tenant.number(), NotificationId(name.id));
    let found = found.await.map_err(ApiError::unsearched)?;
    found.ok_or_else(|| ApiError::no_record("a notification in the log", &name.to_string()))
}

/// The notification that a record of the outbox would be.
pub(super) fn notification(
    api: &Api,
    tenant: &Tenant,
    fields: &ExplainFields,
    place: &str,
) -> Result<Notification, ApiError> {
    let mut errors = Errors::default();
    for (name, text) in [
        ("application", &fields.application),
        ("event_type", &fields.event_type),
    ] {
        if text.trim().is_empty() {
            let pointer = format!("{place}/{name}");
            errors.push(ErrorObject::at(pointer, "can't be blank"));
        }
    }
    let now = jiff::Timestamp::now();
    let timestamp = fields.timestamp.as_deref().map_or(Ok(now), times::read);
    if let Err(detail) = timestamp {
        errors.push(ErrorObject::at(format!("{place}/timestamp"), detail));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(errors));
    }
    let message = fields.message.as_deref().unwrap_or(RawValue::NULL);
    let value = serde_json::to_vec(&NewNotification {
        application: &*fields.application,
        event_type: &*fields.event_type,
        level: fields.level.as_deref(),
        account_id: tenant.number(),
        timestamp: format!("{:.3}", timestamp.unwrap_or(now)),
        message,
    });
    let record = Record {
        topic: Arc::clone(&api.outbox.topic),
        partition: 0,
        offset: 0,
        key: None,
        value: value.map_err(ApiError::bad_request)?.into(),
        headers: Vec::new(),
        timestamp_ms: now.as_millisecond(),
    };
    Notification::from_outbox(&record).map_err(ApiError::bad_request)
}
