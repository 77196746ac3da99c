//! doveadm over HTTP: METADATA of users without their logins.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::imap::Secret;

/// Longest time for one request, from connecting to the end of the answer.
const REQUEST_WAIT: Duration = Duration::from_secs(30);
/// Longest answer in bytes; an entry has some dozens.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A doveadm service with HTTP.
#[derive(Clone)]
pub struct Doveadm {
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// `X-Dovecot-API ...`
    authorization: Secret,
}

/// Why a text names no doveadm service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDoveadm {
    /// The text is no URL of HTTP with a host.
    #[error("`{0}` is no address like `http://host:8080`")]
    Address(String),
    /// Keys have no place in an address that logs show, and the path is known.
    #[error("the address of doveadm has no user, password, path or query")]
    More,
    /// The API key has characters that no header has.
    #[error("the API key of doveadm is empty")]
    Key,
}

/// Why doveadm has not done what it should.
#[derive(Debug, thiserror::Error)]
pub enum DoveadmError {
    /// doveadm cannot be reached.
    #[error("no connection to doveadm")]
    Away(#[source] std::io::Error),
    /// The connection was no HTTP.
    #[error("doveadm does not answer in HTTP")]
    Http(#[source] hyper::Error),
    /// doveadm has not answered in time.
    #[error("doveadm has not answered within {0:?}")]
    Late(Duration),
    /// doveadm refuses the request; 401 is a wrong API key.
    #[error("doveadm answers with the status {0}")]
    Status(StatusCode),
    /// doveadm reports an error of the command, by the exit code it has on the command line.
    #[error("doveadm reports the error {0}; 67 is an unknown user")]
    Command(i64),
    /// The answer is none of doveadm's.
    #[error("the answer of doveadm cannot be read")]
    Unreadable,
}

impl Doveadm {
    /// The service of an `http:` or `https:` URL, with its API key. Whose certificates are trusted
    /// is in `tls`.
    pub fn new(address: &str, api_key: &str, tls: &Arc<ClientConfig>) -> Result<Self, BadDoveadm> {
        let bad = || BadDoveadm::Address(dovecast_event::brief(address));
        let url = Url::parse(address).map_err(|_| bad())?;
        let has_more = !url.username().is_empty()
            || url.password().is_some()
            || !matches!(url.path(), "/" | "/doveadm/v1")
            || url.query().is_some();
        if has_more {
            return Err(BadDoveadm::More);
        }
        let host = url.host_str().ok_or_else(bad)?.to_owned();
        let bare = host.trim_matches(['[', ']']).to_owned();
        let tls = match url.scheme() {
            "https" => {
                let name = ServerName::try_from(bare.clone()).map_err(|_| bad())?;
                Some((Arc::clone(tls), name))
            }
            "http" => None,
            _ => return Err(bad()),
        };
        let api_key = api_key.trim();
        if api_key.is_empty() {
            return Err(BadDoveadm::Key);
        }
        Ok(Self {
            host: bare,
            port: url.port_or_known_default().ok_or_else(bad)?,
            tls,
            authorization: Secret::new(format!("X-Dovecot-API {}", STANDARD.encode(api_key))),
        })
    }

    /// An entry of METADATA of a user's account.
    pub(super) async fn metadata(
        &self,
        user: &str,
        entry: &str,
    ) -> Result<Option<String>, DoveadmError> {
        let found = self
            .command("mailboxMetadataGet", &arguments(user, entry))
            .await?;
        let value = found.get(0).and_then(|row| row.get("value"));
        Ok(value.and_then(Value::as_str).map(ToOwned::to_owned))
    }

    /// Sets an entry of METADATA of a user's account, or removes it.
    pub(super) async fn set_metadata(
        &self,
        user: &str,
        entry: &str,
        value: Option<&str>,
    ) -> Result<(), DoveadmError> {
        let mut arguments = arguments(user, entry);
        let command = if let Some(value) = value {
            arguments["value"] = value.into();
            "mailboxMetadataSet"
        } else {
            "mailboxMetadataUnset"
        };
        self.command(command, &arguments).await.map(drop)
    }

    /// Runs one command; the rows of its answer.
    async fn command(&self, name: &str, arguments: &Value) -> Result<Value, DoveadmError> {
        let body = json!([[name, arguments, "dovecast"]]).to_string();
        let Ok(answer) = timeout(REQUEST_WAIT, self.request(body)).await else {
            return Err(DoveadmError::Late(REQUEST_WAIT));
        };
        rows(&answer?)
    }

    async fn request(&self, body: String) -> Result<Bytes, DoveadmError> {
        let stream = TcpStream::connect((&*self.host, self.port)).await;
        let stream = stream.map_err(DoveadmError::Away)?;
        match &self.tls {
            None => self.exchange(stream, body).await,
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), stream).await;
                let stream = stream.map_err(DoveadmError::Away)?;
                self.exchange(stream, body).await
            }
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        body: String,
    ) -> Result<Bytes, DoveadmError> {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(DoveadmError::Http)?;
        let request = Request::post("/doveadm/v1")
            .header(HOST, format!("{}:{}", self.host, self.port))
            .header(AUTHORIZATION, self.authorization.reveal())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)));
        let request = request.map_err(|_| DoveadmError::Unreadable)?;
        let exchange = async {
            let answer = sender
                .send_request(request)
                .await
                .map_err(DoveadmError::Http)?;
            if answer.status() != StatusCode::OK {
                return Err(DoveadmError::Status(answer.status()));
            }
            let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
                .collect()
                .await;
            let body = body.map_err(|_| DoveadmError::Unreadable)?;
            Ok(body.to_bytes())
        };
        // The connection moves nothing unless it is polled, too.
        tokio::pin!(exchange, connection);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            ended = &mut connection => {
                ended.map_err(DoveadmError::Http)?;
                exchange.await
            }
        }
    }
}

fn arguments(user: &str, entry: &str) -> Value {
    json!({"user": user, "mailbox": "", "allowEmptyMailboxName": true, "key": entry})
}

/// `[["doveadmResponse", rows, tag]]`, or `[["error", {"exitCode": n}, tag]]`.
fn rows(answer: &[u8]) -> Result<Value, DoveadmError> {
    let mut answer: Value = serde_json::from_slice(answer).map_err(|_| DoveadmError::Unreadable)?;
    let first = answer.get_mut(0).ok_or(DoveadmError::Unreadable)?;
    match first.get(0).and_then(Value::as_str) {
        Some("doveadmResponse") => Ok(first.get_mut(1).map(Value::take).unwrap_or_default()),
        Some("error") => {
            let code = first.get(1).and_then(|error| error.get("exitCode"));
            Err(DoveadmError::Command(
                code.and_then(Value::as_i64).unwrap_or(-1),
            ))
        }
        _ => Err(DoveadmError::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_rows_or_errors() {
        let read = |answer: &str| match rows(answer.as_bytes()) {
            Ok(rows) => rows.to_string(),
            Err(error) => format!("{error:?}"),
        };
        for (answer, expected) in [
            (
                r#"[["doveadmResponse",[{"value":"a"}],"t"]]"#,
                r#"[{"value":"a"}]"#,
            ),
            (
                r#"[["error",{"type":"exitCode","exitCode":67},"t"]]"#,
                "Command(67)",
            ),
            (r#"[["error",{},"t"]]"#, "Command(-1)"),
            ("[]", "Unreadable"),
            ("{", "Unreadable"),
        ] {
            assert_eq!(read(answer), expected, "{answer}");
        }
    }
}
