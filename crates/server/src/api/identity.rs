//! Who a request comes from: a user behind a proxy that is trusted, or a token.
//!
//! What an operation needs is the type of its first argument: [`Anyone`], [`Tenant`],
//! [`Registrar`], [`Sender`], [`Operator`]; whether the caller is one is decided by [`Caller`].

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_operations::{Anyone, Caller, Operator, Registrar, Sender, Tenant, account_number};
use dovecast_store::Profile;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Api;
use super::error::ApiError;

/// Header that each delivery of a webhook has, and no endpoint can take away.
const WEBHOOK_ID: &str = "webhook-id";
/// Header in which a trusted proxy names the user; see `docs/rest.md`.
pub(crate) const IDENTITY: &str = "x-rh-identity";

/// The longest name of a user, in characters: it is looked up, and PostgreSQL's indexes take no
/// long texts.
const MAX_CHARS: usize = 255;

impl FromRequestParts<Api> for Anyone {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        Ok(identify(parts, api).await?.anyone())
    }
}

impl FromRequestParts<Api> for Tenant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        Ok(identify(parts, api).await?.tenant()?)
    }
}

impl FromRequestParts<Api> for Registrar {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        // Whoever has sent it, the header marks a request from outside.
        if parts.headers.contains_key(IDENTITY) {
            return Err(ApiError::forbidden(
                "Requests with X-RH-IDENTITY are not allowed to register apps.",
            ));
        }
        Ok(identify(parts, api).await?.registrar()?)
    }
}

impl FromRequestParts<Api> for Sender {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        // Users get notifications; applications send them.
        if parts.headers.contains_key(IDENTITY) {
            return Err(ApiError::forbidden(
                "Requests with X-RH-IDENTITY are not allowed to send notifications.",
            ));
        }
        Ok(identify(parts, api).await?.sender()?)
    }
}

impl FromRequestParts<Api> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        Ok(identify(parts, api).await?.operator()?)
    }
}

impl Api {
    /// Whether the other end of the connection is a proxy that is believed.
    pub(crate) fn is_behind_proxy(&self, parts: &Parts) -> bool {
        is_from_one_of(parts, &self.trusted_proxies)
    }
}

async fn identify(parts: &Parts, api: &Api) -> Result<Caller, ApiError> {
    // Owners of endpoints choose where deliveries go: a delivery must not act here, where it could
    // be sent as a message for ever, or in the name of a proxy that is trusted.
    if parts.headers.contains_key(WEBHOOK_ID) {
        return Err(ApiError::forbidden(
            "Requests with the header `webhook-id` are not allowed: a webhook cannot be delivered to this API",
        ));
    }
    let mut identities = parts.headers.get_all(IDENTITY).iter();
    if let Some(identity) = identities.next().filter(|_| api.is_behind_proxy(parts)) {
        // One of two would be the client's own, which the proxy has let through.
        return match identities.next() {
            None => user(identity, api).await,
            Some(_) => Err(unreadable()),
        };
    }
    let Some(authorization) = parts.headers.get(AUTHORIZATION) else {
        let reason = "`Authorization: Bearer TOKEN`, or by a trusted proxy the X-RH-IDENTITY header, should be provided";
        return Err(ApiError::Authentication(reason.to_owned()));
    };
    let refused = || ApiError::Authentication("The API token is not valid".to_owned());
    let token = bearer(authorization).ok_or_else(refused)?;
    Ok(api.operations.caller_of_token(token).await?)
}

fn bearer(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim())
        .filter(|token| !token.is_empty())
}

async fn user(header: &HeaderValue, api: &Api) -> Result<Caller, ApiError> {
    let (number, profile) = named(header)?;
    let caller = api.operations.caller_of_identity(&number, &profile).await?;
    Ok(caller)
}

