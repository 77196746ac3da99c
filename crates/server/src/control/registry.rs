//! Applications, filters and tokens over the control socket.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use dovecast_notification::EndpointId;
use dovecast_operations::{Caller, TokenChange, TokenFields, read_registration};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::deliveries::{body, read};
use super::{Control, Failure, json};

/// Applications of one page.
const PAGE: i64 = 100;

/// `GET /v1/apps`.
pub(super) async fn apps(
    State(control): State<Control>,
) -> Result<Json<Vec<json::AppLine>>, Failure> {
    let operations = control.operations()?;
    let (mut lines, mut offset) = (Vec::new(), 0);
    loop {
        let anyone = Caller::host().anyone();
        let page = operations.applications(anyone, PAGE, offset).await?;
        if page.items.is_empty() {
            return Ok(Json(lines));
        }
        offset += PAGE;
        lines.extend(page.items.into_iter().map(json::AppLine::from));
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterQuery {
    dry_run: bool,
}

/// `POST /v1/apps` with a registration.
pub(super) async fn register(
    State(control): State<Control>,
    query: Result<Query<RegisterQuery>, QueryRejection>,
    registration: Result<Json<Value>, JsonRejection>,
) -> Result<Json<json::Registered>, Failure> {
    let RegisterQuery { dry_run } = read(query)?;
    let registration = read_registration(&body(registration)?)?;
    let operations = control.operations()?;
    let registrar = Caller::host().registrar()?;
    let registered = operations.register(&registrar, &registration, dry_run);
    let registered = json::Registered::from(registered.await?);
    operations.settled().await;
    Ok(Json(registered))
}

/// `DELETE /v1/apps/{id}`.
pub(super) async fn remove_app(
    State(control): State<Control>,
    Path(id): Path<String>,
) -> Result<Json<json::Done>, Failure> {
    let operations = control.operations()?;
    let registrar = Caller::host().registrar()?;
    operations.remove_application(&registrar, &id).await?;
    operations.settled().await;
    Ok(Json(json::Done {}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FiltersQuery {
    endpoint: Option<Uuid>,
    account: Option<String>,
}

/// `GET /v1/filters`: of one endpoint, of one account, or all.
pub(super) async fn filters(
    State(control): State<Control>,
    query: Result<Query<FiltersQuery>, QueryRejection>,
) -> Result<Json<Vec<json::FilterLine>>, Failure> {
    let query = read(query)?;
    let (operations, operator) = control.operator()?;
    let filters = match (query.endpoint, query.account) {
        (Some(endpoint), _) => {
            let own = operations.any_endpoint(operator, EndpointId(endpoint));
            vec![operations.filter_in_words(&own.await?).await?]
        }
        (None, Some(number)) => {
            let filters = operations.filters_to_operator(operator, &number);
            filters.await?
        }
        (None, None) => operations.all_filters_in_words(operator).await?,
    };
    let lines = filters.into_iter().map(json::FilterLine::from);
    Ok(Json(lines.collect()))
}

/// `GET /v1/tokens`.
pub(super) async fn tokens(
    State(control): State<Control>,
) -> Result<Json<Vec<json::TokenLine>>, Failure> {
    let (operations, operator) = control.operator()?;
    let tokens = operations.tokens(operator).await?;
    let lines = tokens.into_iter().map(json::TokenLine::from);
    Ok(Json(lines.collect()))
}

/// `POST /v1/tokens`.
pub(super) async fn create_token(
    State(control): State<Control>,
    fields: Result<Json<TokenFields>, JsonRejection>,
) -> Result<Json<json::NewToken>, Failure> {
    let fields = body(fields)?;
    let (operations, operator) = control.operator()?;
    let made = operations.create_token(operator, fields).await?;
    Ok(Json(json::NewToken {
        token: made.token.into(),
        secret: made.secret,
    }))
}

/// `PUT /v1/tokens/{id}`.
pub(super) async fn change_token(
    State(control): State<Control>,
    Path(id): Path<String>,
    change: Result<Json<TokenChange>, JsonRejection>,
) -> Result<Json<json::TokenLine>, Failure> {
    let change = body(change)?;
    let (operations, operator) = control.operator()?;
    let changed = operations.change_token(operator, &id, change).await?;
    Ok(Json(changed.into()))
}

/// `DELETE /v1/tokens/{id}`.
pub(super) async fn delete_token(
    State(control): State<Control>,
    Path(id): Path<String>,
) -> Result<Json<json::Done>, Failure> {
    let (operations, operator) = control.operator()?;
    operations.delete_token(operator, &id).await?;
    Ok(Json(json::Done {}))
}
