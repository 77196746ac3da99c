//! What an endpoint would be sent of a notification: a template is tried before it is saved.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_dispatch::driver::Rendered;
use dovecast_notification::Notification;
use dovecast_operations::{EndpointFields, NotificationName, OwnEndpoint, Refusal, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Api;
use super::body::MessageBody;
use super::documents::Document;
use super::error::described::{AnyRequest, Invalid, NotFound, TooMuch, UnreadableBody};
use super::error::{ApiError, ErrorDocument, ErrorObject};
use super::explanations::{self, ExplainFields};
use super::path::Named;
use super::redelivery;

/// Notification to render.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) struct RenderRequest {
    render: RenderFields,
}

/// A notification of the account, and changes to try.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenderFields {
    /// Notification to render: its fields, or the id or `webhook-id` of one that the endpoint is
    /// owed, that is a dead letter of it, or that is in the log still.
    notification: Chosen,
    /// Attributes of the endpoint that are not saved: `template`, `preset`, `content_type`,
    /// `content`, `data.parameters`, or the `settings` of another driver.
    #[serde(default)]
    endpoint: EndpointFields,
}

/// A notification by its fields or its name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(try_from = "Box<RawValue>", untagged)]
pub(crate) enum Chosen {
    /// Id of a notification, or a `webhook-id`.
    Name(String),
    /// Fields of a notification.
    Fields(ExplainFields),
}

impl TryFrom<Box<RawValue>> for Chosen {
    type Error = serde_json::Error;

    fn try_from(json: Box<RawValue>) -> Result<Self, Self::Error> {
        if json.get().starts_with('"') {
            serde_json::from_str(json.get()).map(Self::Name)
        } else {
            serde_json::from_str(json.get()).map(Self::Fields)
        }
    }
}

/// What the endpoint would be sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RenderingDocument {
    data: Rendering,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rendering {
    /// Id of the endpoint.
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: RenderingAttributes,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RenderingAttributes {
    /// Type of the body.
    content_type: String,
    /// Body of the request, or text of the mail.
    body: String,
}

/// Render a notification as the endpoint would be sent it, with attributes that are not saved.
/// Nothing is sent.
#[utoipa::path(
    post, path = "/endpoints/{id}/render", tag = "endpoints",
    operation_id = "renderNotification",
    params(("id" = String, Path, description = "Id of the endpoint.")),
    request_body(content = RenderRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 200, description = "What the endpoint would be sent.", body = RenderingDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        UnreadableBody,
        NotFound,
        Invalid,
        TooMuch,
        (status = 503, description = "The log cannot be searched at the moment.", body = ErrorDocument, content_type = "application/vnd.api+json"),
    ),
)]
pub(crate) async fn render(
    tenant: Tenant,
    State(api): State<Api>,
    Named(id): Named,
    body: MessageBody,
) -> Result<Document<RenderingDocument>, ApiError> {
    let own = api.operations.endpoint(&tenant, &id).await?;
    let fields: RenderFields = body.under("render")?;
    let place = "/render/notification";
    let notification = match &fields.notification {
        Chosen::Fields(given) => explanations::notification(&api, &tenant, given, place)?,
        Chosen::Name(name) => {
            let wrong = |detail| ApiError::invalid(vec![ErrorObject::at(place.to_owned(), detail)]);
            let name = name.parse().map_err(|detail: String| wrong(detail))?;
            named(&api, &tenant, &own, name).await?
        }
    };
    let rendered = api
        .operations
        .render(&own, fields.endpoint, notification)
        .await?;
    let Rendered { content_type, body } = rendered;
    let data = Rendering {
        id: own.endpoint().id.to_string(),
        kind: "rendering",
        attributes: RenderingAttributes {
            content_type,
            body: String::from_utf8_lossy(&body).into_owned(),
        },
    };
    Ok(Document(StatusCode::OK, RenderingDocument { data }))
}

/// The notification of a name: what the endpoint is owed or has not got, or what the log has.
async fn named(
    api: &Api,
    tenant: &Tenant,
    own: &OwnEndpoint,
    name: NotificationName,
) -> Result<Notification, ApiError> {
    let refusal = match api.operations.undelivered(own, name).await {
        Ok(notification) => return Ok(notification),
        Err(refusal @ Refusal::NotFound { .. }) => refusal,
        Err(refusal) => return Err(refusal.into()),
    };
    let found = redelivery::past(api, tenant, own, name).await?;
    found.ok_or_else(|| refusal.into())
}
