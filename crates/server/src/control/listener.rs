//! Accepts connections of root and of the server's own user, and closes all others.

use std::io;

use axum::serve::Listener;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

/// A unix socket that looks at who connects.
pub(crate) struct PeerChecked(pub(crate) UnixListener);

impl Listener for PeerChecked {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.0).await;
            match stream.peer_cred() {
                Ok(peer) if is_welcome(peer.uid()) => return (stream, address),
                Ok(peer) => {
                    tracing::warn!(
                        peer.uid = peer.uid(),
                        peer.pid = peer.pid(),
                        "a client of the control socket was refused: it is neither root nor the user of the server"
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "a client of the control socket was refused: its user is not known");
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn is_welcome(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}
