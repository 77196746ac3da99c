//! One HTTP/1.1 connection to an endpoint: opened to an address that was checked, used for one
//! request after the other.
//!
//! The connection is driven by whoever uses it: no task of its own, nothing to wake in between.

mod connect;
mod retry_after;
pub mod sockets;
mod status_line;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::guard::{Addresses, GuardError};
use crate::tls;
use sockets::{AccountSockets, SocketPermit};
use status_line::{Noting, StatusLine};

pub use connect::{ConnectError, Tried};
pub(crate) use retry_after::retry_after;

/// Where requests go.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Name or address.
    pub host: url::Host,
    /// Port.
    pub port: u16,
    /// For https.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// There is no address to connect to.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// No address takes the connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The handshake of TLS.
    #[error("TLS: {}", tls::in_words(.0))]
    Tls(io::Error),
    /// The connection breaks, or what comes is no HTTP.
    #[error("{}", told(.0))]
    Http(#[from] hyper::Error),
    /// The connection of HTTP/2 breaks, or what comes is no HTTP/2.
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    /// The connection is over, and nothing has come.
    #[error("the connection was closed before the answer")]
    Closed,
}

/// With what is behind it: hyper's own words seldom say why.
fn told(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Longest head of an answer whose headers are read, in bytes. What has come of a head is parsed
/// anew with each piece of it, so this bounds time as well as memory.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Bytes to and from an origin, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Driver = http1::Connection<TokioIo<Noting<Box<dyn Stream>>>, Full<Bytes>>;

/// A connection.
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    line: Arc<StatusLine>,
    is_over: bool,
    was_used: bool,
    _place: SocketPermit,
}

/// An answer; its body is still to be read.
pub struct Answer {
    /// Status and headers.
    pub head: Response<()>,
    /// `None`: the headers could not be read, and so nothing that comes behind them.
    body: Option<Incoming>,
}

/// Connects to whichever of the addresses takes it, and speaks TLS where the origin does.
pub(crate) async fn stream(
    addresses: &Addresses,
    origin: &Origin,
    (place, sockets): (SocketPermit, &AccountSockets),
) -> Result<(Box<dyn Stream>, SocketPermit), HttpError> {
    let more = || sockets.try_place();
    let connected = connect::connect(addresses, place, more).await;
    let (tcp, place) = connected.inspect_err(|error| {
        tracing::debug!(reasons = error.reasons(), "no address takes a connection");
    })?;
    let stream: Box<dyn Stream> = match &origin.tls {
        None => Box::new(tcp),
        Some(config) => {
            let name = server_name(&origin.host).map_err(HttpError::Tls)?;
            let connector = TlsConnector::from(Arc::clone(config));
            Box::new(connector.connect(name, tcp).await.map_err(HttpError::Tls)?)
        }
    };
    Ok((stream, place))
}

/// How the names of headers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderNames {
    /// `content-type`
    InLowerCase,
    /// `Content-Type`
    InTitleCase,
}

/// How much of a body is read to keep the connection.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// In all.
    pub bytes: usize,
    /// From the head on.
    pub time: Duration,
}

impl Connection {
    /// Connects to whichever of the addresses takes it. The connection has the place; others of
    /// `sockets` are taken for addresses that are tried at the same time, if there are any.
    pub async fn open(
        addresses: &Addresses,
        origin: &Origin,
        places: (SocketPermit, &AccountSockets),
    ) -> Result<Self, HttpError> {
        Self::open_with(addresses, origin, places, HeaderNames::InLowerCase).await
    }

    /// Connects, and writes the names of headers so.
    pub async fn open_with(
        addresses: &Addresses,
        origin: &Origin,
        (place, sockets): (SocketPermit, &AccountSockets),
        names: HeaderNames,
    ) -> Result<Self, HttpError> {
        let (stream, place) = stream(addresses, origin, (place, sockets)).await?;
        let line = Arc::default();
        let (sender, driver) = lenient()
            .title_case_headers(names == HeaderNames::InTitleCase)
            .handshake(TokioIo::new(Noting::new(stream, &line)))
            .await?;
        Ok(Self {
            sender,
            driver,
            line,
            is_over: false,
            was_used: false,
            _place: place,
        })
    }

    /// Whether another request may be sent on it.
    pub fn is_usable(&self) -> bool {
        !self.is_over && self.sender.is_ready()
    }

    /// Whether a failure may be the end of an old connection: it was idle before the request at
    /// hand, to which nothing has come.
    pub fn may_have_been_closed(&self) -> bool {
        self.was_used && !self.line.has_begun()
    }

