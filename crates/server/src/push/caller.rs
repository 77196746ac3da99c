//! Who a request for mail push comes from, and from which address.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use dovecast_operations::push::PushCaller;

use super::PushApi;
use super::routes::PushError;
use crate::api::identity::{Shown, is_from_one_of, shown};

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
        Ok(match shown(parts, &api.0.trusted_proxies)? {
            Shown::Identity(number, profile) => Self {
                caller: acts.caller_of_identity(&number, &profile)?,
                token: None,
            },
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
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|ConnectInfo(peer)| peer.ip().to_canonical());
        let proxies = &api.0.trusted_proxies;
        let client = if is_from_one_of(parts, proxies) {
            forwarded(parts, |address| {
                proxies.iter().any(|proxy| proxy.contains(&address))
            })
        } else {
            None
        };
        Ok(Self(client.or(peer).map_or(String::new(), network)))
    }
}

/// The last address that X-Forwarded-For names and that is no proxy of ours: what stands before it
/// the client may have written.
fn forwarded(parts: &Parts, is_proxy: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let headers = parts.headers.get_all("x-forwarded-for");
    let texts: Vec<&str> = headers
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let addresses = texts.iter().flat_map(|text| text.split(','));
    let addresses: Vec<Option<IpAddr>> = addresses
        .map(|text| text.trim().parse::<IpAddr>().ok())
        .collect();
    for address in addresses.into_iter().rev() {
        let address = address?.to_canonical();
        if !is_proxy(address) {
            return Some(address);
        }
    }
    None
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
    use axum::http::Request;

    use super::*;

    #[test]
    fn the_last_address_that_is_no_proxy_of_ours_counts() {
        for (headers, expected) in [
            (&["203.0.113.7"][..], Some("203.0.113.7")),
            (
                &["198.51.100.1, 203.0.113.7, 10.0.0.1"],
                Some("203.0.113.7"),
            ),
            (&["198.51.100.1", "203.0.113.7"], Some("203.0.113.7")),
            (&["198.51.100.1, unknown"], None),
            (&["10.0.0.1"], None),
            (&[], None),
        ] {
            let mut request = Request::new(());
            for header in headers {
                let value = header.parse().expect("a header");
                request.headers_mut().append("x-forwarded-for", value);
            }
            let (parts, ()) = request.into_parts();
            let is_proxy = |address: IpAddr| address.to_string().starts_with("10.");
            let found = forwarded(&parts, is_proxy).map(network);
            assert_eq!(found.as_deref(), expected, "{headers:?}");
        }
        let host = "2001:db8:1:2:3:4:5:6".parse().expect("an address");
        assert_eq!(network(host), "2001:db8:1:2::/64");
    }
}
