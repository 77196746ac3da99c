//! Which addresses a request may go to: public ones that are not this host's own, and networks that
//! the configuration allows.
//!
//! Addresses are looked at after the name was resolved, and the connection goes to those that were
//! looked at: a name that changes in between changes nothing.

mod networks;
mod own;
mod ports;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::names;

pub use networks::{AllowedNetwork, BadNetwork};
use own::OwnAddresses;

/// Not for hosts of the Internet: the registries of special-purpose addresses of IANA (RFC 6890),
/// multicast and the rest.
const SPECIAL_V4: [Ipv4Net; 18] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 31, 196, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 52, 193, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(192, 175, 48, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];
/// Public addresses of IPv6 are in here ...
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0], 3);
/// ... but for these.
const SPECIAL_V6: [Ipv6Net; 5] = [
    v6([0x2001, 0, 0], 23),
    v6([0x2001, 0xdb8, 0], 32),
    v6([0x3ffe, 0, 0], 16),
    v6([0x3fff, 0, 0], 20),
    v6([0x2620, 0x4f, 0x8000], 48),
];
/// Addresses with one of IPv4 in their last 32 bits: NAT64.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0], 96);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(start: [u16; 3], prefix: u8) -> Ipv6Net {
    let address = Ipv6Addr::new(start[0], start[1], start[2], 0, 0, 0, 0, 0);
    Ipv6Net::new_assert(address, prefix)
}

/// What a lookup gives.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Finds the addresses of a name.
pub trait Resolve: Send + Sync {
    /// All of them, in the order in which they are to be tried; for an endpoint of this account.
    fn lookup<'a>(&'a self, account: &'a str, host: &'a str, port: u16) -> Lookup<'a>;
}

/// Decides where requests may go.
#[derive(Clone)]
pub struct Guard {
    allowed: Arc<[AllowedNetwork]>,
    own: Arc<OwnAddresses>,
    resolver: Arc<dyn Resolve>,
    account: Arc<str>,
}

/// Addresses that were checked: requests go to these only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(Vec<SocketAddr>);

impl Addresses {
    /// In the order in which they are to be tried; at least one.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> + Clone {
        self.0.iter().copied()
    }

    #[cfg(test)]
    pub(crate) fn of(addresses: Vec<SocketAddr>) -> Self {
        Self(addresses)
    }
}

/// The first, and how many others there are.
impl std::fmt::Display for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("no address"),
            [only] => only.fmt(f),
            [first, others @ ..] => write!(f, "{first} or {} other addresses", others.len()),
        }
    }
}

/// Why there is no address to connect to.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The host has no address, or its lookup has failed.
    #[error("cannot find the address of `{host}`: {error}")]
    Lookup {
        /// The name.
        host: String,
        /// Why.
        error: io::Error,
    },
    /// The host has addresses, and none of them is allowed.
    #[error(
        "`{host}` is at no public address, and at none of the networks that `allowed_networks` of [dispatch] names"
    )]
    NotAllowed {
        /// The name, or the address itself.
        host: String,
        /// The first that was refused.
        address: IpAddr,
    },
    /// The port is another network's.
    #[error("`{host}` has a port that `allowed_networks` of [dispatch] names for other hosts only")]
    Port {
        /// The name, or the address itself.
        host: String,
        /// The first that was refused.
        address: IpAddr,
    },
    /// The host is this one, at an address that others reach.
    #[error(
        "`{host}` is this server itself, which `[dispatch] allowed_networks` of its configuration does not allow"
    )]
    Own {
        /// The name, or the address itself.
        host: String,
        /// The first that was refused.
        address: IpAddr,
    },
}

/// Why a request may not go to an address.
enum Refused {
    NotAllowed,
    Own,
    Port,
}

impl Guard {
    /// Public addresses of other hosts, and those of `allowed`.
    pub fn new(allowed: &[AllowedNetwork]) -> Self {
        Self::with_resolver(allowed, Arc::clone(names::system()) as Arc<dyn Resolve>)
    }

    /// Any address: for end-points that the operator has named.
    pub fn of_operator() -> Self {
        Self::new(&AllowedNetwork::all())
    }