/// The number of the account, and the user, whom the header names.
fn named(header: &HeaderValue) -> Result<(String, Profile), ApiError> {
    let identity = read(header.as_bytes()).ok_or_else(unreadable)?;
    if identity.is_inactive {
        return Err(ApiError::forbidden(
            "The user of X-RH-IDENTITY is not active (`is_active` is false)",
        ));
    }
    Ok((identity.number, identity.profile))
}

/// What a request shows of who it comes from.
pub(crate) enum Shown<'a> {
    /// The number of an account and a user, by a trusted proxy.
    Identity(String, Box<Profile>),
    /// A token.
    Token(&'a str),
}

/// What a request shows, whoever may do what.
pub(crate) fn shown<'a>(
    parts: &'a Parts,
    trusted_proxies: &[IpNet],
) -> Result<Shown<'a>, ApiError> {
    if parts.headers.contains_key(WEBHOOK_ID) {
        return Err(ApiError::forbidden(
            "Requests with the header `webhook-id` are not allowed: a webhook cannot be delivered to this API",
        ));
    }
    let mut identities = parts.headers.get_all(IDENTITY).iter();
    let is_trusted = is_from_one_of(parts, trusted_proxies);
    if let Some(identity) = identities.next().filter(|_| is_trusted) {
        return match identities.next() {
            None => named(identity).map(|(number, user)| Shown::Identity(number, Box::new(user))),
            Some(_) => Err(unreadable()),
        };
    }
    let Some(authorization) = parts.headers.get(AUTHORIZATION) else {
        let reason = "`Authorization: Bearer TOKEN` should be provided";
        return Err(ApiError::Authentication(reason.to_owned()));
    };
    let refused = || ApiError::Authentication("The token is not valid".to_owned());
    bearer(authorization).map(Shown::Token).ok_or_else(refused)
}

/// Whether the other end of the connection is one of these proxies.
pub(crate) fn is_from_one_of(parts: &Parts, proxies: &[IpNet]) -> bool {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.is_some_and(|ConnectInfo(peer)| {
        // An IPv4 client of an IPv6 socket.
        let peer: IpAddr = peer.ip().to_canonical();
        proxies.iter().any(|proxy| proxy.contains(&peer))
    })
}

fn unreadable() -> ApiError {
    ApiError::Authentication("Error parsing the X-RH-IDENTITY header".to_owned())
}

/// What the header says in base64.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    identity: Identity<'a>,
}

#[derive(Deserialize)]
struct Identity<'a> {
    #[serde(borrow)]
    account_number: &'a RawValue,
    user: User,
    #[serde(borrow, default)]
    internal: Option<Internal<'a>>,
}

#[derive(Deserialize)]
struct User {
    username: String,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    locale: Option<String>,
    is_active: Option<bool>,
    is_org_admin: Option<bool>,
    is_internal: Option<bool>,
}

#[derive(Deserialize)]
struct Internal<'a> {
    #[serde(borrow)]
    org_id: Option<&'a RawValue>,
}

/// A user whom the header names.
struct Named {
    /// Number of the account.
    number: String,
    profile: Profile,
    /// Whether the proxy says that the user may do nothing; one that says nothing of it lets the
    /// user in.
    is_inactive: bool,
}

/// The number of the account, and the user.
pub(super) fn parse(header: &[u8]) -> Option<(String, Profile)> {
    read(header).map(|named| (named.number, named.profile))
}

fn read(header: &[u8]) -> Option<Named> {
    // Encoders that break lines are known.
    let packed: Vec<u8> = header
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let json = STANDARD.decode(packed).ok()?;
    // PostgreSQL stores no NUL, and nobody has one in a name.
    if json.windows(6).any(|window| window == br"\u0000") {
        return None;
    }
    let Header { identity } = serde_json::from_slice(&json).ok()?;
    let number = written(identity.account_number)?;
    account_number(&number).ok()?;
    let user = identity.user;
    let is_long = |text: &str| text.chars().count() > MAX_CHARS;
    if user.username.trim().is_empty() || is_long(&user.username) {
        return None;
    }
    let org_id = identity.internal.and_then(|internal| internal.org_id);
    let profile = Profile {
        username: user.username,
        email: user.email,
        first_name: user.first_name,
        last_name: user.last_name,
        locale: user.locale,
        org_id: org_id.and_then(written),
        is_active: user.is_active.unwrap_or_default(),
        is_org_admin: user.is_org_admin.unwrap_or_default(),
        is_internal: user.is_internal.unwrap_or_default(),
    };
    Some(Named {
        number,
        profile,
        is_inactive: user.is_active == Some(false),
    })
}

