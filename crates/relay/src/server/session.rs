//! One client: its records go to the log in their order, one append at a time; what comes meanwhile
//! is the next append.
//!
//! An append that fails is tried again until it succeeds: nothing behind it may overtake it. A
//! client is not read beyond a bound of bytes that wait, so that none can fill the memory or keep
//! the log from others.

mod answers;
mod door;
mod memory;
mod rate;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use dovecast_log::LogError;
use dovecast_log::embedded::Together;
use tokio::net::UnixStream;

use super::admission::Sender;
use super::append::append;
use super::batch::{Batch, Rejections};
use super::inbox::{Inbox, Item};
use super::records::Converter;
use super::shares::Share;
use super::socket::Socket;
use super::{Relay, stopped};
use crate::wire::{self, OLDEST_VERSION, Refusal};

/// What is read at a time, and what each client may leave unfinished without a share.
const READ_BYTES: usize = 16 * 1024;
/// What is read of a client when the relay is stopped: more than a socket holds.
const DRAINED_BYTES: usize = 4 * 1024 * 1024;
/// A client that leaves so many bytes of answers unread is not read on.
const MAX_OUTBOX_BYTES: usize = 64 * 1024;

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
    relay.counters.clients.fetch_add(1, Ordering::Relaxed);
    let (end, mut unwritten) = match door::welcome(&relay, &socket, peer).await {
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

struct Session<'s> {
    relay: &'s Arc<Relay>,
    socket: &'s Socket,
    pid: i32,
    sender: Sender,
    /// Version of the protocol that the client speaks.
    version: u8,
    inbox: Inbox,
    converter: Converter,
    /// The next append.
    batch: Batch,
    /// What the append that is under way takes in memory.
    appending_bytes: usize,
    /// Memory for what waits for the log.
    waiting: Share<'s>,
    /// Whether records were left in the inbox because there is no memory for more that waits.
    lacks_memory: bool,
    /// What the next append is part of, if it is made now.
    together: Option<Arc<Together>>,
    /// Whether the client sends nothing more.
    is_at_end: bool,
    /// Records of this connection that are durable, or were rejected.
    durable: u64,
    /// What could not be written yet.
    outbox: Vec<u8>,
    stuck_since: Option<Instant>,
    /// Memory for a frame that has not arrived whole.
    unfinished: Share<'s>,
    unfinished_since: Option<Instant>,
    _place: Share<'s>,
}

/// An append that is over.
struct Appended {
    /// How many records it had, those that were left out before included.
    records: u64,
    rejections: Rejections,
    done: Result<dovecast_log::Appended, LogError>,
}

type Appending = Pin<Box<dyn Future<Output = Appended> + Send>>;

