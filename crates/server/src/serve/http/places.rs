//! Places of connections: so many in all, and so many of them from one address, so that none takes
//! those of all others. Who has no place left by its address is refused; who has none at all waits.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::Limits;

/// Bits of an IPv6 address that name a network of one customer; the rest its hosts choose.
const NETWORK_BITS: u32 = 64;

/// The places of one listener.
pub(super) struct Places {
    room: Arc<Semaphore>,
    per_address: Option<usize>,
    trusted: Vec<IpNet>,
    taken: Arc<Taken>,
}

/// Connections by address; an address that has none is not there.
#[derive(Default)]
struct Taken(Mutex<HashMap<IpAddr, usize>>);

/// A place of one connection; free again when it is dropped.
pub(super) struct ConnectionPermit {
    _room: OwnedSemaphorePermit,
    _of_address: Option<OfAddress>,
}

struct OfAddress {
    taken: Arc<Taken>,
    address: IpAddr,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            room: Arc::new(Semaphore::new(limits.places)),
            per_address: limits.per_address,
            trusted: limits.trusted.clone(),
            taken: Arc::default(),
        }
    }

    /// Room for one more connection, from anywhere; waits until there is some.
    pub(super) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// Place in that room of a connection from an address, unless that has as many as it may have.
    pub(super) fn place(
        &self,
        room: OwnedSemaphorePermit,
        from: IpAddr,
    ) -> Option<ConnectionPermit> {
        let address = from.to_canonical();
        let is_trusted = self
            .trusted
            .iter()
            .any(|network| network.contains(&address));
        let of_address = match self.per_address {
            Some(most) if !is_trusted => Some(self.taken.take(network(address), most)?),
            _ => None,
        };
        Some(ConnectionPermit {
            _room: room,
            _of_address: of_address,
        })
    }
}

impl Taken {
    fn take(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<OfAddress> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(OfAddress {
            taken: Arc::clone(self),
            address,
        })
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut taken = self.taken.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// What counts as one address.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - NETWORK_BITS);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn an_address_has_so_many_places_and_leaves_the_others() {
        let text = "[http]\nmax_connections_per_address = 2\ntrusted_proxies = ['10.0.0.0/8']";
        let config = Config::parse(text).expect("a configuration");
        let places = Places::new(&Limits::of_api(&config.http));
        let mut held = Vec::new();
        for (address, is_taken) in [
            ("1.2.3.4", true),
            ("::ffff:1.2.3.4", true),
            ("1.2.3.4", false),
            ("1.2.3.5", true),
            ("2001:db8::1", true),
            ("2001:db8::ffff:1", true),
            ("2001:db8::2", false),
            ("2001:db8:0:1::2", true),
            ("10.0.0.1", true),
            ("10.0.0.1", true),
            ("10.0.0.1", true),
        ] {
            let room = places.room().await.expect("room");
            let place = places.place(room, address.parse().expect(address));
            assert_eq!(place.is_some(), is_taken, "{address}");
            held.extend(place);
        }
        assert_eq!(places.room.available_permits(), 1000 - held.len());
        drop(held);
        assert_eq!(places.room.available_permits(), 1000);
        assert!(places.taken.0.lock().expect("not poisoned").is_empty());
    }
}
