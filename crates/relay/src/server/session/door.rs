//! How a client is let in: its user is checked and gets a place, its hello is read, the spill file
//! that it names is taken in.

use std::sync::Arc;

use tokio::net::unix::UCred;
use tokio::time::Instant;

use super::{End, STOPPING, Session, malformed};
use crate::server::admission::Sender;
use crate::server::batch::Rejections;
use crate::server::intake::{self, Taken};
use crate::server::records::Converter;
use crate::server::socket::Socket;
use crate::server::{Relay, stopped};
use crate::spill::is_name;
use crate::wire::{self, Frame, OLDEST_VERSION, Refusal, VERSION};

/// The longest hello, in bytes: three names of 255, as a file may have and a host (RFC 1035), and
/// what is around them. A client has so much before anybody knows who it is.
const MAX_HELLO_BYTES: usize = 1024;

/// What a hello says.
struct Hello {
    version: u8,
    host: String,
    spill: String,
}

/// Lets a client in, or says why not.
pub(super) async fn welcome<'s>(
    relay: &'s Arc<Relay>,
    socket: &'s Socket,
    peer: UCred,
) -> Result<Session<'s>, End> {
    let uid = peer.uid();
    if !relay.peers.may_send(uid) {
        if relay.peers.refused.take(uid) {
            tracing::warn!(
                uid,
                pid = peer.pid(),
                "a client was refused: its user is not in `allow` of [relay]"
            );
        }
        let text = format!("uid {uid} may not send");
        return Err(End::Refused(Refusal::Peer, text));
    }
    let mut place = relay.places.share(uid);
    if !place.set(1) {
        if relay.peers.refused.take(uid) {
            tracing::warn!(
                uid,
                "a client was refused: its user has all the places it can get (`max_clients` of [relay])"
            );
        }
        let text = format!("there are as many clients of uid {uid} as it may have already");
        return Err(End::Refused(Refusal::Busy, text));
    }
    let until = Instant::now() + relay.options.hello_time;
    let sender = sender(relay, uid, until).await?;
    let mut session = Session::new(relay, socket, (peer.pid(), sender), place);
    let hello = tokio::time::timeout_at(until, session.hello());
    let hello = hello.await.unwrap_or_else(|_| {
        let text = "there was no hello in time".to_owned();
        Err(End::Refused(Refusal::Malformed, text))
    })?;
    session.version = hello.version;
    session.converter = Converter::new(&hello.host, uid);
    let rejected = session.take_in(&hello.spill).await?;
    wire::write_welcome(&mut session.outbox);
    if session.version > OLDEST_VERSION {
        rejected.write(&mut session.outbox, 0);
    }
    Ok(session)
}

async fn sender(relay: &Relay, uid: u32, until: Instant) -> Result<Sender, End> {
    relay.senders.get(uid, until).await.map_err(|error| {
        if relay.trouble_lines.take() {
            tracing::error!(%error, uid, "the name of a user cannot be looked up");
        }
        let text = format!("the name of uid {uid} cannot be looked up now");
        End::Refused(Refusal::Busy, text)
    })
}

impl Session<'_> {
    async fn hello(&mut self) -> Result<Hello, End> {
        loop {
            let first = self.inbox.first().map_err(|error| malformed(&error, 0))?;
            if self.inbox.frame_bytes() > MAX_HELLO_BYTES {
                return Err(no_hello());
            }
            if let Some((frame, bytes)) = first {
                let Frame::Hello(hello) = frame else {
                    return Err(no_hello());
                };
                if !(OLDEST_VERSION..=VERSION).contains(&hello.version) {
                    let text = format!("the relay speaks version {VERSION}, not {}", hello.version);
                    return Err(End::Refused(Refusal::Version, text));
                }
                tracing::debug!(pid = self.pid, program = hello.program, "a client connects");
                let hello = Hello {
                    version: hello.version,
                    host: hello.host.to_owned(),
                    spill: hello.spill.to_owned(),
                };
                self.inbox.skip(bytes);
                return Ok(hello);
            }
            self.socket.readable().await.map_err(|_| End::Gone)?;
            self.together = self.socket.take_together();
            self.read();
            if self.is_at_end {
                return Err(End::Gone);
            }
        }
    }

    /// Takes in the spill file that the client names; returns what of it is not taken.
    async fn take_in(&mut self, spill: &str) -> Result<Rejections, End> {
        if spill.is_empty() {
            return Ok(Rejections::default());
        }
        if !is_name(spill) {
            let text = format!("`{}` is no name of a spill file", spill.escape_debug());
            return Err(End::Refused(Refusal::Malformed, text));
        }
        // That may take longer than others are to wait.
        self.together = None;
        let mut stopping = self.relay.stopping.subscribe();
        let taken = tokio::select! {
            taken = intake::take_named(self.relay, spill) => taken,
            () = stopped(&mut stopping) => return Err(End::Refused(Refusal::Stopping, STOPPING.to_owned())),
        };
        // What it sends now would overtake what is in the file.
        turn_away(taken)?;
        Ok(self.relay.intake.take_rejections(spill))
    }
}

fn no_hello() -> End {
    let text = format!("the first frame is no hello of {MAX_HELLO_BYTES} bytes at most");
    End::Refused(Refusal::Malformed, text)
}

/// A client is heard when all of the spill file that it names is in the log.
fn turn_away(taken: Taken) -> Result<(), End> {
    let (refusal, text) = match taken {
        Taken::All | Taken::Nothing => return Ok(()),
        Taken::Refused { reason, is_owner } => {
            let refusal = if is_owner {
                Refusal::Peer
            } else {
                Refusal::Busy
            };
            (refusal, format!("its spill file is not taken in: {reason}"))
        }
        Taken::NotNow | Taken::Held => {
            let text = "its spill file cannot be taken in now".to_owned();
            (Refusal::Busy, text)
        }
    };
    Err(End::Refused(refusal, text))
}
