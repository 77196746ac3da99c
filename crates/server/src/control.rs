//! The control socket: HTTP/1.1 over a unix socket, for the commands that look at a running server.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/topics` | list of [`json::Topic`] |
//! | `DELETE /v1/topics/{name}` | [`json::Done`] |
//! | `GET /v1/groups` | list of [`json::GroupPlace`] |
//! | `GET /v1/records?topic=&from=` | a [`json::Line`] per line, until one side closes |
//! | `GET /v1/positions?topic=&from=` | list of offsets: where that begins in each partition |
//! | `POST /v1/records` with [`json::Append`] | [`json::Appended`], after they are durable |
//! | `GET /v1/endpoints?account=` | list of [`json::EndpointLine`] |
//! | `POST /v1/endpoints` with [`json::NewEndpoint`] | [`json::EndpointAnswer`], with its secret |
//! | `GET /v1/endpoints/{id}` | [`json::EndpointAnswer`] |
//! | `PUT /v1/endpoints/{id}` with the fields that change | [`json::EndpointAnswer`] |
//! | `DELETE /v1/endpoints/{id}` | [`json::Done`] |
//! | `POST /v1/endpoints/{id}/secret` | [`json::EndpointAnswer`], with its new secret |
//! | `POST /v1/endpoints/{id}/test` | [`json::Done`], when the test is delivered |
//! | `GET /v1/attempts?endpoint=&most=` | list of [`json::AttemptLine`], the newest first |
//! | `GET /v1/dead-letters?endpoint=&before=&most=` | list of [`json::DeadLetterLine`]: a page |
//! | `POST /v1/dead-letters/drop` with [`json::DropLetters`] | [`json::Dropped`] |
//! | `POST /v1/redeliver` with [`json::Redeliver`] | [`json::Redelivered`] |
//! | `POST /v1/explain` with a notification | list of [`json::Explanation`], of its account |
//! | `POST /v1/explain-record` with a [`json::ReadRecord`] | the same |
//! | `GET /v1/apps` | list of [`json::AppLine`] |
//! | `POST /v1/apps?dry_run=` with a registration | [`json::Registered`] |
//! | `DELETE /v1/apps/{id}` | [`json::Done`] |
//! | `GET /v1/filters?endpoint=&account=` | list of [`json::FilterLine`] |
//! | `GET /v1/tokens` | list of [`json::TokenLine`] |
//! | `POST /v1/tokens` with the fields of the REST API | [`json::NewToken`] |
//! | `PUT /v1/tokens/{id}` with the fields that change | [`json::TokenLine`] |
//! | `DELETE /v1/tokens/{id}` | [`json::Done`] |
//! | `GET /v1/accounts` | list of [`json::AccountLine`] |
//! | `GET /v1/accounts/{number}` | [`json::AccountAnswer`] |
//! | `DELETE /v1/accounts/{number}` | [`json::AccountClosed`] |
//! | `POST /v1/accounts/{number}/reopen` | [`json::AccountLine`] |
//! | `GET /v1/secrets` | list of [`json::KeyLine`] |
//! | `POST /v1/secrets/rotate` | [`json::Rotated`], when everything is sealed anew |
//! | `GET /v1/push/users` | list of [`json::PushUserLine`], over all nodes |
//! | `GET /v1/push/clients` | list of [`json::PushClientLine`] |
//! | `POST /v1/push/unregister` with [`json::PushRegistration`] | [`json::Unregistered`] |
//! | `POST /v1/push/explain` with a [`json::PushPerson`] | [`json::ExplainedListener`] |
//! | `POST /v1/push/devices` with a [`json::PushDevices`] | list of [`json::DeviceLine`] |
//! | `POST /v1/push/test` with a [`json::PushDevices`] | list of [`json::TestedLine`] |
//! | `POST /v1/push/why` with a [`json::PushDevices`] | a [`json::WhySilent`] |
//! | `POST /v1/benchmark?url=` | a [`json::Benchmark`], and a [`json::BenchmarkEnd`] at the end |
//!
//! Only root and the user of the server get an answer: the socket is theirs alone (mode 0600), and
//! who connects is looked at again (SO_PEERCRED).

mod accounts;
mod benchmark;
pub(crate) mod client;
mod deliveries;
mod endpoints;
pub(crate) mod json;
mod listener;
mod push;
mod records;
mod registry;
mod secrets;
mod topics;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use dovecast_event::brief;
use dovecast_log::embedded::Embedded;
use dovecast_log::{Log, LogError};
use dovecast_operations::push::MailPush;
use dovecast_operations::{Caller, Operations, Operator, Refusal};
use dovecast_store::{Store, StoreError};
use tokio::sync::{Mutex, watch};

use crate::config::Dispatch;
use crate::logs::Limits;
use crate::serve::Stopping;

pub(crate) use listener::PeerChecked;

/// Longest body of a request, which is a list of records.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Longest body of a request over HTTP, which names a person and a client.
const MAX_PUSH_BODY_BYTES: usize = 16 * 1024;

