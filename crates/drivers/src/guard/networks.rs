//! Networks that the configuration allows, each at one port or at all.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A network to which requests may go: `10.1.0.0/16`, `127.0.0.1`, `10.1.0.0/16:443`,
/// `[fd00::/8]:443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedNetwork {
    network: IpNet,
    /// `None`: any port.
    port: Option<u16>,
}

/// A text that names no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadNetwork(String);

impl fmt::Display for BadNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not an address or network, expected one such as `127.0.0.1`, `10.1.0.0/16`, `10.1.0.0/16:443` or `[fd00::/8]:443`",
            self.0
        )
    }
}

impl std::error::Error for BadNetwork {}

impl AllowedNetwork {
    /// All addresses.
    pub(super) fn all() -> [Self; 2] {
        let all = |network| Self {
            network,
            port: None,
        };
        [
            all(IpNet::V4(Ipv4Net::default())),
            all(IpNet::V6(Ipv6Net::default())),
        ]
    }

    /// Whether requests may go to this address.
    pub(super) fn contains(&self, address: SocketAddr) -> bool {
        self.network.contains(&address.ip()) && self.port.is_none_or(|port| port == address.port())
    }

    /// Whether it names this port.
    pub(super) fn names(&self, port: u16) -> bool {
        self.port == Some(port)
    }
}

impl FromStr for AllowedNetwork {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let read = || {
            if let Some(network) = network(text) {
                return Some(Self {
                    network,
                    port: None,
                });
            }
            let (before, port) = text.rsplit_once(':')?;
            // Colons are in the network as well.
            let bracketed = before.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
            let network = match bracketed {
                Some(inner) => network(inner)?,
                None => network(before).filter(|network| network.addr().is_ipv4())?,
            };
            let port = port.parse().ok().filter(|port| *port > 0)?;
            Some(Self {
                network,
                port: Some(port),
            })
        };
        read().ok_or_else(|| BadNetwork(text.to_owned()))
    }
}

fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok();
    network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, address: &str, expected: bool) {
        let network: AllowedNetwork = text.parse().expect(text);
        let address = address.parse().expect(address);
        assert_eq!(network.contains(address), expected, "{text} {address}");
    }

    #[test]
    fn a_network_is_allowed_at_any_port_or_at_its_own() {
        for (text, address, expected) in [
            ("10.0.0.0/8", "10.1.2.3:25", true),
            ("10.0.0.0/8", "11.1.2.3:25", false),
            ("10.0.0.0/8:443", "10.1.2.3:443", true),
            ("10.0.0.0/8:443", "10.1.2.3:80", false),
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            ("127.0.0.1:8080", "127.0.0.2:8080", false),
            ("fd00::/8", "[fd12::1]:1", true),
            ("[fd00::/8]:443", "[fd12::1]:443", true),
            ("[fd00::/8]:443", "[fd12::1]:80", false),
            ("[::1]:8080", "[::1]:8080", true),
            // The last group of an address is no port.
            ("fd00::1:443", "[fd00::1:443]:1", true),
        ] {
            check(text, address, expected);
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "lan",
            "10.0.0.0/33",
            "10.0.0.0/8:",
            "10.0.0.0/8:0",
            "10.0.0.0/8:65536",
            "10.0.0.0/8:https",
            "[fd00::/8]",
            "[10.0.0.0/8",
            "fd00::/8:443",
        ] {
            assert!(text.parse::<AllowedNetwork>().is_err(), "{text}");
        }
    }
}