impl<'s> Session<'s> {
    fn new(
        relay: &'s Arc<Relay>,
        socket: &'s Socket,
        (pid, sender): (Option<i32>, Sender),
        place: Share<'s>,
    ) -> Self {
        Self {
            relay,
            socket,
            pid: pid.unwrap_or_default(),
            version: OLDEST_VERSION,
            inbox: Inbox::default(),
            converter: Converter::new("", sender.uid),
            batch: Batch::default(),
            appending_bytes: 0,
            waiting: relay.waiting.share(sender.uid),
            lacks_memory: false,
            together: None,
            is_at_end: false,
            durable: 0,
            outbox: Vec::new(),
            stuck_since: None,
            unfinished: relay.unfinished.share(sender.uid),
            unfinished_since: None,
            sender,
            _place: place,
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
            if appending.is_none() && self.batch.len() > 0 {
                appending = Some(self.append(together));
            }
            // What has no memory yet is taken all the same: its process may be gone.
            let is_over = wrong.is_some() || self.is_at_end && !self.lacks_memory;
            if appending.is_none() && is_over {
                self.write();
                return (wrong.unwrap_or(End::Gone), self.outbox);
            }
            let given_back = self.relay.unfinished.given_back();
            let memory_back = self.relay.waiting.given_back();
            if wrong.is_none() && self.lacks_memory && self.has_memory() {
                wrong = self.read_frames().err();
                continue;
            }
            let held = self.held_until();
            let wants_more = wrong.is_none()
                && held.is_none()
                && !self.is_at_end
                && !self.is_full()
                && self.outbox.len() < MAX_OUTBOX_BYTES;
            if !wants_more {
                // It is not the client that is slow.
                self.unfinished_since = None;
            }
            let may_read = wants_more && self.has_room() && !self.lacks_memory;
            self.socket.set_full(!may_read);
            tokio::select! {
                Some(appended) = finished(&mut appending) => {
                    appending = None;
                    self.appending_bytes = 0;
                    wrong = self.acknowledge(appended).or(wrong);
                    if wrong.is_none() {
                        // What had no room in the batch before.
                        wrong = self.read_frames().err();
                    }
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
                () = given_back, if wants_more && !may_read => {}
                () = memory_back, if self.lacks_memory && wrong.is_none() => {}
                () = rate::until(held), if wrong.is_none() => {}
                () = self.unfinished_too_long(), if wrong.is_none() => {
                    // Nothing is wrong with what was sent: a busy host may do better in a moment.
                    let text = "a frame has not arrived whole in time".to_owned();
                    wrong = Some(End::Refused(Refusal::Busy, text));
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

    fn is_full(&self) -> bool {
        self.batch.bytes() >= self.relay.options.max_client_bytes
    }

    /// The relay stops: what the client has sent already is taken, its process may be gone.
    fn drain(&mut self) {
        let mut left = DRAINED_BYTES;
        loop {
            let read = self.read();
            left = left.saturating_sub(read);
            let is_wrong = self.take_frames(None).is_err();
            if read == 0 || left == 0 || is_wrong || self.is_at_end {
                return;
            }
        }
    }

    /// Reads what has come since the socket was looked at last, within the bound. Whether the user
    /// has sent too much is asked after each read: its clients together would go beyond its burst
    /// by what all of them may hold.
    fn read_gathered(&mut self) -> Result<(), End> {
        self.together = self.socket.take_together();
        loop {
            self.read();
            self.read_frames()?;
            let may_go_on = !self.is_at_end
                && !self.is_full()
                && !self.lacks_memory
                && self.socket.has_gathered();
            if !may_go_on || self.held_until().is_some() || !self.has_room() {
                return Ok(());
            }
        }
    }

    /// Reads what is there; says how much that is.
    fn read(&mut self) -> usize {
        let mut buffer = [0; READ_BYTES];
        match self.socket.try_read(&mut buffer) {
            Ok(0) => self.is_at_end = true,
            Ok(bytes) => {
                let counter = &self.relay.counters.bytes;
                counter.fetch_add(bytes as u64, Ordering::Relaxed);
                self.inbox.extend(&buffer[..bytes]);
                return bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.is_at_end = true,
        }
        0
    }

    /// Takes whole records out of the inbox, within the bound; what was whole before an error stays
    /// taken.
    fn read_frames(&mut self) -> Result<(), End> {
        let done = self.take_frames(Some(self.relay.options.max_client_bytes));
        if let Err(End::Refused(_, text)) = &done
            && self.relay.peers.refused.take(self.sender.uid)
        {
            tracing::warn!(
                uid = self.sender.uid,
                pid = self.pid,
                reason = text,
                "a client has sent a malformed frame"
            );
        }
        done
    }

    /// Without `max_bytes` all there is, whatever others have.
    fn take_frames(&mut self, max_bytes: Option<usize>) -> Result<(), End> {
        let (mut taken, mut taken_bytes) = (0, 0);
        self.lacks_memory = false;
        let done = loop {
            if max_bytes.is_some_and(|max| self.batch.bytes() >= max) {
                break Ok(());
            }
            if max_bytes.is_some() && !self.has_memory() {
                self.lacks_memory = true;
                break Ok(());
            }
            match self.inbox.next() {
                Ok(Some(Item::Record(record, bytes))) => {
                    taken += 1;
                    taken_bytes += bytes as u64;
                    let topics = &self.relay.options.topics;
                    match self.sender.objection(topics, &record) {
                        None => self.batch.push(self.converter.convert(&record), bytes),
                        Some(objection) => self.batch.reject(objection.into_reason()),
                    }
                }
                Ok(Some(Item::Other)) => {
                    let text = "a frame that only a relay sends, or a second hello".to_owned();
                    break Err(End::Refused(Refusal::Malformed, text));
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(malformed(&error, self.durable)),
            }
        };
        self.inbox.tidy();
        if taken > 0 {
            self.charge(taken, taken_bytes);
        }
        done
    }

    fn append(&mut self, together: Option<Arc<Together>>) -> Appending {
        let batch = std::mem::take(&mut self.batch);
        self.appending_bytes = batch.bytes();
        let relay = Arc::clone(self.relay);
        Box::pin(async move {
            let records = batch.len();
            let mut rejections = batch.rejections;
            let count = batch.records.len() as u64;
            let done = append(&relay, batch.records, together).await;
            match &done {
                Ok(appended) => rejections.add_refused(appended),
                Err(LogError::Closed) => {}
                Err(error) => rejections.add(format!("the log refuses them: {error}"), count),
            }
            Appended {
                records,
                rejections,
                done,
            }
        })
    }
}

/// The append that is under way; never ready if there is none.
async fn finished(appending: &mut Option<Appending>) -> Option<Appended> {
    match appending {
        Some(appending) => Some(appending.await),
        None => std::future::pending().await,
    }
}

fn malformed(error: &wire::WireError, durable: u64) -> End {
    let text = format!("{error} (after {durable} records that are durable)");
    End::Refused(Refusal::Malformed, text)
}

#[cfg(test)]
mod tests;
