//! The connection to APNs: one of HTTP/2, with many requests at a time.
//!
//! A connection that APNs ends (GOAWAY) takes no new requests and finishes those it has begun. A
//! request that it has not looked at, which HTTP/2 says for certain, is sent again on the next
//! connection; one that it may have looked at has no answer, and is left to whoever retries.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use hyper::header::{HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Version};
use tokio::sync::{Mutex, Semaphore};

use crate::guard::Guard;
use crate::http::sockets::{AccountSockets, Sockets};
use crate::http::{self, HttpError};
use crate::push::post::{AGENT, Destination, NoAnswer, Said};
use crate::tls;

/// Most requests that wait for their answers: as many as APNs has of streams on a connection.
const MAX_REQUESTS: usize = 1000;
/// Party under which the connection takes its place: it is kept, and must not take that of others.
const PARTY_OF_APNS: &str = "mail push by APNs";
/// How often a request is sent on another connection, if those before have not looked at it.
const MAX_CONNECTIONS: usize = 4;
/// Most bytes that are read of an answer: a reason has a hundred.
const MAX_ANSWER_BYTES: usize = 4096;

/// How the service is reached.
pub(crate) struct ChannelOptions<'a> {
    /// Scheme and host; `http` is HTTP/2 without TLS.
    pub(crate) endpoint: &'a str,
    /// Whom to trust instead of the system's authorities.
    pub(crate) ca_file: Option<&'a Path>,
    /// Decides where the connection may go.
    pub(crate) guard: Guard,
    /// Places of connections.
    pub(crate) sockets: &'a Sockets,
    /// Longest time of a request.
    pub(crate) timeout: Duration,
}

/// The connection, opened when it is needed.
pub(crate) struct Channel {
    to: Destination,
    guard: Guard,
    sockets: AccountSockets,
    timeout: Duration,
    requests: Semaphore,
    /// Held while a connection is opened: one opens it, and the others wait.
    live: Mutex<Live>,
}

/// The connection at hand.
#[derive(Default)]
struct Live {
    /// Which one it is, from 1.
    number: u64,
    sender: Option<SendRequest<Bytes>>,
}

/// Why a request has no answer.
enum Failed {
    /// The service has not looked at it.
    Unseen(h2::Error),
    /// The service may have taken it.
    Unknown(h2::Error),
}

impl Channel {
    pub(super) fn new(options: ChannelOptions<'_>) -> Result<Self, (&'static str, String)> {
        let to = Destination::parse(options.endpoint);
        let mut to = to.map_err(|error| ("mail_push.apns.endpoint", error))?;
        if let (Some(config), Some(path)) = (&mut to.origin.tls, options.ca_file) {
            let unread = |error: &dyn std::fmt::Display| {
                let text = format!("names `{}`: {error}", path.display());
                ("mail_push.apns.ca_file", text)
            };
            let pem = std::fs::read_to_string(path).map_err(|error| unread(&error))?;
            *config = tls::of_chain(&pem).map_err(|error| unread(&error))?;
        }
        if let Some(config) = &mut to.origin.tls {
            let mut http2 = (**config).clone();
            http2.alpn_protocols = vec![b"h2".to_vec()];
            *config = Arc::new(http2);
        }
        Ok(Self {
            to,
            guard: options.guard,
            sockets: options.sockets.of_account(&Arc::from(PARTY_OF_APNS)),
            timeout: options.timeout,
            requests: Semaphore::new(MAX_REQUESTS),
            live: Mutex::default(),
        })
    }

    /// The service, as the origin of a URL is written.
    pub(super) fn name(&self) -> &str {
        &self.to.name
    }

