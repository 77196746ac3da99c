//! Connecting to a host with several addresses (RFC 8305): the next is tried before the one before
//! it has failed, and the first that takes the connection is used.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::guard::Addresses;

/// How long an address is given before the next one is tried besides: what RFC 8305, section 5
/// recommends.
const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(250);
/// Most addresses that are tried for one connection: a name may have hundreds, and each takes a
/// descriptor while it is tried.
pub(super) const MAX_ADDRESSES: usize = 8;

/// No address takes a connection. Shown is nothing of why: an endpoint's account could find out by
/// it what listens where.
#[derive(Debug)]
pub struct ConnectError {
    tried: Tried,
    errors: Vec<(SocketAddr, io::Error)>,
}

impl ConnectError {
    /// Why each address did not take it, for the log of the operator.
    pub(super) fn reasons(&self) -> String {
        let reasons = self.errors.iter();
        let reasons = reasons.map(|(address, error)| format!("{address}: {error}"));
        reasons.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection to {}", self.tried)
    }
}

impl std::error::Error for ConnectError {}

/// Addresses that are tried, in their order.
#[derive(Clone, Debug)]
pub struct Tried(Vec<SocketAddr>);

impl Tried {
    /// Addresses that are tried of those that were checked.
    pub fn of(addresses: &Addresses) -> Self {
        Self(order(addresses))
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, address) in self.0.iter().enumerate() {
            let before = if number == 0 { "" } else { ", " };
            write!(f, "{before}{address}")?;
        }
        Ok(())
    }
}

/// An address that is tried, and what comes of it: the place is another's again where it fails.
type Ended<P> = Result<(TcpStream, P), ((SocketAddr, io::Error), P)>;
type Trying<'a, P> = Pin<Box<dyn Future<Output = Ended<P>> + Send + 'a>>;

/// Connects to whichever of the addresses takes it first. Each that is tried has a place: the first
/// has the one that is given, the next those that `more` gives, or that of one that has failed.
pub(super) async fn connect<P: Send>(
    addresses: &Addresses,
    place: P,
    more: impl Fn() -> Option<P>,
) -> Result<(TcpStream, P), ConnectError> {
    let tried = Tried::of(addresses);
    let mut next = tried.0.iter().copied();
    let mut trying: Vec<Trying<'_, P>> = Vec::new();
    let (mut failed, mut spare) = (Vec::new(), vec![place]);
    loop {
        let place = match next.len() {
            0 => None,
            _ => spare.pop().or_else(&more),
        };
        if let Some(place) = place
            && let Some(address) = next.next()
        {
            trying.push(Box::pin(connect_to(address, place)));
        } else if trying.is_empty() {
            return Err(ConnectError {
                errors: failed,
                tried: Tried::of(addresses),
            });
        }
        tokio::select! {
            ended = first(&mut trying) => match ended {
                Ok(connected) => return Ok(connected),
                Err((error, place)) => {
                    failed.push(error);
                    spare.push(place);
                }
            },
            () = tokio::time::sleep(NEXT_ADDRESS_DELAY), if next.len() > 0 => {}
        }
    }
}

async fn connect_to<P>(address: SocketAddr, place: P) -> Ended<P> {
    let connected = TcpStream::connect(address).await;
    let ready = connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
    match ready {
        Ok(stream) => Ok((stream, place)),
        Err(error) => Err(((address, error), place)),
    }
}

/// The first that ends; it is tried no more.
async fn first<P>(trying: &mut Vec<Trying<'_, P>>) -> Ended<P> {
    poll_fn(|context| {
        for number in 0..trying.len() {
            if let Poll::Ready(ended) = trying[number].as_mut().poll(context) {
                drop(trying.swap_remove(number));
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    })
    .await
}

/// Which is tried when: as the system has sorted them (RFC 6724), but IPv6 and IPv4 by turns, so
/// that a family that leads nowhere costs one delay (RFC 8305, section 4).
fn order(addresses: &Addresses) -> Vec<SocketAddr> {
    let all = addresses.iter();
    let is_v6 = all.clone().next().is_some_and(|first| first.is_ipv6());
    let (mut preferred, mut other): (Vec<_>, Vec<_>) = all.partition(|one| one.is_ipv6() == is_v6);
    preferred.dedup();
    other.dedup();
    let mut ordered = Vec::with_capacity(MAX_ADDRESSES);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    loop {
        let before = ordered.len();
        ordered.extend(preferred.next());
        ordered.extend(other.next());
        if ordered.len() == before || ordered.len() >= MAX_ADDRESSES {
            ordered.truncate(MAX_ADDRESSES);
            return ordered;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_not_all_addresses_are_tried() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            let parsed = texts.iter().map(|text| text.parse().expect("an address"));
            parsed.collect()
        };
        let given = addresses(&[
            "[::1]:1",
            "[::1]:1",
            "[::2]:1",
            "1.1.1.1:1",
            "[::3]:1",
            "1.1.1.2:1",
        ]);
        let expected = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"];
        assert_eq!(order(&Addresses::of(given)), addresses(&expected));
        let many = (1..200).map(|last| SocketAddr::from(([10, 0, 0, last], 1)));
        assert_eq!(order(&Addresses::of(many.collect())).len(), MAX_ADDRESSES);
    }
}