    /// Sends a request and reads the head of the answer. Of a head with headers that cannot be read
    /// the status counts all the same.
    pub async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
        self.line.clear();
        let mut response = std::pin::pin!(self.sender.send_request(request));
        let (driver, is_over) = (&mut self.driver, &mut self.is_over);
        let response = poll_fn(|context| {
            drive(driver, is_over, context);
            match response.as_mut().poll(context) {
                // Nobody drives it any more: it would be waited for in vain.
                Poll::Pending if *is_over => Poll::Ready(None),
                other => other.map(Some),
            }
        });
        let Some(response) = response.await else {
            return Err(HttpError::Closed);
        };
        match response {
            Ok(response) => {
                let (head, body) = response.into_parts();
                Ok(Answer {
                    head: Response::from_parts(head, ()),
                    body: Some(body),
                })
            }
            Err(error) if error.is_parse() => match self.status() {
                Some(status) => {
                    let mut head = Response::new(());
                    *head.status_mut() = status;
                    Ok(Answer { head, body: None })
                }
                None => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.line.status()?).ok()
    }

    /// Reads the body of an answer, and drops it; `false`: it did not end within the limits, or not
    /// as it should, and the connection is no good any more.
    pub async fn finish(&mut self, answer: Answer, limits: BodyLimits) -> bool {
        self.finish_with(answer, limits, |_| {}).await && self.is_usable()
    }

    /// Reads the body of an answer, and hands it over piece by piece. Whether it ended within the
    /// limits, and as it should: the connection may be closed all the same.
    pub async fn finish_with(
        &mut self,
        answer: Answer,
        limits: BodyLimits,
        take: impl FnMut(&Bytes),
    ) -> bool {
        let Some(mut body) = answer.body else {
            return false;
        };
        let rest = self.rest(&mut body, limits.bytes, take);
        if !tokio::time::timeout(limits.time, rest)
            .await
            .unwrap_or(false)
        {
            return false;
        }
        // The driver has to see the end of the answer before it takes another request.
        poll_fn(|context| {
            drive(&mut self.driver, &mut self.is_over, context);
            Poll::Ready(())
        })
        .await;
        self.was_used = true;
        true
    }

    /// Whether a body ends after at most so many bytes.
    async fn rest(
        &mut self,
        body: &mut Incoming,
        most: usize,
        mut take: impl FnMut(&Bytes),
    ) -> bool {
        let mut read = 0;
        while !body.is_end_stream() && read <= most {
            match self.frame(body).await {
                Some(Ok(bytes)) => {
                    read += bytes.len();
                    take(&bytes);
                }
                Some(Err(_)) => return false,
                None => return true,
            }
        }
        read <= most
    }

    /// The next piece of a body; of trailers nothing.
    async fn frame(&mut self, body: &mut Incoming) -> Option<Result<Bytes, HttpError>> {
        let (driver, is_over) = (&mut self.driver, &mut self.is_over);
        let frame = poll_fn(|context| {
            drive(driver, is_over, context);
            match Pin::new(&mut *body).poll_frame(context) {
                Poll::Pending if *is_over => Poll::Ready(Some(Err(HttpError::Closed))),
                other => other.map_err(HttpError::from),
            }
        });
        let data = |frame: hyper::body::Frame<Bytes>| frame.into_data().unwrap_or_default();
        Some(frame.await?.map(data))
    }

    /// Waits until the other side closes it.
    pub async fn closed(&mut self) {
        poll_fn(|context| {
            drive(&mut self.driver, &mut self.is_over, context);
            if self.is_over {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// What goes wrong on the connection is told by the request that is under way.
fn drive(driver: &mut Driver, is_over: &mut bool, context: &mut Context<'_>) {
    if !*is_over && Pin::new(driver).poll(context).is_ready() {
        *is_over = true;
    }
}

/// As lenient as browsers are: blanks before the colon, folded lines (RFC 9112, 5.1 and 5.2), and
/// lines that are no headers, which are skipped. More headers than 100 are left to the status line:
/// room for more would be allocated for each answer.
fn lenient() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
}

fn server_name(host: &url::Host) -> io::Result<ServerName<'static>> {
    match host {
        url::Host::Domain(name) => ServerName::try_from(name.clone()).map_err(io::Error::other),
        url::Host::Ipv4(address) => Ok(std::net::IpAddr::V4(*address).into()),
        url::Host::Ipv6(address) => Ok(std::net::IpAddr::V6(*address).into()),
    }
}

/// The head of an answer as text, cut after so many bytes.
pub fn head_text(head: &Response<()>, most: usize) -> String {
    let mut text = BytesMut::new();
    let status = head.status();
    text.extend_from_slice(format!("HTTP/1.1 {status}\r\n").as_bytes());
    for (name, value) in head.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            text.extend_from_slice(part);
        }
        if text.len() > most {
            break;
        }
    }
    text.truncate(most);
    String::from_utf8_lossy(&text).into_owned()
}