    /// Public addresses of other hosts, and those of `allowed`, as another resolver finds them.
    pub fn with_resolver(allowed: &[AllowedNetwork], resolver: Arc<dyn Resolve>) -> Self {
        Self {
            allowed: allowed.into(),
            own: Arc::new(OwnAddresses::system()),
            resolver,
            account: Arc::from(""),
        }
    }

    /// Account whose endpoints the requests go to; empty: of none.
    pub(crate) fn account(&self) -> &Arc<str> {
        &self.account
    }

    /// Guard of requests to the endpoints of an account: it bounds what the account's names may
    /// take of the resolver.
    #[must_use]
    pub fn for_account(&self, account: Arc<str>) -> Self {
        Self {
            account,
            ..self.clone()
        }
    }

    /// Whether a request may go to this address.
    pub fn allows(&self, address: SocketAddr) -> bool {
        self.check(address).is_ok()
    }

    /// Whether the configuration names a network with this address, which is not public besides.
    pub fn allows_by_name(&self, address: SocketAddr) -> bool {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let is_named = self.allowed.iter().any(|network| network.contains(address));
        is_named && !is_public(address.ip())
    }

    /// Whether an address is refused because it is this host's own.
    pub fn refuses_as_own(&self, address: SocketAddr) -> bool {
        matches!(self.check(address), Err(Refused::Own))
    }

    /// Whether endpoints may be saved with this port: most ports, and those that an allowed network
    /// names. What was saved with another is delivered to all the same.
    pub fn takes_port(&self, port: u16) -> bool {
        ports::is_usual(port) || self.names_port(port)
    }

    fn names_port(&self, port: u16) -> bool {
        self.allowed.iter().any(|network| network.names(port))
    }

    fn check(&self, address: SocketAddr) -> Result<(), Refused> {
        // What is written as `::ffff:127.0.0.1` is 127.0.0.1.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if self.allowed.iter().any(|network| network.contains(address)) {
            return Ok(());
        }
        if !is_public(address.ip()) {
            return Err(Refused::NotAllowed);
        }
        if self.own.contains(address.ip()) {
            return Err(Refused::Own);
        }
        // A port that endpoints may have as a network names it is open in that network only.
        if !ports::is_usual(address.port()) && self.names_port(address.port()) {
            return Err(Refused::Port);
        }
        Ok(())
    }

    /// The addresses of a host to which a request may go, at least one.
    pub async fn addresses(&self, host: &url::Host, port: u16) -> Result<Addresses, GuardError> {
        let found = match host {
            url::Host::Ipv4(address) => vec![SocketAddr::from((*address, port))],
            url::Host::Ipv6(address) => vec![SocketAddr::from((*address, port))],
            url::Host::Domain(name) => {
                let looked_up = self.resolver.lookup(&self.account, name, port).await;
                looked_up.map_err(|error| GuardError::Lookup {
                    host: name.clone(),
                    error,
                })?
            }
        };
        let mut refused = None;
        let mut allowed = Vec::with_capacity(found.len());
        for address in found {
            match self.check(address) {
                Ok(()) => allowed.push(address),
                Err(reason) => {
                    refused.get_or_insert((address.ip().to_canonical(), reason));
                }
            }
        }
        let name = || host.to_string();
        match refused {
            _ if !allowed.is_empty() => Ok(Addresses(allowed)),
            Some((address, Refused::NotAllowed)) => Err(GuardError::NotAllowed {
                host: name(),
                address,
            }),
            Some((address, Refused::Own)) => Err(GuardError::Own {
                host: name(),
                address,
            }),
            Some((address, Refused::Port)) => Err(GuardError::Port {
                host: name(),
                address,
            }),
            None => Err(GuardError::Lookup {
                host: host.to_string(),
                error: io::Error::other("the name has no address"),
            }),
        }
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            let [_, first, second, ..] = address.segments();
            let of_6to4 = || {
                let ([a, b], [c, d]) = (first.to_be_bytes(), second.to_be_bytes());
                is_public(Ipv4Addr::new(a, b, c, d).into())
            };
            if NAT64.contains(&address) {
                return is_public(Ipv4Addr::new(a, b, c, d).into());
            }
            GLOBAL_V6.contains(&address)
                && !SPECIAL_V6.iter().any(|network| network.contains(&address))
                && (address.segments()[0] != 0x2002 || of_6to4())
        }
    }
}

#[cfg(test)]
mod tests;
