//! One client: its records go to the log in their order, one append at a time; what comes meanwhile
//! is the next append.
//!
//! An append that fails is tried again until it succeeds: nothing behind it may overtake it. A
//! client is not read beyond a bound of bytes that wait, so that none can fill the memory or keep
//! the log from others.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use dovecast_log::embedded::Together;
use dovecast_log::{Appended, LogError, NewRecord};
use tokio::net::UnixStream;
use tokio::net::unix::UCred;

use super::append::append;
use super::intake::Taken;
use super::records::{Converter, is_topic};
use super::socket::Socket;
use super::{Relay, intake, stopped};
use crate::spill::is_name;
use crate::wire::{self, Frame, Refusal, VERSION};

/// What is read at a time.
const READ_BYTES: usize = 16 * 1024;
/// What is read of a client when the relay is stopped: more than a socket holds.
const DRAINED_BYTES: usize = 4 * 1024 * 1024;

const STOPPING: &str = "the relay is being stopped";

/// Why a session ends.
enum End {
    /// The client has gone.
    Gone,
    /// The client is sent away.
    Refused(Refusal, String),
}

/// Serves a client until it goes or is sent away.
pub(super) async fn run(relay: Arc<Relay>, stream: UnixStream) {
    let Ok(peer) = stream.peer_cred() else {
        return;
    };
    let socket = match Socket::new(stream, relay.gather.as_ref()) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "a client of the relay cannot be read");
            return;
        }
    };
    let clients = relay.counters.clients.fetch_add(1, Ordering::Relaxed);
    let (end, mut unwritten) = match welcome(&relay, &socket, peer, clients).await {
        Ok(session) => session.serve().await,
        Err(end) => (end, Vec::new()),
    };
    if let End::Refused(reason, text) = end {
        relay.counters.count_refusal(reason);
        // Behind the rest of a frame that is on its way.
        wire::write_refused(&mut unwritten, reason, &text);
        // Who does not read it will find the connection closed.
        let _ = socket.try_write(&unwritten);
    }
    relay.counters.clients.fetch_sub(1, Ordering::Relaxed);
}

/// The peer is checked, the hello is read, the spill file that it names is taken in.
async fn welcome<'s>(
    relay: &'s Arc<Relay>,
    socket: &'s Socket,
    peer: UCred,
    clients: u64,
) -> Result<Session<'s>, End> {
    if !relay.peers.may_send(peer.uid()) {
        if relay.peers.is_to_be_told(peer.uid()) {
            tracing::warn!(
                uid = peer.uid(),
                pid = peer.pid(),
                "a client was refused: its user is not in `allow` of [relay]"
            );
        }
        let text = format!("uid {} may not send", peer.uid());
        return Err(End::Refused(Refusal::Peer, text));
    }
    if usize::try_from(clients).is_ok_and(|clients| clients >= relay.options.max_clients) {
        let text = format!("there are {clients} clients already");
        return Err(End::Refused(Refusal::Busy, text));
    }
    let mut session = Session {
        relay,
        socket,
        pid: peer.pid().unwrap_or_default(),
        inbox: Vec::new(),
        converter: Converter::new(""),
        waiting: Vec::new(),
        waiting_bytes: 0,
        together: None,
        is_at_end: false,
        durable: 0,
        outbox: Vec::new(),
        stuck_since: None,
    };
    let hello = tokio::time::timeout(relay.options.hello_time, session.hello());
    let spill = hello.await.unwrap_or_else(|_| {
        let text = "there was no hello in time".to_owned();
        Err(End::Refused(Refusal::Malformed, text))
    })?;
    if !spill.is_empty() {
        if !is_name(&spill) {
            let text = format!("`{}` is no name of a spill file", spill.escape_debug());
            return Err(End::Refused(Refusal::Malformed, text));
        }
        // That may take longer than others are to wait.
        session.together = None;
        let mut stopping = relay.stopping.subscribe();
        let taken = tokio::select! {
            taken = intake::take_named(relay, &spill) => taken,
            () = stopped(&mut stopping) => return Err(End::Refused(Refusal::Stopping, STOPPING.to_owned())),
        };
        // What it sends now would overtake what is in the file.
        turn_away(taken)?;
    }
    wire::write_welcome(&mut session.outbox);
    Ok(session)
}

/// A client is heard when all of the spill file that it names is in the log.
fn turn_away(taken: Taken) -> Result<(), End> {
    let (refusal, text) = match taken {
        Taken::All => return Ok(()),
        Taken::Refused { reason, is_owner } => {
            let refusal = if is_owner {
                Refusal::Peer
            } else {
                Refusal::Busy
            };
            (refusal, format!("its spill file is not taken in: {reason}"))
        }
        Taken::NotNow => {
            let text = "its spill file cannot be taken in now".to_owned();
            (Refusal::Busy, text)
        }
    };
    Err(End::Refused(refusal, text))
}

