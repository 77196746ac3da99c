//! Who a request for mail push comes from, and from which address.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use dovecast_operations::push::PushCaller;

use super::routes::PushError;
use super::{PushApi, origin};
use crate::api::forwarded;
use crate::api::identity::{Shown, shown};

/// The person who asks, and the token that was shown.
pub(super) struct Identified {
    pub(super) caller: PushCaller,
    pub(super) token: Option<String>,
}

/// From where a request comes, as tries to log in are counted by it: an address of IPv4, or a
/// network of IPv6, of which one host has all.
pub(super) struct From(pub(super) String);

impl FromRequestParts<PushApi> for Identified {
    type Rejection = PushError;

    async fn from_request_parts(parts: &mut Parts, api: &PushApi) -> Result<Self, PushError> {
        let acts = &api.0.acts;
        let proxies = &api.0.trusted_proxies;
        Ok(match shown(parts, proxies)? {
            Shown::Identity(number, profile) => {
                origin::check(parts, proxies, &api.0.allowed_origins)?;
                Self {
                    caller: acts.caller_of_identity(&number, &profile).await?,
                    token: None,
                }
            }
            Shown::Token(token) => Self {
                caller: acts.caller_of_token(token).await?,
                token: Some(token.to_owned()),
            },
        })
    }
}

impl FromRequestParts<PushApi> for From {
    type Rejection = PushError;

    async fn from_request_parts(parts: &mut Parts, api: &PushApi) -> Result<Self, PushError> {
        let client = forwarded::client(parts, &api.0.trusted_proxies);
        Ok(Self(client.map_or(String::new(), network)))
    }
}

fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv6_counts_as_its_network() {
        let host = "2001:db8:1:2:3:4:5:6".parse().expect("an address");
        assert_eq!(network(host), "2001:db8:1:2::/64");
    }
}