    /// Posts to a path.
    pub(super) async fn post(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Said, NoAnswer> {
        let mut used = 0;
        let posted = self.exchange(path, headers, body, &mut used);
        if let Ok(said) = tokio::time::timeout(self.timeout, posted).await {
            return said;
        }
        // A connection that is dead may look alive for long.
        self.leave(used).await;
        Err(NoAnswer::Timeout(self.timeout))
    }

    async fn exchange(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: &Bytes,
        used: &mut u64,
    ) -> Result<Said, NoAnswer> {
        // It is never closed.
        let _place = self.requests.acquire().await;
        let mut tries = 0;
        loop {
            let (number, sender) = self.sender().await?;
            *used = number;
            tries += 1;
            let error = match once(sender, self.request(path, headers), body).await {
                Ok(said) => return Ok(said),
                Err(Failed::Unseen(error)) if tries < MAX_CONNECTIONS => {
                    self.leave_after(number, &error).await;
                    continue;
                }
                Err(Failed::Unseen(error) | Failed::Unknown(error)) => error,
            };
            self.leave_after(number, &error).await;
            return Err(error.into());
        }
    }

    fn request(&self, path: &str, headers: &HeaderMap) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        // Both were read as URLs, and a device token has digits only.
        if let Ok(uri) = format!("{}{path}", self.to.name).parse() {
            *request.uri_mut() = uri;
        }
        *request.headers_mut() = headers.clone();
        let agent = HeaderValue::from_static(AGENT);
        request.headers_mut().insert(USER_AGENT, agent);
        request
    }

    /// The connection at hand, or a new one.
    async fn sender(&self) -> Result<(u64, SendRequest<Bytes>), HttpError> {
        let mut live = self.live.lock().await;
        if let Some(sender) = &live.sender {
            return Ok((live.number, sender.clone()));
        }
        let origin = &self.to.origin;
        let addresses = self.guard.addresses(&origin.host, origin.port).await?;
        let place = self.sockets.place().await;
        let opened = http::stream(&addresses, origin, (place, &self.sockets)).await;
        let (stream, place) = opened?;
        let shaken = h2::client::Builder::new()
            .enable_push(false)
            .handshake(stream);
        let (sender, connection) = shaken.await.map_err(HttpError::from)?;
        // What goes wrong on it is told by the requests that are under way.
        tokio::spawn(async move {
            let _ended = connection.await;
            drop(place);
        });
        live.number += 1;
        live.sender = Some(sender.clone());
        Ok((live.number, sender))
    }

    /// Leaves a connection after an error, unless the error is of the one request.
    async fn leave_after(&self, number: u64, error: &h2::Error) {
        if !error.is_reset() {
            self.leave(number).await;
        }
    }

    /// Sends no more requests on a connection; those under way go on.
    async fn leave(&self, number: u64) {
        let mut live = self.live.lock().await;
        if live.number == number {
            live.sender = None;
        }
    }
}

async fn once(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    body: &Bytes,
) -> Result<Said, Failed> {
    let mut sender = sender.ready().await.map_err(Failed::Unseen)?;
    let sent = sender.send_request(request, false);
    let (response, mut sending) = sent.map_err(Failed::Unseen)?;
    // An answer may come before all is sent: it says more than this error.
    let sent = sending.send_data(body.clone(), true);
    let (head, body) = answered(response).await?.into_parts();
    drop(sent);
    Ok(Said {
        status: head.status,
        retry_after: http::retry_after(&head.headers),
        body: beginning(body, head.status).await,
    })
}

async fn answered(
    response: impl Future<Output = Result<hyper::Response<RecvStream>, h2::Error>>,
) -> Result<hyper::Response<RecvStream>, Failed> {
    response.await.map_err(|error| {
        // RFC 9113, 6.8 and 8.7: streams above the one that GOAWAY names, and refused ones.
        let is_unseen = error.is_remote()
            && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
        if is_unseen {
            Failed::Unseen(error)
        } else {
            Failed::Unknown(error)
        }
    })
}

/// The beginning of a body; by its head an answer is complete.
async fn beginning(mut body: RecvStream, status: StatusCode) -> Bytes {
    let mut read = Vec::new();
    while !status.is_success()
        && read.len() < MAX_ANSWER_BYTES
        && let Some(Ok(piece)) = body.data().await
    {
        let room = MAX_ANSWER_BYTES - read.len();
        read.extend_from_slice(&piece[..piece.len().min(room)]);
        // Fails only if more is given back than was taken.
        let _ = body.flow_control().release_capacity(piece.len());
    }
    read.into()
}
