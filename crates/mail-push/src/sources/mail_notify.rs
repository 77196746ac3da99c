//! The source `mailnotify`: a mail server says over UDP that somebody has mail, in the form of
//! Cyrus' notifyd.
//!
//! A packet names a user and a mailbox and nothing else, and anybody can send one: only those of
//! allowed senders are read, and no packet ends the listening. A name that comes again within the
//! delay counts once. Which mail it is the server asks by IMAP where it can; it does so once more
//! when the delay of a name that came again is over, as that packet was of a later mail.

mod names;
mod packet;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::time::sleep_until;

use super::{Boxed, read};
use crate::Person;
pub use names::{Names, WhoseName};
pub use packet::{BadPacket, MAX_PACKET_BYTES, Packet};

/// Names that are remembered for their delay at most, 300 bytes each: what is more is rung without
/// looking, and never waits. So many mailboxes are looked into again at most, 600 bytes each.
const MAX_REMEMBERED: usize = 100_000;
/// Pause after an error of the socket, so that one that lasts does not take a core.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// How packets are taken.
#[derive(Clone, Debug)]
pub struct NotifyOptions {
    /// Networks whose packets are read; empty: this host's only.
    pub allow: Vec<ipnet::IpNet>,
    /// How long a name that comes again is passed over.
    pub delay: Duration,
}

impl Default for NotifyOptions {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            delay: Duration::from_secs(5),
        }
    }
}

/// Counters since the start.
#[derive(Debug, Default)]
pub struct NotifyStats {
    /// Packets of which a person was rung.
    pub rung: AtomicU64,
    /// Packets from senders that are not allowed.
    pub not_allowed: AtomicU64,
    /// Packets that cannot be read.
    pub bad: AtomicU64,
    /// Packets whose name came within the delay.
    pub repeated: AtomicU64,
    /// Packets whose name is nobody's, or that of somebody who is not rung here.
    pub unknown: AtomicU64,
    /// Packets whose name is several persons', so that none is rung.
    pub ambiguous: AtomicU64,
    /// Errors of the socket.
    pub errors: AtomicU64,
}

impl NotifyStats {
    /// What grows, by name.
    pub fn counts(&self) -> [(&'static str, u64); 7] {
        read([
            ("rung", &self.rung),
            ("not_allowed", &self.not_allowed),
            ("bad", &self.bad),
            ("repeated", &self.repeated),
            ("unknown", &self.unknown),
            ("ambiguous", &self.ambiguous),
            ("errors", &self.errors),
        ])
    }
}

/// Whom a packet rings.
pub trait NotifySink: Send + Sync {
    /// All persons with their names, whoever rings them. They are asked for anew with each packet,
    /// and so have to come soon: other packets wait meanwhile.
    fn names(&self) -> Boxed<'_, Arc<Names>>;

    /// Whether packets ring the person here.
    fn is_rung(&self, person: &Person) -> bool;

    /// Notes that a packet's name is several persons', and has rung none.
    fn ambiguous(&self, name: &str);

    /// Has a person rung: something has happened in this mailbox. The next packet waits for
    /// nothing of it.
    fn ring(&self, person: Person, mailbox: String);

    /// Has mails in a mailbox looked for that came after the last ring, and rings nobody without
    /// one; `false`: the person's mailboxes cannot be looked into.
    fn look_again(&self, person: Person, mailbox: String) -> bool;
}

/// Takes packets from one socket.
pub struct MailNotify {
    options: NotifyOptions,
    sink: Arc<dyn NotifySink>,
    stats: Arc<NotifyStats>,
    /// When each name has rung last.
    heard: HashMap<Box<str>, Instant>,
    /// Names that came again within their delay, by its end, with the mailboxes.
    again: BTreeSet<(Instant, Box<str>, Box<str>)>,
}

impl MailNotify {
    /// Rings persons of the sink.
    pub fn new(options: NotifyOptions, sink: Arc<dyn NotifySink>) -> Self {
        Self {
            options,
            sink,
            stats: Arc::default(),
            heard: HashMap::new(),
            again: BTreeSet::new(),
        }
    }

    /// Counters since the start.
    pub fn stats(&self) -> Arc<NotifyStats> {
        Arc::clone(&self.stats)
    }

