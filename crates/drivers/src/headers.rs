//! Headers of an endpoint's own: which may be set, and what `Authorization` is made of.
//!
//! Values may be secrets: no error here shows one, and what is made of them does not show them
//! either.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{HeaderName, HeaderValue};

/// Headers that are never sent: those that only we set, that are about the connection and not about
/// the request (RFC 9110, 7.6.1), or that say who somebody is to those who believe a proxy.
const NEVER_SENT: [&str; 18] = [
    "connection",
    "content-length",
    "content-type",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-rh-identity",
];
/// What all headers of Standard Webhooks begin with, which are never sent either.
const OF_WEBHOOKS: &str = "webhook-";
/// Headers that are not saved, but sent where an endpoint has had them before this was so: others
/// that say who somebody is, or that open the metadata of a cloud's hosts.
const NOT_SAVED: [&str; 10] = [
    "cf-connecting-ip",
    "client-ip",
    "expect",
    "fastly-client-ip",
    "metadata",
    "metadata-flavor",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-google-metadata-request",
];
/// What families of such headers begin with.
const NOT_SAVED_FAMILIES: [&str; 8] = [
    "proxy-",
    "x-auth-request-",
    "x-aws-ec2-metadata-",
    "x-forwarded-",
    "x-http-method",
    "x-original-",
    "x-remote-",
    "x-rewrite-",
];

/// Why a header cannot be set. Shows neither its name nor its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// RFC 9110, 5.1.
    #[error("is not the name of a header")]
    Name,
    /// CGI, WSGI and Rack read `_` as `-`: one header could be taken for another.
    #[error("has a `_`, which many servers read as `-`")]
    Underscore,
    /// The header says what the request is, how long it is, or who somebody is.
    #[error("is a header that cannot be set")]
    Ours,
    /// RFC 9110, 5.5.
    #[error("has a value that is not ASCII, or has a control character or a blank at its ends")]
    Value,
}

/// RFC 7617 and RFC 6750.
#[derive(Clone)]
pub enum Authorization {
    /// User and password.
    Basic(String, String),
    /// A token.
    Bearer(String),
}

/// Why credentials cannot be sent. Shows nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The user name would end at the colon, where the password begins.
    #[error("the user name has a colon or a control character")]
    Username,
    /// Control characters.
    #[error("the password has a control character")]
    Password,
    /// Only visible ASCII goes into a header.
    #[error("the token is empty or has characters that are not visible ASCII")]
    Token,
}

/// Whether an endpoint may be given a header. Stricter than [`sent`], which takes what endpoints
/// were given earlier.
pub fn check(name: &str, value: &str) -> Result<(), HeaderError> {
    let (name, _) = sent(name, value)?;
    let name = name.as_str();
    let begins = |family: &&str| name.starts_with(family);
    if name.contains('_') {
        return Err(HeaderError::Underscore);
    }
    if NOT_SAVED.contains(&name) || NOT_SAVED_FAMILIES.iter().any(begins) {
        return Err(HeaderError::Ours);
    }
    Ok(())
}

