//! Endpoints over the control socket: of all accounts, named by their ids.
//!
//! One endpoint is shown as the REST API shows it, so that an attribute is written down once.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use dovecast_notification::EndpointId;
use dovecast_operations::{EndpointFields, NotificationName, OwnEndpoint, Refusal, Resource};
use dovecast_store::{Endpoint, EndpointRecord, SigningSecret};
use serde::Deserialize;
use uuid::Uuid;

use super::deliveries::{body, notification as notification_of, read};
use super::{Control, Failure, json};
use crate::api::documents;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointsQuery {
    account: Option<String>,
}

/// `GET /v1/endpoints`: of one account, or all.
pub(super) async fn list(
    State(control): State<Control>,
    query: Result<Query<EndpointsQuery>, QueryRejection>,
) -> Result<Json<Vec<json::EndpointLine>>, Failure> {
    let of = read(query)?.account;
    let (operations, operator) = control.operator()?;
    let mut lines = Vec::new();
    let show = |record: &EndpointRecord, owed| lines.push(json::EndpointLine::of(record, owed));
    match of {
        Some(number) => {
            let tenant = operations.account(operator, &number).await?;
            operations.endpoints_with_owed(&tenant, show).await?;
        }
        None => operations.all_endpoints(operator, show).await?,
    }
    Ok(Json(lines))
}

/// `POST /v1/endpoints`.
pub(super) async fn create(
    State(control): State<Control>,
    asked: Result<Json<json::NewEndpoint<EndpointFields>>, JsonRejection>,
) -> Result<Json<json::EndpointAnswer<documents::Endpoint>>, Failure> {
    let json::NewEndpoint { account, endpoint } = body(asked)?;
    let (operations, operator) = control.operator()?;
    let tenant = operations.account_or_new(operator, &account).await?;
    let made = operations.create_endpoint(&tenant, endpoint).await?;
    operations.settled().await;
    let warnings = operations.warnings(&made.endpoint).await;
    Ok(answer(&made.endpoint, made.secret.as_ref(), warnings))
}

/// `GET /v1/endpoints/{id}`.
pub(super) async fn show(
    State(control): State<Control>,
    Path(id): Path<Uuid>,
) -> Result<Json<json::EndpointAnswer<documents::Endpoint>>, Failure> {
    let own = find(&control, id).await?;
    Ok(answer(own.endpoint(), None, Vec::new()))
}

/// `PUT /v1/endpoints/{id}`.
pub(super) async fn change(
    State(control): State<Control>,
    Path(id): Path<Uuid>,
    fields: Result<Json<EndpointFields>, JsonRejection>,
) -> Result<Json<json::EndpointAnswer<documents::Endpoint>>, Failure> {
    let fields = body(fields)?;
    let own = find(&control, id).await?;
    let operations = control.operations()?;
    let changed = operations.change_endpoint(&own, fields).await?;
    operations.settled().await;
    let warnings = operations.warnings(&changed).await;
    Ok(answer(&changed, None, warnings))
}

/// `DELETE /v1/endpoints/{id}`.
pub(super) async fn delete(
    State(control): State<Control>,
    Path(id): Path<Uuid>,
) -> Result<Json<json::Done>, Failure> {
    let own = find(&control, id).await?;
    let operations = control.operations()?;
    operations.delete_endpoint(&own).await?;
    operations.settled().await;
    Ok(Json(json::Done {}))
}

/// `POST /v1/endpoints/{id}/test`.
pub(super) async fn test(
    State(control): State<Control>,
    Path(id): Path<Uuid>,
) -> Result<Json<json::Done>, Failure> {
    let own = find(&control, id).await?;
    control.operations()?.test_endpoint(&own).await?;
    Ok(Json(json::Done {}))
}

/// `POST /v1/endpoints/{id}/render`.
pub(super) async fn render(
    State(control): State<Control>,
    Path(id): Path<Uuid>,
    asked: Result<Json<json::Render<EndpointFields>>, JsonRejection>,
) -> Result<Json<json::Rendering>, Failure> {
    let json::Render {
        notification,
        endpoint,
    } = body(asked)?;
    let own = find(&control, id).await?;
    let operations = control.operations()?;
    let notification = match notification {
        json::ToRender::Undelivered(id) => {
            let name = NotificationName { id, endpoint: None };
            match operations.undelivered(&own, name).await {
                // The command looks for it in the log then.
                Err(Refusal::NotFound {
                    what: Resource::Owed,
                    ..
                }) => return Ok(Json(json::Rendering(None))),
                found => found?,
            }
        }
        json::ToRender::Record(record) => notification_of(&control, *record)?,
    };
    let rendered = operations.render(&own, endpoint, notification).await?;
    Ok(Json(json::Rendering(Some(json::Rendered {
        content_type: rendered.content_type,
        body: String::from_utf8_lossy(&rendered.body).into_owned(),
    }))))
}

/// `POST /v1/endpoints/{id}/secret`.
pub(super) async fn rotate_secret(
    State(control): State<Control>,
    Path(id): Path<Uuid>,
) -> Result<Json<json::EndpointAnswer<documents::Endpoint>>, Failure> {
    let own = find(&control, id).await?;
    let operations = control.operations()?;
    let secret = operations.rotate_secret(&own).await?;
    operations.settled().await;
    Ok(answer(own.endpoint(), Some(&secret), Vec::new()))
}

async fn find(control: &Control, id: Uuid) -> Result<OwnEndpoint, Failure> {
    let (operations, operator) = control.operator()?;
    Ok(operations.any_endpoint(operator, EndpointId(id)).await?)
}

fn answer(
    endpoint: &Endpoint,
    secret: Option<&SigningSecret>,
    warnings: Vec<String>,
) -> Json<json::EndpointAnswer<documents::Endpoint>> {
    Json(json::EndpointAnswer {
        endpoint: documents::Endpoint::new(endpoint),
        signing_secret: secret.map(|secret| secret.expose().to_owned()),
        warnings,
    })
}