/// Parts of the server that requests are answered from.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) log: Embedded,
    /// Whether the dispatcher reads this log, and not Kafka.
    pub(crate) is_dispatched: bool,
    pub(crate) limits: Limits,
    /// Topics that the configuration names.
    pub(crate) known_topics: Arc<BTreeSet<String>>,
    /// Store of the dispatcher; `None` without the role `dispatch`.
    pub(crate) store: Option<Store>,
    pub(crate) dispatch: Dispatch,
    /// The number of the last change that counts for deliveries of this process.
    pub(crate) follows: Option<watch::Receiver<i64>>,
    /// What the operator may do; `None` without the role `dispatch`.
    pub(crate) operations: Option<Operations>,
    /// Acts of mail push; `None` without the role `dispatch`.
    pub(crate) push: Option<MailPush>,
    /// Lock of the running benchmark: there is one at a time.
    pub(crate) benchmark: Arc<Mutex<()>>,
    pub(crate) stopping: Stopping,
}

impl Control {
    fn operations(&self) -> Result<&Operations, Failure> {
        self.operations.as_ref().ok_or_else(|| {
            let text = "this server has not the role `dispatch`".to_owned();
            Failure(StatusCode::NOT_FOUND, text)
        })
    }

    /// Acts of mail push, for whoever runs the server.
    fn push(&self) -> Result<(&MailPush, Operator), Failure> {
        let (_, operator) = self.operator()?;
        let acts = self.push.as_ref().ok_or_else(|| {
            let text = "mail push does not run on this server".to_owned();
            Failure(StatusCode::NOT_FOUND, text)
        })?;
        Ok((acts, operator))
    }

    /// Whoever is let in to this socket runs the server.
    fn operator(&self) -> Result<(&Operations, Operator), Failure> {
        Ok((self.operations()?, Caller::host().operator()?))
    }
}

/// The requests about listeners of mail push alone, without what their paths begin with here.
pub(crate) fn push_router(control: Control) -> Router {
    Router::new()
        .route("/users", get(push::users))
        .route("/clients", get(push::clients))
        .route("/unregister", post(push::unregister))
        .route("/explain", post(push::explain))
        .layer(DefaultBodyLimit::max(MAX_PUSH_BODY_BYTES))
        .with_state(control)
}

/// The requests and what answers them.
pub(crate) fn router(control: Control) -> Router {
    Router::new()
        .route("/v1/topics", get(topics::list))
        .route("/v1/topics/{name}", delete(topics::remove))
        .route("/v1/groups", get(groups))
        .route(
            "/v1/endpoints",
            get(endpoints::list).post(endpoints::create),
        )
        .route(
            "/v1/endpoints/{id}",
            get(endpoints::show)
                .put(endpoints::change)
                .delete(endpoints::delete),
        )
        .route("/v1/endpoints/{id}/secret", post(endpoints::rotate_secret))
        .route("/v1/endpoints/{id}/test", post(endpoints::test))
        .route("/v1/endpoints/{id}/render", post(endpoints::render))
        .route("/v1/attempts", get(deliveries::attempts))
        .route("/v1/dead-letters", get(deliveries::dead_letters))
        .route("/v1/dead-letters/drop", post(deliveries::drop_dead_letters))
        .route("/v1/explain", post(deliveries::explain))
        .route("/v1/benchmark", post(benchmark::run))
        .route("/v1/explain-record", post(deliveries::explain_record))
        .route("/v1/redeliver", post(deliveries::redeliver))
        .route("/v1/apps", get(registry::apps).post(registry::register))
        .route("/v1/apps/{id}", delete(registry::remove_app))
        .route(
            "/v1/tokens",
            get(registry::tokens).post(registry::create_token),
        )
        .route(
            "/v1/tokens/{id}",
            put(registry::change_token).delete(registry::delete_token),
        )
        .route("/v1/accounts", get(accounts::list))
        .route(
            "/v1/accounts/{number}",
            get(accounts::show).delete(accounts::close),
        )
        .route("/v1/accounts/{number}/reopen", post(accounts::reopen))
        .route("/v1/filters", get(registry::filters))
        .route("/v1/secrets", get(secrets::list))
        .route("/v1/secrets/rotate", post(secrets::rotate))
        .route("/v1/push/users", get(push::users))
        .route("/v1/push/clients", get(push::clients))
        .route("/v1/push/unregister", post(push::unregister))
        .route("/v1/push/explain", post(push::explain))
        .route("/v1/push/devices", post(push::devices))
        .route("/v1/push/test", post(push::test))
        .route("/v1/push/why", post(push::why))
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

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Store(error) => return error.into(),
            Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
            Refusal::BadToken(_) => StatusCode::UNAUTHORIZED,
            Refusal::NotFound { .. } => StatusCode::NOT_FOUND,
            Refusal::Unreadable(_) => StatusCode::BAD_REQUEST,
            Refusal::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::NotActive
            | Refusal::NotWanted(_)
            | Refusal::Conflict(_)
            | Refusal::UnderWay { .. } => StatusCode::CONFLICT,
            Refusal::TooMuch { .. } => StatusCode::TOO_MANY_REQUESTS,
            Refusal::TestFailed(_) => StatusCode::BAD_GATEWAY,
            Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, brief(&refusal.to_string()))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json::Failed { error: self.1 })).into_response()
    }
}
