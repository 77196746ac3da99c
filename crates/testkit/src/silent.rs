//! A place that takes no connection and refuses none: whoever connects waits.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

/// Connections that wait to be accepted. Linux lets one more in than this; of more it drops what
/// they send (`tcp_abort_on_overflow` is 0).
const BACKLOG: i32 = 1;
/// Connections that fill the queue: one more than the backlog.
const WAITING: usize = 2;

/// A socket whose queue is full, until this is dropped.
#[derive(Debug)]
pub struct SilentPlace {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl SilentPlace {
    /// Listens at a port of an address of this host; 0: at one that is free.
    pub fn at(ip: Ipv4Addr, port: u16) -> Result<Self> {
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .context("no socket")?;
        bind(&socket, &SocketAddrV4::new(ip, port))
            .with_context(|| format!("cannot bind to {ip}:{port}"))?;
        listen(&socket, BACKLOG).context("cannot listen")?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().context("no address")?;
        let waiting = (0..WAITING).map(|_| TcpStream::connect(address));
        let waiting = waiting.collect::<std::io::Result<Vec<_>>>();
        Ok(Self {
            address,
            _listener: listener,
            _waiting: waiting.context("no room in the queue")?,
        })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use super::*;

    #[test]
    fn whoever_connects_waits() {
        let place = SilentPlace::at(Ipv4Addr::LOCALHOST, 0).expect("a place");
        let connected = TcpStream::connect_timeout(&place.address(), Duration::from_millis(300));
        let error = connected.expect_err("nobody is let in");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
