//! Addresses of mail servers in `[mail_push]`: `imaps://host:993`, `imap://host:143`, and doveadm's
//! HTTP API.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use url::Url;

/// An IMAP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImapServer {
    /// Whether TLS begins with the connection; else it begins by STARTTLS, unless `imap_insecure`.
    pub(crate) is_implicit: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Where doveadm's HTTP API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DoveadmUrl(pub(crate) Url);

impl fmt::Display for ImapServer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_implicit { "imaps" } else { "imap" };
        let Self { host, port, .. } = self;
        if host.contains(':') {
            write!(out, "{scheme}://[{host}]:{port}")
        } else {
            write!(out, "{scheme}://{host}:{port}")
        }
    }
}

impl<'de> Deserialize<'de> for ImapServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        imap_server(&text).ok_or_else(|| {
            de::Error::custom(
                "this is no IMAP server, expected one such as `imaps://mail.example.org:993` or `imap://mail.example.org:143`",
            )
        })
    }
}

/// A URL without a user: passwords do not stand in URLs.
fn imap_server(text: &str) -> Option<ImapServer> {
    let url = Url::parse(text).ok()?;
    let (is_implicit, port) = match url.scheme() {
        "imaps" => (true, 993),
        "imap" => (false, 143),
        _ => return None,
    };
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none();
    let host = url.host_str().filter(|host| !host.is_empty())?;
    // A name of an IPv6 address has brackets in a URL only.
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    // Certificates are of such names only.
    rustls::pki_types::ServerName::try_from(&*host).ok()?;
    is_plain.then_some(ImapServer {
        is_implicit,
        host,
        port: url.port().unwrap_or(port),
    })
}

impl<'de> Deserialize<'de> for DoveadmUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let url = Url::parse(&text).ok().filter(|url| {
            let is_http = matches!(url.scheme(), "http" | "https");
            is_http && url.username().is_empty() && url.password().is_none()
        });
        url.map(Self).ok_or_else(|| {
            de::Error::custom(
                "this is no URL of doveadm's HTTP API, expected one such as `http://mail.example.org:8080/doveadm/v1`, without a user",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imap_server_is_a_url_without_anything_else() {
        for (text, expected) in [
            (
                "imaps://mail.example.org",
                Some((true, "mail.example.org", 993)),
            ),
            ("imap://127.0.0.1:1143", Some((false, "127.0.0.1", 1143))),
            ("imaps://[::1]:993/", Some((true, "::1", 993))),
            ("imap://joe:geheim@host", None),
            ("imap://", None),
            ("imaps://mail..example.org", None),
            ("imap://host/INBOX", None),
            ("https://host", None),
            ("host:143", None),
        ] {
            let found = imap_server(text);
            let found = found
                .as_ref()
                .map(|it| (it.is_implicit, &*it.host, it.port));
            assert_eq!(found, expected, "{text}");
        }
    }
}
