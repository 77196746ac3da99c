//! What a benchmark of the dispatcher needs, made while its request lasts: an application, and an
//! account with one endpoint.
//!
//! It is removed when the body of the request ends, however that comes about: whoever runs the
//! benchmark may be killed. What a server that was killed itself has left is removed by the next
//! benchmark.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dovecast_drivers::guard::Guard;
use dovecast_operations::BENCHMARK_APPLICATION;
use dovecast_store::{
    Application, ApplicationId, FilterFields, FilterSets, FlowEdit, NewEndpoint, NewEventType,
    NewLevel, Receiver, Registration, Result as StoreResult, RetryPolicy, Store,
};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::sync::{OwnedMutexGuard, oneshot, watch};
use url::{Host, Url};

use super::{Control, Failure, json};
use crate::serve::Stopping;

const EVENT_TYPE: &str = "TestEvent";
const LEVEL: &str = "Info";
/// By this an application is known as ours: one that somebody else has registered stays.
const TITLE: &str = "Made by dovecast bench, and removed in the end";
/// An account that nobody can have: no identity, token or message may have a control character in
/// the number of an account. What is removed with it is the benchmark's own.
const ACCOUNT: &str = "\u{1}dovecast-bench";
/// How long the dispatcher may take to know the endpoint.
const FOLLOW: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BenchmarkQuery {
    url: String,
}

/// `POST /v1/benchmark`: a [`json::Benchmark`] when everything is there; at the end of the
/// request's body everything is removed, and a second line says so.
pub(super) async fn run(
    State(control): State<Control>,
    query: Result<Query<BenchmarkQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, Failure> {
    let bad = |text| Failure(StatusCode::BAD_REQUEST, text);
    let Query(query) = query.map_err(|rejection| bad(rejection.body_text()))?;
    let (Some(store), Some(follows)) = (control.store, control.follows) else {
        let text = "this server has not the role `dispatch`".to_owned();
        return Err(Failure(StatusCode::NOT_FOUND, text));
    };
    let guard = Guard::new(&control.dispatch.allowed_networks);
    let url = allowed(&query.url, &guard).map_err(bad)?;
    let Ok(turn) = control.benchmark.try_lock_owned() else {
        let text = "another benchmark is running on this server".to_owned();
        return Err(Failure(StatusCode::CONFLICT, text));
    };
    let begun = async {
        remove(&store).await?;
        make(&store, &url).await
    };
    let made = match begun.await {
        Ok(made) => made,
        Err(error) => {
            remove_or_tell(&store).await;
            return Err(error.into());
        }
    };
    known(&store, follows).await;
    let (removed, is_removed) = oneshot::channel();
    let body = body.into_data_stream();
    tokio::spawn(wait_and_remove(
        store,
        body,
        control.stopping,
        turn,
        removed,
    ));
    let lines = stream::iter([line(&made)]).chain(stream::once(async {
        // It is always answered, but for a panic.
        line(&is_removed.await.unwrap_or_else(|_| json::BenchmarkEnd {
            error: Some("the benchmark's end has failed".to_owned()),
        }))
    }));
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn line(value: &impl serde::Serialize) -> Bytes {
    // These types cannot fail.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// The URL, if webhooks may go there.
fn allowed(url: &str, guard: &Guard) -> Result<String, String> {
    let parsed = Url::parse(url).map_err(|error| format!("`{url}` is not a URL: {error}"))?;
    let address = match parsed.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address),
        Some(Host::Ipv6(address)) => IpAddr::from(address),
        Some(Host::Domain(_)) | None => return Err(format!("`{url}` names no address")),
    };
    let port = parsed.port_or_known_default().unwrap_or_default();
    if guard.allows(SocketAddr::new(address, port)) {
        return Ok(url.to_owned());
    }
    Err(format!(
        "this server may not send webhooks to {address}: allow it by `allowed_networks = [\"{address}\"]` in [dispatch] of its configuration"
    ))
}

async fn make(store: &Store, url: &str) -> StoreResult<json::Benchmark> {
    let application = match find(store).await? {
        Some(application) => application.id,
        None => store.register(&registration(), false).await?.application.id,
    };
    let account = store.account_seen(ACCOUNT).await?;
    let sets = FilterSets {
        applications: vec![application],
        ..FilterSets::default()
    };
    let endpoint = NewEndpoint {
        name: ACCOUNT.to_owned(),
        receiver: Receiver::Webhook(url.to_owned()),
        active: true,
        server_ca_certificate: None,
        retry_policy: RetryPolicy::Default,
        headers: None,
        credentials: None,
        timeout_seconds: None,
        body: None,
        flow: FlowEdit::default(),
        filter: Some(FilterFields {
            sets: Some(sets),
            ..FilterFields::default()
        }),
    };
    let created = store
        .create_endpoint(account.id, &endpoint, u64::MAX)
        .await?;
    Ok(json::Benchmark {
        application: BENCHMARK_APPLICATION.to_owned(),
        event_type: EVENT_TYPE.to_owned(),
        level: LEVEL.to_owned(),
        account_id: ACCOUNT.to_owned(),
        endpoint: created.endpoint.id.0,
    })
}

fn registration() -> Registration {
    Registration {
        name: BENCHMARK_APPLICATION.to_owned(),
        title: TITLE.to_owned(),
        event_types: vec![NewEventType {
            external_id: EVENT_TYPE.to_owned(),
            title: EVENT_TYPE.to_owned(),
            levels: vec![NewLevel {
                external_id: LEVEL.to_owned(),
                title: LEVEL.to_owned(),
            }],
        }],
    }
}

/// The application, whoever has registered it.
async fn find(store: &Store) -> StoreResult<Option<Application>> {
    store.application_named(BENCHMARK_APPLICATION).await
}

/// The dispatcher has to know the endpoint before anything is sent.
async fn known(store: &Store, mut follows: watch::Receiver<i64>) {
    let change = store.known_change();
    let counts = follows.wait_for(|applied| *applied >= change);
    // Whoever is late misses deliveries, which the benchmark tells.
    let _ = tokio::time::timeout(FOLLOW, counts).await;
}

/// Waits for the end of the request, or of the server.
async fn wait_and_remove(
    store: Store,
    mut body: BodyDataStream,
    stopping: Stopping,
    turn: OwnedMutexGuard<()>,
    removed: oneshot::Sender<json::BenchmarkEnd>,
) {
    let ended = async { while let Some(Ok(_)) = body.next().await {} };
    tokio::select! {
        () = ended => {}
        () = stopping.begun() => {}
    }
    let error = remove_or_tell(&store).await;
    drop(turn);
    // Nobody may be there any more.
    let _ = removed.send(json::BenchmarkEnd { error });
}

async fn remove_or_tell(store: &Store) -> Option<String> {
    let error = remove(store).await.err()?;
    tracing::warn!(%error, "the endpoint and the application of a benchmark could not be removed; the next benchmark removes them");
    Some(error.to_string())
}

/// Removes what a benchmark has made.
async fn remove(store: &Store) -> StoreResult<()> {
    store.delete_account(ACCOUNT).await?;
    let ours: Option<ApplicationId> = find(store)
        .await?
        .filter(|application| application.title == TITLE)
        .map(|application| application.id);
    if let Some(id) = ours {
        store.delete_application(id).await?;
    }
    Ok(())
}
