//! Which IMAP server: address and how the connection is protected, as the configuration says.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use url::{Host, Url};

/// An IMAP server that the operator names.
#[derive(Clone)]
pub struct ImapServer {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) protection: Protection,
}

/// What keeps others from reading along.
#[derive(Clone)]
pub(super) enum Protection {
    /// TLS from the first byte, `imaps:`.
    Tls(Arc<ClientConfig>, ServerName<'static>),
    /// TLS before the login, by STARTTLS.
    StartTls(Arc<ClientConfig>, ServerName<'static>),
    /// None: the operator says `imap_insecure`.
    Nothing,
}

/// Why a text names no IMAP server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadServer {
    /// The text is no URL.
    #[error("`{0}` is no address like `imaps://host:993` or `imap://host:143`")]
    Address(String),
    /// The scheme of the URL is another.
    #[error("`{0}` is none of `imaps` and `imap`")]
    Scheme(String),
    /// Passwords have no place in an address that logs show.
    #[error("the address of an IMAP server has no user, password, path or query")]
    More,
}

impl ImapServer {
    /// The server of a URL: `imaps://host:993`, `imap://host:143`; ports may be left out. With
    /// `imap:` STARTTLS is required unless `insecure` is said. Whose certificates are trusted is in
    /// `tls`.
    pub fn parse(
        address: &str,
        insecure: bool,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, BadServer> {
        let bad = || BadServer::Address(dovecast_event::brief(address));
        let url = Url::parse(address).map_err(|_| bad())?;
        let has_more = !url.username().is_empty()
            || url.password().is_some()
            || !matches!(url.path(), "" | "/")
            || url.query().is_some()
            || url.fragment().is_some();
        if has_more {
            return Err(BadServer::More);
        }
        let host = match url.host().ok_or_else(bad)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        // Schemes that URLs know nothing of leave the numbers of IPv4 as they are.
        let name = ServerName::try_from(host.clone()).map_err(|_| bad())?;
        let (port, protection) = match url.scheme() {
            "imaps" => (993, Protection::Tls(Arc::clone(tls), name)),
            "imap" if insecure => (143, Protection::Nothing),
            "imap" => (143, Protection::StartTls(Arc::clone(tls), name)),
            other => return Err(BadServer::Scheme(dovecast_event::brief(other))),
        };
        Ok(Self {
            host,
            port: url.port().unwrap_or(port),
            protection,
        })
    }
}

impl std::fmt::Debug for ImapServer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "ImapServer({self})")
    }
}

/// As a URL.
impl std::fmt::Display for ImapServer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match self.protection {
            Protection::Tls(..) => "imaps",
            Protection::StartTls(..) | Protection::Nothing => "imap",
        };
        let is_v6 = self.host.contains(':');
        let (open, close) = if is_v6 { ("[", "]") } else { ("", "") };
        write!(out, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls() -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Arc::new(config)
    }

    #[test]
    fn an_address_is_host_and_port_and_nothing_secret() {
        for (address, shown) in [
            (
                "imaps://mail.example.org",
                Ok("imaps://mail.example.org:993"),
            ),
            ("imap://10.0.0.1", Ok("imap://10.0.0.1:143")),
            ("imap://[::1]:1143/", Ok("imap://[::1]:1143")),
            ("http://a", Err(BadServer::Scheme("http".into()))),
            (
                "mail.example.org",
                Err(BadServer::Address("mail.example.org".into())),
            ),
            ("imaps://", Err(BadServer::Address("imaps://".into()))),
            ("imaps://u:p@a", Err(BadServer::More)),
            ("imaps://a/INBOX", Err(BadServer::More)),
        ] {
            let parsed = ImapServer::parse(address, false, &tls());
            let parsed = parsed.map(|server| server.to_string());
            assert_eq!(parsed, shown.map(ToOwned::to_owned), "{address}");
        }
    }
}