    /// Takes packets until the future is dropped.
    pub async fn listen(mut self, socket: UdpSocket) {
        let mut room = [0; MAX_PACKET_BYTES + 1];
        loop {
            let over = self.again.first().map(|(over, ..)| *over);
            let received = tokio::select! {
                received = socket.recv_from(&mut room) => received,
                () = until(over) => {
                    self.look_again().await;
                    continue;
                }
            };
            match received {
                Ok((length, sender)) => self.take(&room[..length], sender).await,
                Err(error) => {
                    self.stats.errors.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%error, "a packet of mailnotify cannot be received");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }

    async fn take(&mut self, bytes: &[u8], sender: SocketAddr) {
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        if !self.is_allowed(sender.ip()) {
            count(&self.stats.not_allowed);
            tracing::debug!(%sender, "a packet of mailnotify came from a sender that `allow` does not name");
            return;
        }
        let packet = match Packet::read(bytes) {
            Ok(packet) => packet,
            Err(error) => {
                count(&self.stats.bad);
                tracing::debug!(%sender, %error, "a packet of mailnotify cannot be read");
                return;
            }
        };
        let person = match self.sink.names().await.find(&packet.user) {
            WhoseName::One(person) if self.sink.is_rung(&person) => person,
            WhoseName::One(_) | WhoseName::Nobody => {
                count(&self.stats.unknown);
                return;
            }
            WhoseName::Spellings(persons) => return self.take_spellings(&packet, persons),
            WhoseName::Several => {
                count(&self.stats.ambiguous);
                self.sink.ambiguous(&packet.user);
                return;
            }
        };
        if self.is_repeated(&packet) {
            count(&self.stats.repeated);
            return;
        }
        count(&self.stats.rung);
        self.sink.ring(person, packet.mailbox);
    }

    /// Has each person looked at whose name a packet spells: whose mailbox has a mail is rung by
    /// it, and nobody by a packet that may be of another's.
    fn take_spellings(&mut self, packet: &Packet, persons: Vec<Person>) {
        if self.is_repeated(packet) {
            self.stats.repeated.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match self.look_at(persons, &packet.mailbox) {
            None => self.stats.unknown.fetch_add(1, Ordering::Relaxed),
            Some(true) => self.stats.rung.fetch_add(1, Ordering::Relaxed),
            Some(false) => {
                self.sink.ambiguous(&packet.user);
                self.stats.ambiguous.fetch_add(1, Ordering::Relaxed)
            }
        };
    }

    /// Whether one of the persons is looked at; `None`: none of them is rung here.
    fn look_at(&self, persons: Vec<Person>, mailbox: &str) -> Option<bool> {
        let here = persons.into_iter().filter(|one| self.sink.is_rung(one));
        let looks = here.map(|one| self.sink.look_again(one, mailbox.to_owned()));
        // Each is looked at, and so none is passed over once one was.
        looks.reduce(|before, is_looked_at| before || is_looked_at)
    }

    fn is_allowed(&self, sender: IpAddr) -> bool {
        let sender = sender.to_canonical();
        let networks = &self.options.allow;
        networks.iter().any(|network| network.contains(&sender))
            || networks.is_empty() && sender.is_loopback()
    }

    /// Whether the name came a short time ago; if not, it comes now.
    fn is_repeated(&mut self, packet: &Packet) -> bool {
        let (now, delay) = (Instant::now(), self.options.delay);
        let is_recent = |at: &Instant| now.duration_since(*at) < delay;
        if let Some(at) = self.heard.get(&*packet.user).filter(|at| is_recent(at)) {
            if self.again.len() < MAX_REMEMBERED {
                let mailbox = packet.mailbox.as_str().into();
                self.again
                    .insert((*at + delay, packet.user.as_str().into(), mailbox));
            }
            return true;
        }
        if self.heard.len() >= MAX_REMEMBERED {
            self.heard.retain(|_, at| is_recent(at));
        }
        if self.heard.len() < MAX_REMEMBERED {
            self.heard.insert(packet.user.as_str().into(), now);
        }
        false
    }

    /// Looks once more into the mailbox of the first name that came again, and rings nobody by it:
    /// a packet that comes from now on rings, and begins a delay.
    async fn look_again(&mut self) {
        let Some((_, name, mailbox)) = self.again.pop_first() else {
            return;
        };
        let persons = match self.sink.names().await.find(&name) {
            WhoseName::One(person) => vec![person],
            WhoseName::Spellings(persons) => persons,
            WhoseName::Nobody | WhoseName::Several => return,
        };
        self.look_at(persons, &mailbox);
    }
}

/// Waits until then; without a time for ever.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
