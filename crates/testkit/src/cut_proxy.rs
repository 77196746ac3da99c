//! A forwarder in front of one TCP server, which can be cut as a network is: what was connected
//! stays connected and hears nothing more, and what connects waits.
//!
//! Neither side is told of a cut: no connection ends, no byte is lost, all of them come when the
//! cut is healed, as they do when TCP sends again. The kernel goes on acknowledging what it takes,
//! so keepalives find nothing wrong: only whoever waits for an answer can notice. A link that
//! forgets its connections, as a firewall does, is [`CutProxy::forget`], or [`CutProxy::reset`],
//! before it is healed.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use rustix::net::connect_unspec;

use crate::loopback;

/// Bytes that are taken at a time.
const PIECE: usize = 16 * 1024;

/// A forwarder; it ends, and so do its connections, when it is dropped.
#[derive(Debug)]
pub struct CutProxy {
    address: SocketAddr,
    link: Arc<Link>,
}

#[derive(Debug)]
struct Link {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_cut: bool,
    is_over: bool,
    /// Both sides of each connection; those that have ended are left out when one begins.
    connections: Vec<Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    is_forgotten: AtomicBool,
    is_reset: AtomicBool,
}

impl CutProxy {
    /// Forwards from an address of its own, at the same port, to `target`. What is not there yet
    /// may come later.
    pub fn start(target: (Ipv4Addr, u16)) -> Result<Self> {
        let address = (loopback::unique_address(), target.1);
        let listener = TcpListener::bind(address)
            .with_context(|| format!("cannot listen at `{}:{}`", address.0, address.1))?;
        let link = Arc::new(Link {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&link);
        thread::Builder::new()
            .name("cut-proxy".to_owned())
            .spawn(move || accept(&accepting, &listener, target.into()))
            .context("cannot start a thread")?;
        Ok(Self {
            address: address.into(),
            link,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing passes, in either direction.
    pub fn cut(&self) {
        self.link.change(|state| state.is_cut = true);
    }

    /// Everything passes again, what was held back first.
    pub fn heal(&self) {
        self.link.change(|state| state.is_cut = false);
    }

    /// What is connected now stays cut for ever: it hears nothing when the link is healed, not even
    /// that it has ended.
    pub fn forget(&self) {
        self.link.change(|state| {
            for connection in &state.connections {
                connection.is_forgotten.store(true, Ordering::Release);
            }
        });
    }

    /// Ends what is connected, on both sides, without a word of farewell (RST).
    pub fn reset(&self) {
        self.link.change(State::reset);
    }
}

impl Drop for CutProxy {
    fn drop(&mut self) {
        self.link.change(|state| {
            state.is_over = true;
            state.reset();
        });
        // Wakes the thread that accepts; if nobody listens any more it has ended.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn reset(&mut self) {
        for connection in self.connections.drain(..) {
            connection.is_reset.store(true, Ordering::Release);
            for side in [&connection.client, &connection.server] {
                // One that has ended needs no reset.
                let _ = connect_unspec(side);
            }
        }
    }
}

impl Link {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        how(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits while it is cut, for all or for this connection; `false`: it is over.
    fn passes(&self, connection: Option<&Connection>) -> bool {
        let is = |flag: fn(&Connection) -> &AtomicBool| {
            connection.is_some_and(|connection| flag(connection).load(Ordering::Acquire))
        };
        let is_over = |state: &State| state.is_over || is(|connection| &connection.is_reset);
        let must_wait = |state: &mut State| {
            let is_cut = state.is_cut || is(|connection| &connection.is_forgotten);
            is_cut && !is_over(state)
        };
        let waited = self.changed.wait_while(self.state(), must_wait);
        !is_over(&waited.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes one after the other; while the link is cut they wait in the kernel.
fn accept(link: &Arc<Link>, listener: &TcpListener, target: SocketAddr) {
    for client in listener.incoming() {
        if !link.passes(None) {
            return;
        }
        let connected = {
            // Held, so that a reset finds what the server has seen.
            let mut state = link.state();
            state.connections.retain(|old| Arc::strong_count(old) > 1);
            let connected = client.and_then(|client| connect(client, target));
            state.connections.extend(connected.iter().cloned());
            connected
        };
        // Dropped, the client's side has ended: nobody is there, or the machine has no room.
        let Ok(connection) = connected else {
            continue;
        };
        for is_request in [true, false] {
            let (link, connection) = (Arc::clone(link), Arc::clone(&connection));
            thread::spawn(move || {
                let ends = (&connection.client, &connection.server);
                let (from, to) = if is_request { ends } else { (ends.1, ends.0) };
                forward(&link, &connection, (from, to));
            });
        }
    }
}

fn connect(client: TcpStream, target: SocketAddr) -> io::Result<Arc<Connection>> {
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok(Arc::new(Connection {
        client,
        server,
        is_forgotten: AtomicBool::new(false),
        is_reset: AtomicBool::new(false),
    }))
}

/// Until one side ends.
fn forward(link: &Link, connection: &Connection, (mut from, mut to): (&TcpStream, &TcpStream)) {
    let mut piece = vec![0; PIECE];
    loop {
        // An error, such as that of a reset, is an end as well.
        let read = from.read(&mut piece).unwrap_or(0);
        if !link.passes(Some(connection)) {
            return;
        }
        if read == 0 || to.write_all(&piece[..read]).is_err() {
            // Where they have ended there is nothing to shut down.
            let _ = to.shutdown(Shutdown::Write);
            let _ = from.shutdown(Shutdown::Read);
            return;
        }
    }
}