/// A number that is written as a number, whatever its length, or as text; blanks around it do not
/// count. A reader of JSON would make one number of two long ones.
fn written(json: &RawValue) -> Option<String> {
    let json = json.get();
    if json.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(json.to_owned());
    }
    let text: String = serde_json::from_str(json).ok()?;
    let text = text.trim();
    let is_one = !text.is_empty() && !text.chars().any(char::is_control);
    is_one.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(json: &str) -> Vec<u8> {
        STANDARD.encode(json).into_bytes()
    }

    #[test]
    fn an_identity_is_read_with_what_it_has() {
        let all = r#"{"identity":{"account_number":"6089719","type":"User","user":{"username":"joe","email":"joe@example.org",
            "first_name":"Joe","last_name":"User","is_active":true,"is_org_admin":false,"is_internal":true,
            "locale":"en_US"},"internal":{"org_id":"3340851"}}}"#;
        let (number, profile) = parse(&encoded(all)).expect("an identity");
        assert_eq!((&*number, &*profile.username), ("6089719", "joe"));
        assert_eq!(profile.org_id.as_deref(), Some("3340851"));
        assert!(profile.is_active && profile.is_internal && !profile.is_org_admin);
        let least = r#"{"identity":{"account_number":7,"user":{"username":"joe"}}}"#;
        assert_eq!(parse(&encoded(least)).expect("an identity").0, "7");
        for (number, expected) in [
            ("123456789012345678901", "123456789012345678901"),
            ("123456789012345678902", "123456789012345678902"),
            ("\" 1001 \"", "1001"),
            ("\"Alice@x.example\"", "Alice@x.example"),
        ] {
            let json = format!(
                r#"{{"identity":{{"account_number":{number},"user":{{"username":"joe"}}}}}}"#
            );
            assert_eq!(parse(&encoded(&json)).expect(number).0, expected);
        }
        let mut broken = encoded(least);
        broken.insert(20, b' ');
        assert!(parse(&broken).is_some());
    }

    #[test]
    fn what_is_no_identity_is_none() {
        let long = "1".repeat(256);
        for json in [
            "",
            "{}",
            r#"{"identity":{}}"#,
            r#"{"identity":{"account_number":"1"}}"#,
            r#"{"identity":{"account_number":"","user":{"username":"joe"}}}"#,
            r#"{"identity":{"account_number":null,"user":{"username":"joe"}}}"#,
            r#"{"identity":{"account_number":1.5,"user":{"username":"joe"}}}"#,
            r#"{"identity":{"account_number":1e20,"user":{"username":"joe"}}}"#,
            r#"{"identity":{"account_number":-1,"user":{"username":"joe"}}}"#,
            r#"{"identity":{"account_number":"1\n2","user":{"username":"joe"}}}"#,
            r#"{"identity":{"account_number":"1","user":{"username":" "}}}"#,
            r#"{"identity":{"account_number":"1","user":{"username":"a\u0000"}}}"#,
            &format!(r#"{{"identity":{{"account_number":"{long}","user":{{"username":"a"}}}}}}"#),
            &format!(r#"{{"identity":{{"account_number":"1","user":{{"username":"{long}"}}}}}}"#),
        ] {
            assert!(parse(&encoded(json)).is_none(), "{json}");
        }
        assert!(parse(b"{}").is_none() && parse(b"\xff").is_none());
    }
}
