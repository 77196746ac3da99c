//! Addresses of this host itself: what listens on them is often open to the host alone, because a
//! firewall looks at what comes from outside.
//!
//! A public address that a router translates to one of the host is not known here.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;

/// How long addresses count that were found: one that the host has just been given is known after
/// this time.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// Finds the addresses of the interfaces.
type Find = fn() -> io::Result<HashSet<IpAddr>>;

/// The addresses, looked up now and then.
pub(super) struct OwnAddresses {
    find: Find,
    /// When they were looked up; `None`: the system does not list them.
    known: Mutex<Option<(Instant, Option<HashSet<IpAddr>>)>>,
}

impl OwnAddresses {
    /// Addresses of the interfaces, as the system lists them.
    pub(super) fn system() -> Self {
        Self::found_by(of_interfaces)
    }

    pub(super) fn found_by(find: Find) -> Self {
        Self {
            find,
            known: Mutex::default(),
        }
    }

    /// Whether the address is one of this host.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let since = known.as_ref().map(|(since, _)| since.elapsed());
        if since.is_none_or(|since| since >= REFRESH_INTERVAL) {
            let found = (self.find)();
            if let Err(error) = &found {
                tracing::debug!(%error, "the system does not list the addresses of this host");
            }
            *known = Some((Instant::now(), found.ok()));
        }
        match &*known {
            Some((_, Some(addresses))) => addresses.contains(&address),
            _ => is_routed_here(address),
        }
    }
}

/// Whether the system takes this very address for the sender of what is sent to it. Knows fewer
/// than the interfaces have, and needs no right to list them; nothing is sent.
fn is_routed_here(address: IpAddr) -> bool {
    let any = match address {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    // Any port but 0 will do.
    let sender = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    sender.is_ok_and(|sender| sender.ip() == address)
}

fn of_interfaces() -> io::Result<HashSet<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    });
    Ok(addresses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_its_loopback_whether_or_not_addresses_are_listed() {
        let finds: [Find; 2] = [of_interfaces, || Err(io::Error::other("not listed"))];
        for find in finds {
            let own = OwnAddresses::found_by(find);
            assert!(own.contains(Ipv4Addr::LOCALHOST.into()));
            assert!(!own.contains(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()));
        }
    }
}
