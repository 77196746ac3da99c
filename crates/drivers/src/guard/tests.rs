//! Addresses, and where requests may go.

use super::*;

#[test]
fn only_public_addresses_are_allowed() {
    for (address, expected) in [
        ("8.8.8.8", true),
        ("172.32.0.1", true),
        ("2606:4700::1111", true),
        ("127.0.0.1", false),
        ("127.9.9.9", false),
        ("0.0.0.0", false),
        ("10.1.2.3", false),
        ("172.16.0.1", false),
        ("172.31.255.255", false),
        ("192.168.1.1", false),
        ("169.254.169.254", false),
        ("100.64.0.1", false),
        ("198.18.0.1", false),
        ("224.0.0.1", false),
        ("255.255.255.255", false),
        ("::", false),
        ("::1", false),
        ("::ffff:127.0.0.1", false),
        ("::ffff:8.8.8.8", true),
        ("::127.0.0.1", false),
        ("64:ff9b::10.0.0.1", false),
        ("64:ff9b::8.8.8.8", true),
        ("2002:7f00:1::", false),
        ("2002:0808:0808::", true),
        ("2001::1", false),
        ("2001:db8::1", false),
        ("fe80::1", false),
        ("fc00::1", false),
        ("fd12::1", false),
        ("ff02::1", false),
        ("3ffe::1", false),
        ("3fff:1::1", false),
        ("192.52.193.1", false),
        ("192.175.48.1", false),
    ] {
        let parsed = SocketAddr::new(address.parse().expect(address), 443);
        assert_eq!(Guard::new(&[]).allows(parsed), expected, "{address}");
    }
}

#[test]
fn a_network_of_the_configuration_is_allowed_in_each_form() {
    let guard = Guard::new(&["127.0.0.0/8".parse().expect("a network")]);
    for address in ["127.0.0.1", "::ffff:127.0.0.1"] {
        let address = SocketAddr::new(address.parse().expect("an address"), 25);
        assert!(guard.allows(address), "{address}");
    }
    assert!(!guard.allows("10.0.0.1:80".parse().expect("an address")));
}

/// A host whose interface has a public address.
fn at_8_8_8_8(allowed: &[&str]) -> Guard {
    let allowed = allowed.iter().map(|text| text.parse().expect("a network"));
    let allowed: Vec<_> = allowed.collect();
    let own = OwnAddresses::found_by(|| Ok([Ipv4Addr::new(8, 8, 8, 8).into()].into()));
    Guard {
        own: Arc::new(own),
        ..Guard::new(&allowed)
    }
}

#[tokio::test]
async fn the_own_addresses_of_the_host_are_refused_unless_allowed() {
    let own = url::Host::Ipv4(Ipv4Addr::new(8, 8, 8, 8));
    let other = url::Host::Ipv4(Ipv4Addr::new(8, 8, 4, 4));
    let guard = at_8_8_8_8(&[]);
    guard.addresses(&other, 443).await.expect("another host");
    let refused = guard.addresses(&own, 443).await.expect_err("the own");
    let expected = "`8.8.8.8` is this server itself, which `[dispatch] allowed_networks` of its configuration does not allow";
    assert_eq!(refused.to_string(), expected);
    let mapped: SocketAddr = "[::ffff:8.8.8.8]:443".parse().expect("an address");
    assert!(!guard.allows(mapped) && guard.refuses_as_own(mapped));
    let private = "10.0.0.1:443".parse().expect("an address");
    assert!(!guard.allows(private) && !guard.refuses_as_own(private));
    let guard = at_8_8_8_8(&["8.8.8.8:8443"]);
    guard.addresses(&own, 8443).await.expect("it is allowed");
    assert!(guard.addresses(&own, 443).await.is_err());
}

#[tokio::test]
async fn a_port_is_open_in_the_network_that_names_it() {
    let guard = at_8_8_8_8(&["10.0.0.5:25"]);
    let refused = guard
        .addresses(&url::Host::Ipv4(Ipv4Addr::new(8, 8, 4, 4)), 25)
        .await
        .expect_err("another network");
    let expected =
        "`8.8.4.4` has a port that `allowed_networks` of [dispatch] names for other hosts only";
    assert_eq!(refused.to_string(), expected);
    for (address, expected) in [
        ("10.0.0.5:25", true),
        ("10.0.0.6:25", false),
        ("8.8.4.4:443", true),
        // Nobody may have one there since; what was saved before is delivered.
        ("8.8.4.4:26", true),
    ] {
        let address = address.parse().expect("an address");
        assert_eq!(guard.allows(address), expected, "{address}");
    }
}

#[test]
fn ports_are_usual_ones_and_those_that_are_named() {
    let guard = at_8_8_8_8(&["10.0.0.0/8:81", "127.0.0.1"]);
    for (port, expected) in [(80, true), (81, true), (82, false), (25, false)] {
        assert_eq!(guard.takes_port(port), expected, "{port}");
    }
}