struct Session<'s> {
    relay: &'s Arc<Relay>,
    socket: &'s Socket,
    pid: i32,
    /// Bytes that are no whole frame yet.
    inbox: Vec<u8>,
    converter: Converter,
    /// Records for the next append, and what they took on the wire.
    waiting: Vec<NewRecord>,
    waiting_bytes: usize,
    /// What the next append is part of, if it is made now.
    together: Option<Arc<Together>>,
    /// Whether the client sends nothing more.
    is_at_end: bool,
    /// Records of this connection that are durable.
    durable: u64,
    /// What could not be written yet.
    outbox: Vec<u8>,
    stuck_since: Option<Instant>,
}

type Appending = Pin<Box<dyn Future<Output = (usize, Result<Appended, LogError>)> + Send>>;

impl Session<'_> {
    /// The name of the spill file that it names.
    async fn hello(&mut self) -> Result<String, End> {
        loop {
            let frame = wire::read_frame(&self.inbox).map_err(|error| malformed(&error, 0))?;
            if let Some((frame, bytes)) = frame {
                let Frame::Hello(hello) = frame else {
                    let text = "the first frame is no hello".to_owned();
                    return Err(End::Refused(Refusal::Malformed, text));
                };
                if hello.version != VERSION {
                    let text = format!("the relay speaks version {VERSION}, not {}", hello.version);
                    return Err(End::Refused(Refusal::Version, text));
                }
                tracing::debug!(pid = self.pid, program = hello.program, "a client connects");
                self.converter = Converter::new(hello.host);
                let spill = hello.spill.to_owned();
                self.inbox.drain(..bytes);
                return Ok(spill);
            }
            self.socket.readable().await.map_err(|_| End::Gone)?;
            self.together = self.socket.take_together();
            self.read();
            if self.is_at_end {
                return Err(End::Gone);
            }
        }
    }

    /// Returns why it ends, and what could not be written until then.
    async fn serve(mut self) -> (End, Vec<u8>) {
        let mut stopping = self.relay.stopping.subscribe();
        let mut appending: Option<Appending> = None;
        let mut wrong = self.read_frames().err();
        self.write();
        loop {
            let together = self.together.take();
            if appending.is_none() && !self.waiting.is_empty() {
                appending = Some(self.append(together));
            }
            if appending.is_none() && (wrong.is_some() || self.is_at_end) {
                self.write();
                return (wrong.unwrap_or(End::Gone), self.outbox);
            }
            let may_read = wrong.is_none()
                && !self.is_at_end
                && self.waiting_bytes < self.relay.options.max_client_bytes;
            self.socket.set_full(!may_read);
            tokio::select! {
                Some((records, done)) = finished(&mut appending) => {
                    appending = None;
                    self.acknowledge(records, &done);
                }
                ready = self.socket.readable(), if may_read => {
                    if ready.is_err() {
                        self.is_at_end = true;
                        continue;
                    }
                    wrong = self.read_gathered().err();
                }
                ready = self.socket.writable(), if !self.outbox.is_empty() => {
                    if ready.is_err() {
                        self.is_at_end = true;
                    }
                }
                () = self.stuck_too_long() => {
                    self.relay.counters.unread.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(pid = self.pid, "a client does not read its acknowledgements");
                    wrong = Some(End::Gone);
                    self.outbox.clear();
                    self.stuck_since = None;
                }
                () = stopped(&mut stopping), if wrong.is_none() => {
                    self.drain();
                    wrong = Some(End::Refused(Refusal::Stopping, STOPPING.to_owned()));
                }
            }
            self.write();
        }
    }

    /// The relay stops: what the client has sent already is taken, its process may be gone.
    fn drain(&mut self) {
        let mut left = DRAINED_BYTES;
        loop {
            let before = self.inbox.len();
            self.read();
            let read = self.inbox.len() - before;
            left = left.saturating_sub(read);
            let is_wrong = self.read_frames().is_err();
            if read == 0 || left == 0 || is_wrong || self.is_at_end {
                return;
            }
        }
    }

    async fn stuck_too_long(&self) {
        match self.stuck_since {
            None => std::future::pending().await,
            Some(since) => {
                let until = since + self.relay.options.unread_time;
                tokio::time::sleep_until(until.into()).await;
            }
        }
    }

    /// Reads what has come since the socket was looked at last, within the bound.
    fn read_gathered(&mut self) -> Result<(), End> {
        self.together = self.socket.take_together();
        loop {
            self.read();
            self.read_frames()?;
            let is_full = self.waiting_bytes >= self.relay.options.max_client_bytes;
            if is_full || self.is_at_end || !self.socket.has_gathered() {
                return Ok(());
            }
        }
    }

    /// Reads what is there.
    fn read(&mut self) {
        let mut buffer = [0; READ_BYTES];
        match self.socket.try_read(&mut buffer) {
            Ok(0) => self.is_at_end = true,
            Ok(bytes) => {
                self.relay
                    .counters
                    .bytes
                    .fetch_add(bytes as u64, Ordering::Relaxed);
                self.inbox.extend_from_slice(&buffer[..bytes]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.is_at_end = true,
        }
    }

    /// Takes the whole frames out of the inbox; what was whole before an error stays taken.
    fn read_frames(&mut self) -> Result<(), End> {
        let mut at = 0;
        let done = loop {
            let frame = match wire::read_frame(&self.inbox[at..]) {
                Ok(Some((frame, bytes))) => {
                    at += bytes;
                    self.waiting_bytes += bytes;
                    frame
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(malformed(&error, self.durable)),
            };
            let Frame::Records(records) = frame else {
                let text = "a frame that only a relay sends, or a second hello".to_owned();
                break Err(End::Refused(Refusal::Malformed, text));
            };
            let mut wrong = None;
            for record in records {
                match record {
                    Ok(record) if is_topic(record.topic) => {
                        self.waiting.push(self.converter.convert(&record));
                    }
                    Ok(record) => {
                        let text = format!("`{}` is no topic", record.topic.escape_debug());
                        wrong = Some(End::Refused(Refusal::Malformed, text));
                        break;
                    }
                    Err(error) => wrong = Some(malformed(&error, self.durable)),
                }
            }
            if let Some(wrong) = wrong {
                break Err(wrong);
            }
        };
        self.inbox.drain(..at);
        if self.inbox.is_empty() {
            // Thousands of idle clients keep no buffer.
            self.inbox = Vec::new();
        }
        if let Err(End::Refused(_, text)) = &done {
            tracing::warn!(
                pid = self.pid,
                reason = text,
                "a client has sent a malformed frame"
            );
        }
        done
    }

    fn append(&mut self, together: Option<Arc<Together>>) -> Appending {
        self.waiting_bytes = 0;
        let records = std::mem::take(&mut self.waiting);
        let relay = Arc::clone(self.relay);
        Box::pin(async move {
            let count = records.len();
            (count, append(&relay, records, together).await)
        })
    }

    fn acknowledge(&mut self, records: usize, done: &Result<Appended, LogError>) {
        let counters = &self.relay.counters;
        match done {
            Ok(appended) => {
                counters
                    .duplicates
                    .fetch_add(appended.duplicates as u64, Ordering::Relaxed);
                counters
                    .dropped
                    .fetch_add(appended.refused as u64, Ordering::Relaxed);
            }
            // The log is closed: the client sends them again to the next relay.
            Err(LogError::Closed) => {
                self.is_at_end = true;
                // What came behind it must not take its place.
                self.waiting.clear();
                self.waiting_bytes = 0;
                return;
            }
            Err(error) => {
                counters
                    .dropped
                    .fetch_add(records as u64, Ordering::Relaxed);
                tracing::error!(%error, records, pid = self.pid, "the log refuses records; they are lost");
            }
        }
        counters
            .records
            .fetch_add(records as u64, Ordering::Relaxed);
        self.durable += records as u64;
        // Of several acknowledgements that wait only the last one says something; a half-written
        // one has to stay.
        if self.outbox.len() < 64 {
            wire::write_ack(&mut self.outbox, self.durable);
        } else {
            let last = self.outbox.len() - 8;
            self.outbox[last..].copy_from_slice(&self.durable.to_le_bytes());
        }
    }

    /// Writes as much as the client takes.
    fn write(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        if let Ok(written) = self.socket.try_write(&self.outbox) {
            self.outbox.drain(..written);
        } else {
            // The client has gone; what it sent before is appended all the same.
            self.outbox.clear();
        }
        if self.outbox.is_empty() {
            if self.stuck_since.take().is_some() {
                self.socket.watch_writing(false);
            }
            self.outbox = Vec::new();
        } else {
            self.stuck_since.get_or_insert_with(Instant::now);
            self.socket.watch_writing(true);
        }
    }
}

/// The append that is under way; never ready if there is none.
async fn finished(
    appending: &mut Option<Appending>,
) -> Option<(usize, Result<Appended, LogError>)> {
    match appending {
        Some(appending) => Some(appending.await),
        None => std::future::pending().await,
    }
}

fn malformed(error: &wire::WireError, durable: u64) -> End {
    let text = format!("{error} (after {durable} records that are durable)");
    End::Refused(Refusal::Malformed, text)
}
