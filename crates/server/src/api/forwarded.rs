//! What a trusted proxy says of the request that it hands on: the client's address, and the host
//! and scheme that the client has asked for. The user, whom it names as well, is in `identity`.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::header::HOST;
use axum::http::request::Parts;
use ipnet::IpNet;

use super::identity::is_from_one_of;

/// The client's address: the last one of X-Forwarded-For that is no proxy of ours, as what stands
/// before it the client may have written; the other end of the connection where no trusted proxy
/// says more.
pub(crate) fn client(parts: &Parts, proxies: &[IpNet]) -> Option<IpAddr> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map(|ConnectInfo(peer)| peer.ip().to_canonical());
    let client = is_from_one_of(parts, proxies).then(|| {
        last_address(parts, |address| {
            proxies.iter().any(|proxy| proxy.contains(&address))
        })
    });
    client.flatten().or(peer)
}

/// Host, and port if it is named, as the client has asked for it.
pub(crate) fn host(parts: &Parts, proxies: &[IpNet]) -> Option<String> {
    let authority = || parts.uri.authority().map(ToString::to_string);
    said(parts, proxies, "x-forwarded-host")
        .or_else(|| first(parts, HOST.as_str()))
        .or_else(authority)
}

/// Whether the client has asked with TLS, as far as a trusted proxy says it.
pub(crate) fn is_https(parts: &Parts, proxies: &[IpNet]) -> bool {
    said(parts, proxies, "x-forwarded-proto").is_some_and(|scheme| scheme == "https")
}

/// What a header says, if a trusted proxy has sent it.
fn said(parts: &Parts, proxies: &[IpNet], name: &str) -> Option<String> {
    let is_trusted = is_from_one_of(parts, proxies);
    is_trusted.then(|| first(parts, name)).flatten()
}

/// The first value of a list: the first proxy is the client's.
fn first(parts: &Parts, name: &str) -> Option<String> {
    let value = parts.headers.get(name)?.to_str().ok()?;
    let first = value.split(',').next()?.trim();
    (!first.is_empty()).then(|| first.to_owned())
}

fn last_address(parts: &Parts, is_proxy: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
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

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn the_last_address_that_is_no_proxy_of_ours_is_the_client() {
        let proxies = ["10.0.0.0/8".parse().expect("a network")];
        let check = |peer: &str, headers: &[&str], expected: &str| {
            let mut request = Request::new(());
            for header in headers {
                let value = header.parse().expect("a header");
                request.headers_mut().append("x-forwarded-for", value);
            }
            let (mut parts, ()) = request.into_parts();
            let peer = SocketAddr::new(peer.parse().expect("an address"), 1);
            parts.extensions.insert(ConnectInfo(peer));
            let found = client(&parts, &proxies).map(|address| address.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{headers:?}");
        };
        let proxy = "10.0.0.9";
        check(proxy, &["203.0.113.7"], "203.0.113.7");
        let written = ["198.51.100.1, 203.0.113.7, 10.0.0.1"];
        check(proxy, &written, "203.0.113.7");
        check(proxy, &["198.51.100.1", "203.0.113.7"], "203.0.113.7");
        check(proxy, &["198.51.100.1, unknown"], proxy);
        check(proxy, &["10.0.0.1"], proxy);
        check(proxy, &[], proxy);
        check("::ffff:10.0.0.9", &["203.0.113.7"], "203.0.113.7");
        // Whoever is no proxy of ours says nothing of where it is.
        check("198.51.100.1", &["203.0.113.7"], "198.51.100.1");
    }
}