/// A header as it is sent, its value not to be shown. Refuses what would make another request of
/// it.
pub fn sent(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HeaderError> {
    let name = HeaderName::try_from(name).map_err(|_| HeaderError::Name)?;
    if NEVER_SENT.contains(&name.as_str()) || name.as_str().starts_with(OF_WEBHOOKS) {
        return Err(HeaderError::Ours);
    }
    let is_plain = value.is_ascii() && value.trim_ascii() == value;
    let sent = HeaderValue::try_from(value).ok().filter(|_| is_plain);
    let mut sent = sent.ok_or(HeaderError::Value)?;
    sent.set_sensitive(true);
    Ok((name, sent))
}

impl Authorization {
    /// The header's value.
    pub fn value(&self) -> Result<HeaderValue, CredentialError> {
        let has_control = |text: &str| text.chars().any(char::is_control);
        let text = match self {
            Self::Basic(user, _) if user.contains(':') || has_control(user) => {
                return Err(CredentialError::Username);
            }
            Self::Basic(_, password) if has_control(password) => {
                return Err(CredentialError::Password);
            }
            Self::Basic(user, password) => {
                let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
                format!("Basic {pair}")
            }
            Self::Bearer(token) => {
                let is_visible = token.bytes().all(|byte| byte.is_ascii_graphic());
                if token.is_empty() || !is_visible {
                    return Err(CredentialError::Token);
                }
                format!("Bearer {token}")
            }
        };
        // Of both only visible ASCII and one blank are left.
        let mut value = HeaderValue::try_from(text).map_err(|_| CredentialError::Token)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Basic(..) => "Basic(not shown)",
            Self::Bearer(_) => "Bearer(not shown)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_of_ones_own_are_taken_and_their_values_not_shown() {
        for (name, value, expected) in [
            ("X-Api-Key", "geheim", None),
            ("accept", "", None),
            ("Authorization", "Key geheim", None),
            ("X-Tab", "a\tb", None),
            ("", "a", Some(HeaderError::Name)),
            ("a b", "a", Some(HeaderError::Name)),
            ("a:", "a", Some(HeaderError::Name)),
            ("grün", "a", Some(HeaderError::Name)),
            ("HOST", "a", Some(HeaderError::Ours)),
            ("Content-Length", "0", Some(HeaderError::Ours)),
            ("content-type", "a", Some(HeaderError::Ours)),
            ("Connection", "close", Some(HeaderError::Ours)),
            ("Keep-Alive", "1", Some(HeaderError::Ours)),
            ("Proxy-Connection", "a", Some(HeaderError::Ours)),
            ("TE", "trailers", Some(HeaderError::Ours)),
            ("Transfer-Encoding", "chunked", Some(HeaderError::Ours)),
            ("Upgrade", "h2c", Some(HeaderError::Ours)),
            ("Webhook-Id", "1", Some(HeaderError::Ours)),
            ("webhook-anything", "1", Some(HeaderError::Ours)),
            ("X_RH_IDENTITY", "1", Some(HeaderError::Underscore)),
            ("webhook_id", "1", Some(HeaderError::Underscore)),
            ("X-Api_Key", "1", Some(HeaderError::Underscore)),
            ("X-Forwarded-User", "1", Some(HeaderError::Ours)),
            ("X-Forwarded-Client-Cert", "1", Some(HeaderError::Ours)),
            ("X-Remote-User", "1", Some(HeaderError::Ours)),
            ("X-Original-URL", "1", Some(HeaderError::Ours)),
            ("X-Rewrite-URL", "1", Some(HeaderError::Ours)),
            ("X-HTTP-Method-Override", "1", Some(HeaderError::Ours)),
            ("Metadata-Flavor", "Google", Some(HeaderError::Ours)),
            ("X-aws-ec2-metadata-token", "1", Some(HeaderError::Ours)),
            ("Metadata", "true", Some(HeaderError::Ours)),
            ("X-Google-Metadata-Request", "True", Some(HeaderError::Ours)),
            ("CF-Connecting-IP", "1.2.3.4", Some(HeaderError::Ours)),
            ("X-Cluster-Client-IP", "1.2.3.4", Some(HeaderError::Ours)),
            ("Fastly-Client-IP", "1.2.3.4", Some(HeaderError::Ours)),
            ("X-Metadata", "1", None),
            ("Expect", "100-continue", Some(HeaderError::Ours)),
            ("Proxy-X", "1", Some(HeaderError::Ours)),
            ("X-Forward", "1", None),
            ("x", "a\r\nhost: b", Some(HeaderError::Value)),
            ("x", "a\0", Some(HeaderError::Value)),
            ("x", " a", Some(HeaderError::Value)),
            ("x", "a\t", Some(HeaderError::Value)),
            ("x", "grün", Some(HeaderError::Value)),
        ] {
            let checked = check(name, value);
            assert_eq!(checked.err(), expected, "{name}: {value}");
            let shown = format!("{checked:?} {:?}", sent(name, value));
            assert!(!shown.contains("geheim"), "{shown}");
        }
    }

    #[test]
    fn what_was_saved_earlier_is_sent_unless_it_makes_another_request() {
        for (name, is_sent) in [
            ("X-Api-Key", true),
            ("X-Api_Key", true),
            ("Expect", true),
            ("X-Forwarded-Prefix", true),
            ("Proxy-X", true),
            ("Metadata-Flavor", true),
            ("X-Forwarded-For", false),
            ("Proxy-Connection", false),
            ("Transfer-Encoding", false),
            ("Content-Length", false),
            ("Host", false),
            ("webhook-id", false),
        ] {
            assert_eq!(sent(name, "1").is_ok(), is_sent, "{name}");
        }
    }

    #[test]
    fn credentials_are_checked_and_not_shown() {
        let basic = |user: &str, password: &str| Authorization::Basic(user.into(), password.into());
        let bearer = |token: &str| Authorization::Bearer(token.into());
        for (authorization, expected) in [
            (basic("u", "p:w"), Ok("Basic dTpwOnc=")),
            (basic("ü", "ö"), Ok("Basic w7w6w7Y=")),
            (basic("", ""), Ok("Basic Og==")),
            (bearer("geheim|1.2=="), Ok("Bearer geheim|1.2==")),
            (basic("a:b", "geheim"), Err(CredentialError::Username)),
            (basic("a\n", "geheim"), Err(CredentialError::Username)),
            (basic("a", "geheim\n"), Err(CredentialError::Password)),
            (bearer(""), Err(CredentialError::Token)),
            (bearer("geheim geheim"), Err(CredentialError::Token)),
            (bearer("geheim\n"), Err(CredentialError::Token)),
            (bearer("ü"), Err(CredentialError::Token)),
        ] {
            let value = authorization.value();
            let shown = format!("{authorization:?} {value:?}");
            assert!(!shown.contains("geheim"), "{shown}");
            let value = value.map(|value| value.to_str().map(str::to_owned));
            let expected = expected.map(|text| Ok(text.to_owned()));
            assert_eq!(
                value.map(|value| value.map_err(|_| ())),
                expected.map(|text: Result<String, ()>| text)
            );
        }
    }
}
