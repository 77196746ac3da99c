//! What became of deliveries, and why, over the control socket.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use bytes::Bytes;
use dovecast_log::Record;
use dovecast_notification::{EndpointId, Notification};
use dovecast_operations::{ChosenLetters, Explanation, NotificationName, Refusal, Resource};
use serde::Deserialize;
use uuid::Uuid;

use super::json::{self, Redelivery};
use super::{Control, Failure};

/// Most attempts or dead letters in an answer.
const MAX_ROWS: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttemptsQuery {
    endpoint: Uuid,
    most: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLettersQuery {
    endpoint: Option<Uuid>,
    /// Id of a letter: older ones are wanted.
    before: Option<Uuid>,
    most: usize,
}

pub(super) fn read<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Failure> {
    let bad = |rejection: QueryRejection| Failure(StatusCode::BAD_REQUEST, rejection.body_text());
    let Query(query) = query.map_err(bad)?;
    Ok(query)
}

pub(super) fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Failure> {
    let bad = |rejection: JsonRejection| Failure(rejection.status(), rejection.body_text());
    let Json(body) = body.map_err(bad)?;
    Ok(body)
}

/// `GET /v1/attempts`.
pub(super) async fn attempts(
    State(control): State<Control>,
    query: Result<Query<AttemptsQuery>, QueryRejection>,
) -> Result<Json<Vec<json::AttemptLine>>, Failure> {
    let query = read(query)?;
    let (operations, operator) = control.operator()?;
    let own = operations.any_endpoint(operator, EndpointId(query.endpoint));
    let own = own.await?;
    let kept = operations.attempts(&own, query.most.min(MAX_ROWS)).await?;
    let lines = kept.into_iter().map(json::AttemptLine::from);
    Ok(Json(lines.collect()))
}

/// `GET /v1/dead-letters`: of one endpoint, or all, as many as a page holds.
pub(super) async fn dead_letters(
    State(control): State<Control>,
    query: Result<Query<DeadLettersQuery>, QueryRejection>,
) -> Result<Json<Vec<json::DeadLetterLine>>, Failure> {
    let query = read(query)?;
    let most = query.most.min(MAX_ROWS);
    let (operations, operator) = control.operator()?;
    let before = query.before;
    let page = if let Some(endpoint) = query.endpoint {
        let own = operations.any_endpoint(operator, EndpointId(endpoint));
        operations.dead_letters(&own.await?, before, most).await?
    } else {
        let page = operations.all_dead_letters(operator, before, most);
        page.await?
    };
    let lines = page.letters.into_iter().map(json::DeadLetterLine::from);
    Ok(Json(lines.collect()))
}

/// `POST /v1/dead-letters/drop`.
pub(super) async fn drop_dead_letters(
    State(control): State<Control>,
    asked: Result<Json<json::DropLetters>, JsonRejection>,
) -> Result<Json<json::Dropped>, Failure> {
    let asked = body(asked)?;
    let (operations, operator) = control.operator()?;
    let own = operations.any_endpoint(operator, EndpointId(asked.endpoint));
    let which = match asked.what {
        json::Letters::SinceMs(since_ms) => since(since_ms)?,
        json::Letters::Notification(id) => one(id),
    };
    let dropped = operations.drop_dead_letters(&own.await?, which).await?;
    Ok(Json(json::Dropped { dropped }))
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
    record: Result<Json<json::ReadRecord>, JsonRejection>,
) -> Result<Json<Vec<json::Explanation>>, Failure> {
    let notification = notification(&control, body(record)?)?;
    explained(&control, &notification).await
}

async fn explained(
    control: &Control,
    notification: &Notification,
) -> Result<Json<Vec<json::Explanation>>, Failure> {
    let (operations, operator) = control.operator()?;
    let mut lines = Vec::new();
    let show = |explained: Explanation| {
        let endpoint = explained.endpoint;
        lines.push(json::Explanation {
            endpoint: endpoint.id.0,
            url: json::receiver(&endpoint),
            name: endpoint.name,
            matches: explained.matches,
            reason: explained.reason,
        });
    };
    let explain = operations.explain_to_operator(operator, notification, show);
    explain.await?;
    Ok(Json(lines))
}

/// `POST /v1/redeliver`.
pub(super) async fn redeliver(
    State(control): State<Control>,
    asked: Result<Json<json::Redeliver>, JsonRejection>,
) -> Result<Json<json::Redelivered>, Failure> {
    let asked = body(asked)?;
    let (operations, operator) = control.operator()?;
    let own = operations.any_endpoint(operator, EndpointId(asked.endpoint));
    let own = own.await?;
    let redelivered = match asked.what {
        Redelivery::SinceMs(since_ms) => operations.redeliver(&own, since(since_ms)?).await?,
        Redelivery::All => operations.redeliver(&own, ChosenLetters::All).await?,
        Redelivery::Notification(id) => match operations.redeliver(&own, one(id)).await {
            // The command looks for it in the log then.
            Err(Refusal::NotFound {
                what: Resource::Owed,
                ..
            }) => 0,
            redelivered => redelivered?,
        },
        Redelivery::Record(record) => {
            let notification = notification(&control, *record)?;
            operations.deliver_again(&own, &notification).await?;
            1
        }
    };
    Ok(Json(json::Redelivered { redelivered }))
}

fn one(id: Uuid) -> ChosenLetters {
    ChosenLetters::One(NotificationName { id, endpoint: None })
}

fn since(since_ms: i64) -> Result<ChosenLetters, Failure> {
    let time = jiff::Timestamp::from_millisecond(since_ms);
    let time = time.map_err(|error| Failure(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(ChosenLetters::Since(time))
}

/// What the dispatcher takes a record for.
pub(super) fn notification(
    control: &Control,
    record: json::ReadRecord,
) -> Result<Notification, Failure> {
    let bad = |text| Failure(StatusCode::BAD_REQUEST, text);
    let record = Record::try_from(record).map_err(bad)?;
    let sources = control.dispatch.options().sources;
    let topic = &record.topic;
    let source = sources
        .get(&**topic)
        .ok_or_else(|| bad(format!("the topic `{topic}` is not dispatched")))?;
    source.read(&record).map_err(|error| bad(error.to_string()))
}
