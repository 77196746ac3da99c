//! Posts to push services over HTTP/1.1: one request and its answer, over connections that are kept
//! for the next push to the same host.
//!
//! An answer is its status, the time that it asks to wait, and the beginning of its body. Addresses
//! are checked by the guard before each connection; redirects are not followed.

mod idle;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use url::Url;

use crate::guard::Guard;
use crate::http::sockets::{AccountSockets, Sockets};
use crate::http::{self, BodyLimits, Connection, HttpError, Origin};
use crate::tls;
use idle::Idle;

/// Most of an answer's body that is read: errors of services are a fraction of it.
const BODY: BodyLimits = BodyLimits {
    bytes: 16 * 1024,
    time: Duration::from_secs(5),
};
/// What dovecast calls itself.
pub(super) const AGENT: &str = concat!("dovecast/", env!("CARGO_PKG_VERSION"));
/// Party under which connections for mail push take their places.
pub(super) const PARTY: &str = "mail push";

/// Where a push is posted to.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) origin: Origin,
    /// Scheme, host and port, as the origin of a URL is written.
    pub(super) name: String,
    host: HeaderValue,
    target: Uri,
}

/// What is wrong with a URL; the text goes on behind its name.
pub(super) type BadUrl = String;

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

/// Posts requests; clones share their connections.
#[derive(Clone)]
pub(super) struct Client {
    guard: Guard,
    sockets: AccountSockets,
    timeout: Duration,
    idle: Arc<Idle>,
}

impl NoAnswer {
    /// Whether the request may have come to the service.
    pub(super) fn may_have_come(&self) -> bool {
        let is_before = |error: &HttpError| {
            matches!(
                error,
                HttpError::Guard(_) | HttpError::Connect(_) | HttpError::Tls(_)
            )
        };
        !matches!(self, Self::Http(error) if is_before(error))
    }
}

impl From<h2::Error> for NoAnswer {
    fn from(error: h2::Error) -> Self {
        Self::Http(error.into())
    }
}

impl Destination {
    /// Reads a URL of http or https without a user in it.
    pub(super) fn parse(text: &str) -> Result<Self, BadUrl> {
        let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
        Self::of(&url)
    }

    pub(super) fn of(url: &Url) -> Result<Self, BadUrl> {
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some(tls::system().map_err(|error| format!("cannot be used: {error}"))?),
            _ => return Err("does not begin with `https://` or `http://`".to_owned()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("has a user or a password in it".to_owned());
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err("has no host".to_owned());
        };
        let unfit = |_| "has characters that no request may have".to_owned();
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self {
            name: format!("{}://{authority}", url.scheme()),
            host: HeaderValue::try_from(authority).map_err(|_| "has no host".to_owned())?,
            target: Uri::try_from(target).map_err(unfit)?,
            origin: Origin {
                host: host.to_owned(),
                port,
                tls,
            },
        })
    }
}

impl Client {
    /// Requests go where the guard allows, each within the timeout.
    pub(super) fn new(guard: &Guard, sockets: &Sockets, timeout: Duration) -> Self {
        let sockets = sockets.of_account(&Arc::from(PARTY));
        Self {
            guard: guard.clone(),
            idle: Arc::new(Idle::new(sockets.clone())),
            sockets,
            timeout,
        }
    }

    /// Decides where requests may go.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Posts for an account, whose names bound what is looked up at a time.
    pub(super) async fn post(
        &self,
        account: &Arc<str>,
        to: &Destination,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Said, NoAnswer> {
        let posted = self.exchange(account, to, headers, body);
        match tokio::time::timeout(self.timeout, posted).await {
            Ok(said) => Ok(said?),
            Err(_) => Err(NoAnswer::Timeout(self.timeout)),
        }
    }

    async fn exchange(
        &self,
        account: &Arc<str>,
        to: &Destination,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Said, HttpError> {
        loop {
            let mut connection = match self.idle.take(&to.name) {
                Some(connection) => connection,
                None => self.connect(account, to).await?,
            };
            let request = request(to, headers.clone(), body.clone());
            match connection.exchange(request).await {
                Ok(answer) => return Ok(self.read(to, connection, answer).await),
                // What the service has closed meanwhile says nothing about the service.
                Err(_) if connection.may_have_been_closed() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// By its head an answer is complete: of a body that does not end in time the beginning counts.
    async fn read(
        &self,
        to: &Destination,
        mut connection: Connection,
        answer: http::Answer,
    ) -> Said {
        let status = answer.head.status();
        let retry_after = http::retry_after(answer.head.headers());
        let mut body = Vec::new();
        let take = |piece: &Bytes| {
            let room = BODY.bytes.saturating_sub(body.len());
            body.extend_from_slice(&piece[..piece.len().min(room)]);
        };
        if connection.finish_with(answer, BODY, take).await && connection.is_usable() {
            self.idle.keep(&to.name, connection);
        }
        Said {
            status,
            retry_after,
            body: body.into(),
        }
    }

    async fn connect(&self, account: &Arc<str>, to: &Destination) -> Result<Connection, HttpError> {
        let guard = self.guard.for_account(Arc::clone(account));
        let addresses = guard.addresses(&to.origin.host, to.origin.port).await?;
        let place = self.sockets.place().await;
        Connection::open(&addresses, &to.origin, (place, &self.sockets)).await
    }
}

fn request(to: &Destination, mut headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    headers.insert(HOST, to.host.clone());
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = to.target.clone();
    *request.headers_mut() = headers;
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_origin_and_a_target() {
        for (text, expected) in [
            (
                "http://a.example/x?y=1#z",
                Ok(("http://a.example", "/x?y=1")),
            ),
            ("http://a.example:80", Ok(("http://a.example", "/"))),
            ("http://[::1]:8080/x", Ok(("http://[::1]:8080", "/x"))),
            (
                "http://u:p@a.example/",
                Err("has a user or a password in it"),
            ),
            (
                "ftp://a.example/",
                Err("does not begin with `https://` or `http://`"),
            ),
            ("x", Err("is no URL: relative URL without a base")),
        ] {
            let parsed = Destination::parse(text);
            let parsed = parsed.as_ref().map(|to| (&*to.name, to.target.to_string()));
            let parsed = parsed.as_ref().map(|(name, target)| (*name, &**target));
            assert_eq!(parsed.map_err(|error| &***error), expected, "{text}");
        }
    }
}
