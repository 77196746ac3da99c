//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dovecast_drivers::Drivers;
use dovecast_drivers::http::sockets::Sockets;
use dovecast_log::Log;
use dovecast_log::embedded::Embedded;
#[cfg(feature = "kafka")]
use dovecast_log::kafka::KafkaLog;
use dovecast_operations::Operations;
use dovecast_relay::server::RelayServer;
#[cfg(feature = "kafka")]
use dovecast_relay::ship::{ShipStats, Shipper};

use super::Stopping;
use super::backlog::Backlogs;
use super::health::{LogHealth, StoreHealth};
use super::http::stats::HttpStats;
use super::logging;
use crate::dispatch::Dispatching;
use crate::exposition::{self, Snapshot};
use crate::push::counters::Counters;
use crate::sources::ox::Guesses;

/// What is asked about.
#[derive(Clone)]
pub(crate) struct Status {
    pub(super) log: Embedded,
    pub(super) relay: Option<Arc<RelayServer>>,
    #[cfg(feature = "kafka")]
    pub(super) shipper: Option<(Arc<Shipper>, KafkaLog)>,
    pub(super) dispatching: Option<Arc<Dispatching>>,
    pub(super) stopping: Stopping,
    pub(super) log_health: Arc<LogHealth>,
    /// Health of the store; `None` without the role `dispatch`.
    pub(super) store: Option<Arc<StoreHealth>>,
    /// What endpoints owe; `None` without the role `dispatch`.
    pub(super) backlogs: Option<Arc<Backlogs>>,
    pub(super) http: Arc<HttpStats>,
    /// What was said of user and password of `[ox]`.
    pub(super) ox: Guesses,
    /// Connections to endpoints.
    pub(super) sockets: Sockets,
    pub(super) drivers: Option<Drivers>,
    /// Acts of callers; `None` without the role `dispatch`.
    pub(super) operations: Option<Operations>,
    /// What mail push counts; `None` without the role `dispatch`.
    pub(super) pushes: Option<Arc<Counters>>,
}

/// What the listener of the API answers of it: what those who reach the API may know.
pub(super) fn health(status: Status) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(status)
}

/// All of it, for a listener of its own.
pub(super) fn monitor(status: Status) -> Router {
    let metrics = Router::new().route("/metrics", get(metrics));
    metrics.with_state(status.clone()).merge(health(status))
}

/// 200 while mail processes can hand over events and the store takes writes, and 503 with the
/// reason while not.
async fn ready(State(status): State<Status>) -> Response {
    let not = |reason: &'static str| (StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    if status.stopping.has_begun() {
        return not("the server is being stopped\n");
    }
    if !status.log_health.takes_records().await {
        return not("the log takes no records\n");
    }
    if let Some(store) = &status.store
        && !store.takes_writes().await
    {
        return not("the store takes no writes\n");
    }
    "ok\n".into_response()
}

/// The text format of Prometheus, version 0.0.4.
async fn metrics(State(status): State<Status>) -> Response {
    let topics = status.log.topics().await;
    let groups = status.log.groups().await;
    let backlog = match &status.backlogs {
        Some(backlogs) => backlogs.ask().await,
        None => None,
    };
    let snapshot = match (topics, groups) {
        (Ok(topics), Ok(groups)) => Snapshot {
            relay: status.relay.as_ref().map(|relay| relay.stats()),
            log: status.log.stats(),
            #[cfg(feature = "kafka")]
            shipper: status.shipper.as_ref().map(|(shipper, kafka)| {
                let shipped = shipper.stats();
                ShipStats {
                    errors: shipped.errors + kafka.failures(),
                    ..shipped
                }
            }),
            #[cfg(feature = "kafka")]
            renewed: status.shipper.as_ref().map(|(_, kafka)| kafka.renewed()),
            dispatch: status
                .dispatching
                .as_ref()
                .map(|part| (part.stats(), part.locked_count())),
            #[cfg(feature = "lua")]
            scripts: status
                .dispatching
                .as_ref()
                .map(|part| part.scripts())
                .unwrap_or_default(),
            backlog,
            statements: status.store.as_ref().map(|store| store.statements()),
            trimmed: status.store.as_ref().map(|store| store.trimmed()),
            ox: status.ox.stats(),
            sockets: status.sockets.stats(),
            template_deaths: status.drivers.as_ref().map_or(0, Drivers::template_deaths),
            names: dovecast_drivers::names::system().stats(),
            http: status.http.counts(),
            quotas: status.operations.as_ref().map(Operations::quota_stats),
            pushes: status.pushes.as_ref().map(|counts| counts.shown()),
            lost_lines: logging::lost_lines(),
            topics,
            groups,
        },
        (Err(error), _) | (_, Err(error)) => {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response();
        }
    };
    let text = exposition::render(&snapshot);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
