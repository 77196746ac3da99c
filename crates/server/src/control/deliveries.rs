//! What became of deliveries, and why, over the control socket.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use bytes::Bytes;
use dovecast_dispatch::Evaluator;
use dovecast_log::Record;
use dovecast_notification::{EndpointId, Filter, Notification};
use dovecast_store::{EndpointRecord, Store};
use serde::Deserialize;
use uuid::Uuid;

use super::{Control, Failure, json, redelivery};
use crate::dispatch::filter_of;

/// Endpoints of one page.
const PAGE: i64 = 1_000;
/// More is not shown at a time.
const MOST: usize = 10_000;

pub(super) fn store(control: &Control) -> Result<&Store, Failure> {
    control.store.as_ref().ok_or_else(no_dispatcher)
}

fn evaluator(control: &Control) -> Result<&Evaluator, Failure> {
    control.evaluator.as_deref().ok_or_else(no_dispatcher)
}

fn no_dispatcher() -> Failure {
    let text = "this server has not the role `dispatch`".to_owned();
    Failure(StatusCode::NOT_FOUND, text)
}

pub(super) async fn each_endpoint(
    store: &Store,
    mut show: impl FnMut(&EndpointRecord),
) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = store.load_endpoints_after(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.endpoint.id);
        page.iter().for_each(&mut show);
    }
}

/// `GET /v1/endpoints`.
pub(super) async fn endpoints(
    State(control): State<Control>,
) -> Result<Json<Vec<json::EndpointLine>>, Failure> {
    let store = store(&control)?;
    let owed = store.owed_counts().await?;
    let mut lines = Vec::new();
    each_endpoint(store, |record| {
        let owed = owed.get(&record.endpoint.id).copied();
        lines.push(json::EndpointLine::of(record, owed.unwrap_or_default()));
    })
    .await?;
    Ok(Json(lines))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttemptsQuery {
    endpoint: Uuid,
    most: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MostQuery {
    most: usize,
}

fn read<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Failure> {
    let bad = |rejection: QueryRejection| Failure(StatusCode::BAD_REQUEST, rejection.body_text());
    let Query(query) = query.map_err(bad)?;
    Ok(query)
}

/// `GET /v1/attempts`.
pub(super) async fn attempts(
    State(control): State<Control>,
    query: Result<Query<AttemptsQuery>, QueryRejection>,
) -> Result<Json<Vec<json::AttemptLine>>, Failure> {
    let query = read(query)?;
    let id = EndpointId(query.endpoint);
    let kept = store(&control)?.attempts(id, query.most.min(MOST)).await?;
    Ok(Json(
        kept.into_iter().map(json::AttemptLine::from).collect(),
    ))
}

/// `GET /v1/dead-letters`.
pub(super) async fn dead_letters(
    State(control): State<Control>,
    query: Result<Query<MostQuery>, QueryRejection>,
) -> Result<Json<Vec<json::DeadLetterLine>>, Failure> {
    let query = read(query)?;
    let kept = store(&control)?
        .dead_letters(None, query.most.min(MOST))
        .await?;
    Ok(Json(
        kept.into_iter().map(json::DeadLetterLine::from).collect(),
    ))
}

/// What an endpoint wants; an error says why it gets nothing.
pub(super) fn wanted(record: &EndpointRecord) -> Result<Filter, String> {
    if !record.endpoint.active {
        return Err("the endpoint is not active".to_owned());
    }
    filter_of(record).ok_or_else(|| "the endpoint has no filter".to_owned())
}

/// Why an endpoint does not get a notification; `None`: it does. A costly condition waits for its
/// account's turn, as it does when the notification is dispatched.
pub(super) async fn verdict(
    control: &Control,
    wanted: Result<Filter, String>,
    notification: &Notification,
) -> Result<Option<String>, Failure> {
    let filter = match wanted {
        Ok(filter) => filter,
        Err(reason) => return Ok(Some(reason)),
    };
    let mismatch = evaluator(control)?.mismatch(&filter, notification).await;
    Ok(mismatch.map(|why| why.to_string()))
}

/// `POST /v1/explain`: the body is what stands in `hooks.outbox`.
pub(super) async fn explain(
    State(control): State<Control>,
    body: Bytes,
) -> Result<Json<Vec<json::Explanation>>, Failure> {
    let record = Record {
        topic: Arc::from(control.dispatch.outbox_topic.as_str()),
        partition: 0,
        offset: 0,
        key: None,
        value: body,
        headers: Vec::new(),
        timestamp_ms: 0,
    };
    let notification = Notification::from_outbox(&record)
        .map_err(|error| Failure(StatusCode::BAD_REQUEST, error.to_string()))?;
    explained(&control, &notification).await
}

/// `POST /v1/explain-record`: the same of a record of the log.
pub(super) async fn explain_record(
    State(control): State<Control>,
    body: Result<Json<json::ReadRecord>, JsonRejection>,
) -> Result<Json<Vec<json::Explanation>>, Failure> {
    let bad = |rejection: JsonRejection| Failure(rejection.status(), rejection.body_text());
    let Json(record) = body.map_err(bad)?;
    let notification = redelivery::notification(&control, record)?;
    explained(&control, &notification).await
}

async fn explained(
    control: &Control,
    notification: &Notification,
) -> Result<Json<Vec<json::Explanation>>, Failure> {
    let mut of_account = Vec::new();
    each_endpoint(store(control)?, |record| {
        if record.account_number == *notification.account {
            let endpoint = &record.endpoint;
            let named = (
                endpoint.id.0,
                endpoint.name.clone(),
                json::receiver(endpoint),
            );
            of_account.push((named, wanted(record)));
        }
    })
    .await?;
    let mut explanations = Vec::new();
    for ((endpoint, name, url), wanted) in of_account {
        let reason = verdict(control, wanted, notification).await?;
        explanations.push(json::Explanation {
            endpoint,
            name,
            url,
            matches: reason.is_none(),
            reason,
        });
        // What is cheap is evaluated here: others have their turn.
        tokio::task::yield_now().await;
    }
    Ok(Json(explanations))
}
