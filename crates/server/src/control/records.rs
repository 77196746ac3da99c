//! Records over the control socket: read as a stream of lines, appended as a list.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dovecast_log::embedded::Embedded;
use dovecast_log::{Log, LogError, NewRecord, Reader, StartAt};
use futures_util::stream;
use serde::Deserialize;

use super::json::{self, Line};
use super::{Control, Failure};
use crate::cli::Begin;
use crate::serve::Stopping;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    topic: String,
    from: String,
}

fn asked(query: Result<Query<ReadQuery>, QueryRejection>) -> Result<(String, StartAt), Failure> {
    let bad = |text| Failure(StatusCode::BAD_REQUEST, text);
    let Query(query) = query.map_err(|rejection| bad(rejection.body_text()))?;
    let Begin(start) = query.from.parse().map_err(bad)?;
    Ok((query.topic, start))
}

/// `GET /v1/positions`: nothing where there is no such topic.
pub(super) async fn positions(
    State(control): State<Control>,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Json<Vec<u64>>, Failure> {
    let (topic, start) = asked(query)?;
    Ok(Json(control.log.positions(&topic, start).await?))
}

/// `GET /v1/records`: the body ends when the server is stopped, when reading fails, or when the
/// client goes.
pub(super) async fn read(
    State(control): State<Control>,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let (topic, start) = asked(query)?;
    let lines = Lines {
        reader: reader(&control.log, &topic, start).await?,
        stopping: control.stopping,
        is_over: false,
    };
    let body = Body::from_stream(stream::unfold(lines, async |mut lines| {
        let chunk = lines.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), lines))
    }));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

type EmbeddedReader = <Embedded as Log>::Reader;

async fn reader(log: &Embedded, topic: &str, start: StartAt) -> Result<EmbeddedReader, LogError> {
    log.reader(topic, start).await
}

struct Lines {
    reader: EmbeddedReader,
    stopping: Stopping,
    is_over: bool,
}

impl Lines {
    /// What the reader has next, as lines; `None`: the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let read = tokio::select! {
            read = self.reader.next() => read,
            () = self.stopping.begun() => return None,
        };
        let mut chunk = Vec::new();
        match read {
            Ok(records) => {
                for record in &records {
                    write_line(&mut chunk, &Line::Record(record.into()));
                }
            }
            Err(error) => match json::Damaged::of(error) {
                Ok(damaged) => write_line(&mut chunk, &Line::Damaged(damaged)),
                Err(error) => {
                    self.is_over = true;
                    write_line(&mut chunk, &Line::Failed(error.to_string()));
                }
            },
        }
        Some(chunk.into())
    }
}

fn write_line(chunk: &mut Vec<u8>, line: &Line) {
    // Neither a Vec nor these types can fail.
    if serde_json::to_writer(&mut *chunk, line).is_ok() {
        chunk.push(b'\n');
    }
}

/// `POST /v1/records`: all of them, or none.
pub(super) async fn append(
    State(control): State<Control>,
    body: Result<Json<json::Append>, JsonRejection>,
) -> Result<Json<json::Appended>, Failure> {
    let Json(body) =
        body.map_err(|rejection| Failure(rejection.status(), rejection.body_text()))?;
    let records: Result<Vec<NewRecord>, String> =
        body.records.into_iter().map(NewRecord::try_from).collect();
    let records = records.map_err(|text| Failure(StatusCode::BAD_REQUEST, text))?;
    for record in &records {
        let fits = control.limits.check(record);
        fits.map_err(|error| Failure(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))?;
    }
    let done = control.log.append(records).await?;
    Ok(Json(json::Appended {
        appended: done.appended,
        duplicates: done.duplicates,
        refused: done.refused,
    }))
}
