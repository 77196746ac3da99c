//! HTTP for whoever can connect: so many connections at a time, and nobody is waited for without
//! end.
//!
//! A client has a time for the head of a request, which also bounds how long a connection may be
//! idle; a request with its body has one until it is answered; an answer that is not read on has
//! the same. What is beyond the bound of connections waits in the backlog of the socket.

mod answering;
pub(crate) mod stats;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::middleware;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use super::Stopping;
use crate::config::Http;
use stats::{HttpStats, Slow};
use stream::Stream;

/// What all connections have in common.
#[derive(Clone)]
struct Shared {
    router: Router,
    header_timeout: Duration,
    request_timeout: Duration,
    stats: Arc<HttpStats>,
    stopping: Stopping,
}

/// Answers until the server is stopped; what is under way then may end.
pub(super) async fn serve(
    mut listener: TcpListener,
    router: Router,
    config: Http,
    stats: Arc<HttpStats>,
    stopping: Stopping,
) -> io::Result<()> {
    let seconds = Duration::from_secs;
    let request_timeout = seconds(config.request_timeout_seconds.get());
    let bound = (request_timeout, Arc::clone(&stats));
    let shared = Shared {
        router: router
            .layer(middleware::from_fn_with_state(bound, answering::bounded))
            .layer(middleware::map_response(answering::guarded))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&stats),
                answering::counted,
            )),
        header_timeout: seconds(config.header_timeout_seconds.get()),
        request_timeout,
        stats,
        stopping: stopping.clone(),
    };
    let room = Arc::new(Semaphore::new(config.max_connections.get_usize()));
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            while let Some(ended) = connections.try_join_next() {
                tell(ended);
            }
            // It is never closed.
            let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let (stream, peer) = Listener::accept(&mut listener).await;
            connections.spawn(answer(shared.clone(), stream, peer, place));
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stopping.begun() => {}
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        tell(ended);
    }
    Ok(())
}

fn tell(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "serving a connection has failed");
    }
}

/// One connection. What goes wrong on it is the client's business, but for being counted.
async fn answer(shared: Shared, stream: TcpStream, peer: SocketAddr, _place: OwnedSemaphorePermit) {
    let _counted = shared.stats.connected();
    let router = TowerToHyperService::new(shared.router);
    let service = service_fn(move |mut request: hyper::Request<_>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request)
    });
    let stream = Stream::new(stream, shared.request_timeout, Arc::clone(&shared.stats));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shared.stopping.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        if error.is_timeout() {
            shared.stats.was_slow(Slow::Head);
        }
        tracing::debug!(%error, %peer, "a connection has ended with an error");
    }
}
