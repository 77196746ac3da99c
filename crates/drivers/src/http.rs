//! One HTTP/1.1 connection to an endpoint: opened to an address that was checked, used for one
//! request after the other.
//!
//! The connection is driven by whoever uses it: no task of its own, nothing to wake in between.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::guard::{Addresses, GuardError};

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
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The handshake of TLS.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The connection breaks, or what comes is no HTTP.
    #[error("{}", told(.0))]
    Http(#[from] hyper::Error),
}

/// With what is behind it: hyper's own words seldom say why.
fn told(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Driver = http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

/// A connection.
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    is_over: bool,
    was_used: bool,
}

/// An answer, with as much of the body as was wanted.
pub struct Answer {
    /// Status and headers.
    pub head: Response<()>,
    /// Whether the body ended within the bound; the connection is no good any more if not.
    pub is_whole: bool,
}

impl Connection {
    /// Connects to the first of the addresses that takes it.
    pub async fn open(addresses: &Addresses, origin: &Origin) -> Result<Self, HttpError> {
        let tcp = connect(addresses).await?;
        let stream: Box<dyn Stream> = match &origin.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = server_name(&origin.host).map_err(HttpError::Tls)?;
                let connector = TlsConnector::from(Arc::clone(config));
                Box::new(connector.connect(name, tcp).await.map_err(HttpError::Tls)?)
            }
        };
        let (sender, driver) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Self {
            sender,
            driver,
            is_over: false,
            was_used: false,
        })
    }

    /// Whether another request may be sent on it.
    pub fn is_usable(&self) -> bool {
        !self.is_over && self.sender.is_ready()
    }

    /// Whether it was idle before the request at hand: a failure may then be the end of an old
    /// connection.
    pub fn was_used(&self) -> bool {
        self.was_used
    }

    /// Sends a request and reads the answer, of its body at most `body_bytes`.
    pub async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        body_bytes: usize,
    ) -> Result<Answer, HttpError> {
        let mut response = std::pin::pin!(self.sender.send_request(request));
        let (driver, is_over) = (&mut self.driver, &mut self.is_over);
        let response = poll_fn(|context| {
            drive(driver, is_over, context);
            response.as_mut().poll(context)
        });
        let (head, mut body) = response.await?.into_parts();
        let mut read = 0;
        let is_whole = loop {
            if body.is_end_stream() {
                break true;
            }
            match self.frame(&mut body).await {
                Some(bytes) => read += bytes?,
                None => break true,
            }
            if read > body_bytes {
                break false;
            }
        };
        // The driver has to see the end of the answer before it takes another request.
        poll_fn(|context| {
            drive(&mut self.driver, &mut self.is_over, context);
            Poll::Ready(())
        })
        .await;
        self.was_used = true;
        Ok(Answer {
            head: Response::from_parts(head, ()),
            is_whole,
        })
    }

    /// Bytes of the next piece of a body.
    async fn frame(&mut self, body: &mut Incoming) -> Option<Result<usize, hyper::Error>> {
        let (driver, is_over) = (&mut self.driver, &mut self.is_over);
        let frame = poll_fn(|context| {
            drive(driver, is_over, context);
            Pin::new(&mut *body).poll_frame(context)
        });
        let length = |frame: hyper::body::Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len);
        Some(frame.await?.map(length))
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

async fn connect(addresses: &Addresses) -> Result<TcpStream, HttpError> {
    let mut failed = None;
    for address in addresses.iter() {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(HttpError::Connect)?;
                return Ok(stream);
            }
            Err(error) => failed = Some(error),
        }
    }
    Err(HttpError::Connect(failed.unwrap_or_else(|| {
        io::Error::other("the name has no address")
    })))
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
