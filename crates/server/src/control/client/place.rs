//! Where a running server is asked: at its control socket, or over HTTP for what `pushusers` asks.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use dovecast_drivers::tls;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::mail_push::PREFIX;
use crate::push::admin::ADMIN;

/// Port of `[http] listen` in the default configuration.
const USUAL_PORT: u16 = 8087;
/// Port of whatever adds TLS to it.
const USUAL_TLS_PORT: u16 = 443;

/// A connection of any kind.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Where a server is asked.
pub(super) enum ServerAddress {
    Socket {
        path: PathBuf,
        /// Whether the server must be root's or the caller's own: nobody has named it.
        is_found: bool,
    },
    Http(HttpPlace),
}

/// Another dovecast, by its HTTP.
pub(crate) struct HttpPlace {
    host: String,
    port: u16,
    is_tls: bool,
    /// The header that says user and password.
    pub(super) authorization: String,
}

impl HttpPlace {
    /// A host, with `https://` before it where it is asked over TLS. Without TLS a password goes to
    /// this host only.
    pub(crate) fn new(server: &str, port: Option<u16>, authorization: String) -> Result<Self> {
        let (host, is_tls) = match server.strip_prefix("https://") {
            Some(host) => (host, true),
            None => (server.strip_prefix("http://").unwrap_or(server), false),
        };
        let host = host.trim_end_matches('/');
        let host = host.trim_start_matches('[').trim_end_matches(']');
        ensure!(
            !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']),
            "`{server}` is no name of a server"
        );
        let is_own = host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        ensure!(
            is_tls || is_own,
            "the password would go to `{host}` without encryption: name it as `https://{host}`, or forward a port of it to this host"
        );
        let usual = if is_tls { USUAL_TLS_PORT } else { USUAL_PORT };
        Ok(Self {
            host: host.to_owned(),
            port: port.unwrap_or(usual),
            is_tls,
            authorization,
        })
    }

    /// Path of what the control socket has at this one.
    pub(super) fn path(path: &str) -> String {
        let rest = path.strip_prefix("/v1/push").unwrap_or(path);
        format!("{PREFIX}{ADMIN}{rest}")
    }

    /// Value of the header `Host`.
    pub(super) fn authority(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    pub(super) async fn connect(&self) -> Result<Box<dyn Connection>> {
        let place = self.authority();
        let unable = || format!("Unable to connect to server `{place}`");
        let stream = TcpStream::connect((&*self.host, self.port))
            .await
            .with_context(unable)?;
        if !self.is_tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(self.host.clone()).with_context(unable)?;
        let connector = TlsConnector::from(tls::system().with_context(unable)?);
        let stream = connector.connect(name, stream).await;
        Ok(Box::new(stream.with_context(unable)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(server: &str) -> Result<String> {
        let place = HttpPlace::new(server, None, String::new())?;
        Ok(format!("{} {}", place.authority(), place.is_tls))
    }

    #[test]
    fn a_password_leaves_this_host_over_tls_only() {
        for (server, expected) in [
            ("localhost", "localhost:8087 false"),
            ("127.0.0.1", "127.0.0.1:8087 false"),
            ("http://[::1]/", "[::1]:8087 false"),
            ("https://mail.example.org", "mail.example.org:443 true"),
        ] {
            assert_eq!(place(server).expect(server), expected);
        }
        for server in ["mail.example.org", "192.0.2.1", "http://10.0.0.1"] {
            let error = place(server).expect_err(server).to_string();
            assert!(error.contains("without encryption"), "{error}");
        }
        for server in ["", "https://", "https://a/b", "joe@localhost"] {
            let error = place(server).expect_err(server).to_string();
            assert!(error.contains("is no name of a server"), "{error}");
        }
    }
}
