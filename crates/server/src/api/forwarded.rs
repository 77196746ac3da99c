//! What a trusted proxy says of the request that it hands on: the client's address, and the host
//! and scheme that the client has asked for. The user, whom it names as well, is in `identity`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::header::HOST;
use axum::http::request::Parts;
use ipnet::IpNet;

use super::identity::is_from_one_of;

/// Stands for every client of whose address a trusted proxy says something that is none: all of
/// them count as one, and none of them as the proxy.
pub(crate) const UNREADABLE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The client's address: the last one of X-Forwarded-For that is no proxy of ours, as what stands
/// before it the client may have written; the other end of the connection where no trusted proxy
/// says more. [`UNREADABLE`] where a trusted proxy has written something else in its place.
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
    let headers = parts.headers.get_all("x-forwarded-for").iter().rev();
    // Each by itself: what a client has written spoils nothing of what a proxy has behind it.
    let elements = headers.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    let mut addresses = elements.map(|element| address(element).unwrap_or(UNREADABLE));
    addresses.find(|address| !is_proxy(*address))
}

/// `address`, `address:port`, `[address]` or `[address]:port`.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    };
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    Some(address.or_else(with_port)?.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request};

    use super::*;

    #[test]
    fn the_last_address_that_is_no_proxy_of_ours_is_the_client() {
        let proxies = ["10.0.0.0/8".parse().expect("a network")];
        let check = |peer: &str, headers: &[&[u8]], expected: &str| {
            let mut request = Request::new(());
            for header in headers {
                let value = HeaderValue::from_bytes(header).expect("a header");
                request.headers_mut().append("x-forwarded-for", value);
            }
            let (mut parts, ()) = request.into_parts();
            let peer = SocketAddr::new(peer.parse().expect("an address"), 1);
            parts.extensions.insert(ConnectInfo(peer));
            let found = client(&parts, &proxies).map(|address| address.to_string());
            let headers = headers
                .iter()
                .map(|header| header.escape_ascii().to_string());
            let headers: Vec<String> = headers.collect();
            assert_eq!(found.as_deref(), Some(expected), "{headers:?}");
        };
        let proxy = "10.0.0.9";
        check(proxy, &[b"203.0.113.7"], "203.0.113.7");
        let written = b"198.51.100.1, 203.0.113.7, 10.0.0.1";
        check(proxy, &[written], "203.0.113.7");
        check(proxy, &[b"198.51.100.1", b"203.0.113.7"], "203.0.113.7");
        check(proxy, &[b"10.0.0.1"], proxy);
        check(proxy, &[], proxy);
        check("::ffff:10.0.0.9", &[b"203.0.113.7"], "203.0.113.7");
        // As some proxies write it.
        check(proxy, &[b"203.0.113.7:4711"], "203.0.113.7");
        check(proxy, &[b"[2001:db8::7]"], "2001:db8::7");
        check(proxy, &[b"[2001:db8::7]:4711, 10.0.0.1:80"], "2001:db8::7");
        // Whatever a client has written: it is where the proxy says, and never the proxy.
        check(proxy, &[b"\xff, 203.0.113.7"], "203.0.113.7");
        check(proxy, &[b"203.0.113.7, \xff"], "0.0.0.0");
        check(proxy, &[b"198.51.100.1, unknown"], "0.0.0.0");
        check(proxy, &[b"[203.0.113.7]"], "0.0.0.0");
        check(proxy, &[b""], "0.0.0.0");
        // Whoever is no proxy of ours says nothing of where it is.
        check("198.51.100.1", &[b"203.0.113.7"], "198.51.100.1");
    }
}
