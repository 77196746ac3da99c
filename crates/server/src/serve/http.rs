//! HTTP for whoever can connect: so many connections at a time, in all and from one address, and
//! nobody is waited for without end.
//!
//! A client has a time for the head of a request, and one between two requests; a request with its
//! body has one until it is answered; an answer that is not read on has the same. What is beyond
//! the bound of all connections waits in the backlog of the socket; what is beyond that of an
//! address is refused. Each listener has bounds of its own. A connection that becomes a stream
//! gives its place back (`streaming`).

mod answering;
pub(crate) mod limits;
mod places;
mod progress;
pub(crate) mod stats;
mod stream;
pub(crate) mod streaming;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::middleware;
use dovecast_log::LineLimit;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};

use super::Stopping;
use limits::{Limits, Times};
pub(crate) use places::network;
use places::{ConnectionPermit, Places};
use progress::Progress;
use stats::{HttpStats, Slow};
use stream::Stream;
use streaming::StreamConnection;

/// Longest head of a request, in bytes: more than proxies let through (8 to 32 KiB), and what each
/// of many unfinished heads may take in memory.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// What a connection is answered whose address has as many as it may have.
const TOO_MANY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-type: text/plain\r\ncontent-length: 46\r\n\r\n\
    there are too many connections from this host\n";
/// About connections that are refused: who opens one can open thousands.
static REFUSED_LINES: LineLimit = LineLimit::a_minute(1);
/// About connections that cannot be accepted: that goes on until there is something to accept with.
static ACCEPT_LINES: LineLimit = LineLimit::a_minute(1);
/// How long after an error the next connection is accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What answers on one listener.
pub(super) struct Door {
    shared: Shared,
    places: Places,
}

/// What all connections of a listener have in common.
#[derive(Clone)]
struct Shared {
    router: Router,
    times: Times,
    stats: Arc<HttpStats>,
    is_counted: bool,
    per_address_is: &'static str,
    stopping: Stopping,
}

impl Door {
    pub(super) fn new(
        router: Router,
        limits: &Limits,
        stats: &Arc<HttpStats>,
        stopping: &Stopping,
    ) -> Self {
        let bound = (limits.times.request, Arc::clone(stats));
        let router = router
            .layer(middleware::from_fn_with_state(bound, answering::bounded))
            .layer(middleware::map_response(answering::guarded))
            .layer(middleware::from_fn_with_state(
                Arc::clone(stats),
                answering::counted,
            ));
        Self {
            places: Places::new(limits),
            shared: Shared {
                router,
                times: limits.times,
                stats: Arc::clone(stats),
                is_counted: limits.is_counted,
                per_address_is: limits.per_address_is,
                stopping: stopping.clone(),
            },
        }
    }

    /// Answers until the server is stopped; what is under way then may end.
    pub(super) async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let mut connections = JoinSet::new();
        let accepting = async {
            loop {
                while let Some(ended) = connections.try_join_next() {
                    tell(ended);
                }
                let Some(room) = self.places.room().await else {
                    return;
                };
                let (stream, peer) = accept(&listener, &self.shared.stats).await;
                match self.places.place(room, peer.ip()) {
                    Some(place) => {
                        connections.spawn(answer(self.shared.clone(), stream, peer, place));
                    }
                    None => self.shared.refuse(&stream, peer),
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = self.shared.stopping.begun() => {}
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            tell(ended);
        }
        Ok(())
    }
}

impl Shared {
    /// Says why, if the client waits to hear it, and closes.
    fn refuse(&self, stream: &TcpStream, peer: SocketAddr) {
        self.stats.was_refused();
        // The buffer of a new connection is empty: this is all of it or nothing.
        let _ = stream.try_write(TOO_MANY);
        if let Some(suppressed) = REFUSED_LINES.take_counted() {
            tracing::warn!(
                address = %peer.ip(),
                suppressed,
                "a connection is refused: its address has {} already",
                self.per_address_is
            );
        }
    }
}

/// The next connection, whatever fails until then: a client that is gone already, or want of
/// descriptors, which is retried.
async fn accept(listener: &TcpListener, stats: &HttpStats) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                stats.was_not_accepted();
                if let Some(suppressed) = ACCEPT_LINES.take_counted() {
                    tracing::error!(%error, suppressed, "no HTTP connection can be accepted; this is retried");
                }
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

fn tell(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "serving a connection has failed");
    }
}

/// One connection. What goes wrong on it is the client's business, but for being counted.
async fn answer(shared: Shared, stream: TcpStream, peer: SocketAddr, place: ConnectionPermit) {
    let _counted = shared.is_counted.then(|| shared.stats.connected());
    let router = TowerToHyperService::new(shared.router);
    let progress = Arc::<Progress>::default();
    // Of a client that is not there any more nobody says so: what is sent to it waits for ever. It
    // has as long as one that does not read; a stream is sent pings.
    let lost = SockRef::from(&stream).set_tcp_user_timeout(Some(shared.times.request));
    if let Err(error) = lost {
        tracing::debug!(%error, %peer, "a client that is gone will be noticed late");
    }
    let stream = Stream::new(
        stream,
        shared.times,
        Arc::clone(&progress),
        Arc::clone(&shared.stats),
    );
    let connection = StreamConnection::new(place, &progress);
    let service = service_fn(move |mut request: hyper::Request<_>| {
        let under_way = progress.begin();
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(connection.clone());
        let answered = router.call(request);
        async move { Ok::<_, Infallible>(under_way.until_written(answered.await?)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(MAX_HEAD_BYTES)
        // The time of a head is the stream's.
        .header_read_timeout(shared.times.idle)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
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
            shared.stats.was_slow(Slow::Idle);
        }
        tracing::debug!(%error, %peer, "a connection has ended with an error");
    }
}
