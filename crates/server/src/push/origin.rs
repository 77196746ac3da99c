//! Origins of web pages (RFC 6454): whether a page of another site asks in the name of the person
//! whose browser shows it.
//!
//! Where a trusted proxy says who the user is, by a cookie for instance, any page could do that
//! (cross-site request forgery, and the same with a WebSocket). Whoever shows a token of its own
//! may ask from wherever it likes: no browser adds one by itself.

use axum::http::header::ORIGIN;
use axum::http::request::Parts;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};
use url::Url;

use crate::api::error::ApiError;
use crate::api::forwarded;

/// An origin as browsers write it: scheme, host, and port unless it is that of the scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin(String);

impl Origin {
    fn of(url: &Url) -> Option<Self> {
        let host = url.host_str().filter(|host| !host.is_empty())?;
        let port = url.port().map(|port| format!(":{port}"));
        let port = port.unwrap_or_default();
        Some(Self(format!("{}://{host}{port}", url.scheme())))
    }

    fn parse(text: &str) -> Option<Self> {
        let origin = Self::of(&Url::parse(text).ok()?)?;
        origin.0.eq_ignore_ascii_case(text).then_some(origin)
    }

    /// Whether it is the one that the request itself was sent to.
    fn is_own(&self, parts: &Parts, proxies: &[IpNet]) -> bool {
        let Some(host) = forwarded::host(parts, proxies) else {
            return false;
        };
        // A proxy that ends TLS may not say so: then each scheme of the host is its own.
        let is_https = forwarded::is_https(parts, proxies);
        let said = self.0.split_once("://").map(|(scheme, _)| scheme);
        let scheme = if is_https { Some("https") } else { said };
        let own = scheme.and_then(|scheme| Url::parse(&format!("{scheme}://{host}")).ok());
        own.as_ref().and_then(Self::of).as_ref() == Some(self)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is no origin, expected one such as `https://mail.example.org`"
            ))
        })
    }
}

/// Refuses what a page of another site asks for.
pub(super) fn check(parts: &Parts, proxies: &[IpNet], allowed: &[Origin]) -> Result<(), ApiError> {
    let mut origins = parts.headers.get_all(ORIGIN).iter().peekable();
    if origins.peek().is_none() {
        if is_embedded_elsewhere(parts) {
            return Err(ApiError::forbidden(
                "A page of another site may not ask in the name of its reader",
            ));
        }
        return Ok(());
    }
    for origin in origins {
        let text = origin.to_str().unwrap_or_default();
        let is_good = |origin: Origin| origin.is_own(parts, proxies) || allowed.contains(&origin);
        if !Origin::parse(text).is_some_and(is_good) {
            return Err(ApiError::forbidden(format!(
                "Requests of pages of `{text}` are not allowed: it is neither the host that was asked nor in `allowed_origins` of [mail_push]"
            )));
        }
    }
    Ok(())
}

/// Whether a page of another origin has loaded it as an image, a script or the like: browsers name
/// no origin of those, but say that it is another one (Fetch Metadata Request Headers).
fn is_embedded_elsewhere(parts: &Parts) -> bool {
    let is = |name: &str, word: &str| {
        let value = parts.headers.get(name);
        value.is_some_and(|value| value == word)
    };
    let is_elsewhere = is("sec-fetch-site", "cross-site") || is("sec-fetch-site", "same-site");
    // A link that was followed is none: the page that had it does not see where it leads.
    is_elsewhere && !is("sec-fetch-mode", "navigate")
}
