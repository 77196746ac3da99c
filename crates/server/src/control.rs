//! The control socket: HTTP/1.1 over a unix socket, for the commands that look at a running server.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/topics` | list of [`json::Topic`] |
//! | `GET /v1/groups` | list of [`json::GroupPlace`] |
//! | `GET /v1/records?topic=&from=beginning\|end\|last:N\|TIME` | a [`json::Line`] per line, until one side closes |
//! | `GET /v1/positions?topic=&from=` | list of offsets: where that begins in each partition |
//! | `GET /v1/endpoints` | list of [`json::EndpointLine`] |
//! | `GET /v1/attempts?endpoint=&most=` | list of [`json::AttemptLine`], the newest first |
//! | `GET /v1/dead-letters?most=` | list of [`json::DeadLetterLine`], the newest first |
//! | `POST /v1/explain` with a notification | list of [`json::Explanation`]: what each endpoint of its account makes of it |
//! | `POST /v1/benchmark?url=` | a [`json::Benchmark`], and a [`json::BenchmarkEnd`] after the body of the request has ended |
//! | `POST /v1/explain-record` with a [`json::ReadRecord`] | the same |
//! | `POST /v1/redeliver` with [`json::Redeliver`] | [`json::Redelivered`] |
//! | `GET /v1/apps` | list of [`json::AppLine`] |
//! | `GET /v1/filters` | list of [`json::FilterLine`] |
//! | `GET /v1/secrets` | list of [`json::KeyLine`] |
//! | `POST /v1/secrets/rotate` | [`json::Rotated`], when everything is sealed anew |
//! | `POST /v1/records` with [`json::Append`] | [`json::Appended`], after the records are durable |
//!
//! Only root and the user of the server get an answer: the socket is theirs alone (mode 0600), and
//! who connects is looked at again (SO_PEERCRED).

mod benchmark;
pub(crate) mod client;
mod deliveries;
pub(crate) mod json;
mod listener;
mod records;
mod redelivery;
mod registry;
mod secrets;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dovecast_dispatch::Evaluator;
use dovecast_log::embedded::Embedded;
use dovecast_log::{Log, LogError};
use dovecast_store::{Store, StoreError};
use tokio::sync::{Mutex, watch};

use crate::config::Dispatch;
use crate::logs::Limits;
use crate::serve::Stopping;

pub(crate) use listener::PeerChecked;

/// Longest body of a request, which is a list of records.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Parts of the server that requests are answered from.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) log: Embedded,
    pub(crate) limits: Limits,
    /// Store of the dispatcher; `None` without the role `dispatch`.
    pub(crate) store: Option<Store>,
    pub(crate) dispatch: Dispatch,
    /// The number of the last change that counts for deliveries of this process.
    pub(crate) follows: Option<watch::Receiver<i64>>,
    /// Evaluator of conditions, which takes accounts in turn; `None` without the role `dispatch`.
    pub(crate) evaluator: Option<Arc<Evaluator>>,
    /// Lock of the running benchmark: there is one at a time.
    pub(crate) benchmark: Arc<Mutex<()>>,
    pub(crate) stopping: Stopping,
}

/// The requests and what answers them.
pub(crate) fn router(control: Control) -> Router {
    Router::new()
        .route("/v1/topics", get(topics))
        .route("/v1/groups", get(groups))
        .route("/v1/endpoints", get(deliveries::endpoints))
        .route("/v1/attempts", get(deliveries::attempts))
        .route("/v1/dead-letters", get(deliveries::dead_letters))
        .route("/v1/explain", post(deliveries::explain))
        .route("/v1/benchmark", post(benchmark::run))
        .route("/v1/explain-record", post(deliveries::explain_record))
        .route("/v1/redeliver", post(redelivery::redeliver))
        .route("/v1/apps", get(registry::apps))
        .route("/v1/filters", get(registry::filters))
        .route("/v1/secrets", get(secrets::list))
        .route("/v1/secrets/rotate", post(secrets::rotate))
        .route("/v1/positions", get(records::positions))
        .route("/v1/records", get(records::read).post(records::append))
        .fallback(async || {
            Failure(
                StatusCode::NOT_FOUND,
                "there is nothing of this name".to_owned(),
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(control)
}

async fn topics(State(control): State<Control>) -> Result<Json<Vec<json::Topic>>, Failure> {
    let topics = control.log.topics().await?;
    Ok(Json(topics.into_iter().map(json::Topic::from).collect()))
}

async fn groups(State(control): State<Control>) -> Result<Json<Vec<json::GroupPlace>>, Failure> {
    let groups = control.log.groups().await?;
    Ok(Json(
        groups.into_iter().map(json::GroupPlace::from).collect(),
    ))
}

/// Why a request has no other answer.
#[derive(Debug)]
struct Failure(StatusCode, String);

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        let status = match error {
            LogError::Invalid(_) => StatusCode::BAD_REQUEST,
            LogError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
            LogError::Closed => StatusCode::SERVICE_UNAVAILABLE,
            LogError::Io { .. }
            | LogError::Corrupt { .. }
            | LogError::Expired { .. }
            | LogError::Locked { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let status = if error.is_unavailable() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self(status, format!("{:#}", anyhow::Error::from(error)))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json::Failed { error: self.1 })).into_response()
    }
}
