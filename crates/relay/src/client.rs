//! A mail process's side of the relay: sends records, keeps what is not acknowledged, spills what
//! it cannot get rid of.
//!
//! No thread, no runtime. Nothing waits but [`Client::finish`], which is told how long. What keeps
//! records safe:
//! - at the end of each transaction they are in the socket, or, while the relay is away, in a spill
//!   file: a process that is killed then loses none;
//! - those that are sent and not acknowledged are kept, bounded, and sent again on the next
//!   connection, which the relay notices by their ids;
//! - where the bound is reached, and at the end of the process, they go to a spill file.
//!
//! Records of one process stay in order, however the relay turns it away: there is one spill file
//! at most, every hello names it until a relay has answered that it has what is in it, and what is
//! turned away meanwhile is appended to it. The file stays open and locked until then, so that no
//! second one can be taken in before it.

mod away;
mod connection;
mod queue;
mod spill_file;
mod spilling;
mod users;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use away::{Away, RETRY_BUSY, RETRY_FIRST, RETRY_SLOWEST, next_delay};
use connection::{Connection, Ended};
use queue::Queue;
use spill_file::{Making, SpillFile};
use spilling::WhenLocked;

use crate::wire::{
    FRAME_HEAD_BYTES, Hello, MAX_FRAME_BYTES, OLDEST_VERSION, Refusal, VERSION, WireRecord,
    record_bytes,
};

pub use users::UserClients;

/// How often acknowledgements are looked for: at first, and when none come.
const POLL_FIRST: Duration = Duration::from_millis(4);
const POLL_SLOWEST: Duration = Duration::from_secs(1);
/// How soon a spill file is tried again that the relay was reading.
const LOCKED_AGAIN: Duration = Duration::from_millis(20);

/// The longest name of a host or a program in a hello, in bytes (RFC 1035, NAME_MAX).
const MAX_NAME_BYTES: usize = 255;
const NO_ROOM: &str = "the queue is full and nothing can be spilled";

/// Where records go, and the bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The relay's socket.
    pub socket: PathBuf,
    /// Where spill files are made.
    pub spill_dir: PathBuf,
    /// What may wait in memory, of all clients of a process together.
    pub queue_bytes: usize,
    /// How large a spill file may grow.
    pub spill_bytes: u64,
    /// Name of this host.
    pub host: String,
    /// What this process is, for the relay's log.
    pub program: String,
}

/// Something to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The relay is away or refuses us, or there is no spill file to be had.
    Trouble(String),
    /// Records that will never arrive.
    Lost {
        /// How many.
        records: u64,
        /// Why.
        reason: String,
    },
}

/// A connection to the relay, or the hope of one.
pub struct Client {
    options: Options,
    link: Link,
    queue: Queue,
    /// What waits in memory of other clients of this process, within the same bound.
    others_bytes: usize,
    spill: SpillFile,
    /// Version of the protocol that the relay is spoken to in.
    version: u8,
    /// Where the process may change its user id: the one whose client this is, and what says which
    /// one is in effect.
    user: Option<(u32, fn() -> u32)>,
    is_ending: bool,
    /// When a record was pushed last.
    used: Instant,
    /// Delay after the last attempt that no relay has welcomed; `None`: the last one was welcomed.
    delay: Option<Duration>,
    /// When the last attempt to spill has failed; said once.
    spill_failed: Option<Instant>,
    /// Whether the relay was reading the spill file when more was to be appended.
    is_spill_locked: bool,
    look: Duration,
    news: Vec<News>,
}

enum Link {
    /// No attempt has been made, or a good connection was lost just now.
    Untried,
    Up(Connection),
    Away(Away),
}

impl Client {
    /// A client; it connects when there is something to send.
    pub fn new(mut options: Options) -> Self {
        // A hello has room for so much.
        for name in [&mut options.host, &mut options.program] {
            name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
        }
        Self {
            options,
            link: Link::Untried,
            queue: Queue::default(),
            others_bytes: 0,
            spill: SpillFile::None,
            version: VERSION,
            user: None,
            is_ending: false,
            used: Instant::now(),
            delay: None,
            spill_failed: None,
            is_spill_locked: false,
            look: POLL_FIRST,
            news: Vec::new(),
        }
    }

    /// What has happened since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Takes a record over. It is on its way after the next [`flush`](Self::flush).
    pub fn push(&mut self, record: &WireRecord<'_>) {
        // In a frame of its own, at most.
        let bytes = FRAME_HEAD_BYTES + size_of::<u32>() + record_bytes(record);
        if bytes > MAX_FRAME_BYTES {
            return self.lose(1, &format!("a record of {bytes} bytes is too large"));
        }
        if self.is_over(bytes) && !self.may_pass() {
            self.make_room(bytes);
            if self.is_over(bytes) && !self.may_pass() {
                return self.lose(1, NO_ROOM);
            }
        }
        if self.queue.push(record) {
            self.advance();
        }
    }

    /// The transaction ends: what was pushed is sent as far as the socket takes it, or spilled.
    pub fn flush(&mut self) {
        self.queue.close_frame();
        self.look = POLL_FIRST;
        match &mut self.link {
            // Acknowledgements are read when the timer runs off: this is all a command has to pay
            // for.
            Link::Up(connection) => {
                let sent = connection.send(&mut self.queue);
                self.handle(sent);
            }
            _ if self.queue.is_empty() => return,
            _ => {}
        }
        if !matches!(self.link, Link::Up(_)) {
            self.advance();
        }
        self.leave_room();
    }

    /// Does what there is to do, and says when to call again; `None`: not before the next record.
    pub fn serve(&mut self) -> Option<Duration> {
        let before = self.queue.bytes();
        self.advance();
        if self.queue.bytes() < before {
            self.look = POLL_FIRST;
        }
        if let Link::Away(away) = &self.link {
            let longest = if self.is_spill_locked {
                LOCKED_AGAIN
            } else {
                Duration::MAX
            };
            // A spill file alone may wait until the process is its user again, or the relay takes
            // it in.
            let may_act = self.is_itself() || !self.queue.is_empty();
            let is_needed = self.is_needed() && may_act;
            return is_needed.then(|| away.left().min(longest));
        }
        if !self.is_needed() {
            return None;
        }
        let look = self.look;
        self.look = (look * 2).min(POLL_SLOWEST);
        Some(look)
    }

    /// Whether a relay has to take or confirm something.
    fn is_needed(&self) -> bool {
        self.spill.name().is_some() || !self.queue.is_empty()
    }

    /// Connects at the next chance, even if a relay has turned the client away a moment ago: for
    /// whoever knows that it is different.
    pub fn retry_now(&mut self) {
        self.delay = None;
        if matches!(self.link, Link::Away(_)) {
            self.link = Link::Untried;
        }
    }

    /// The process ends: waits until everything is acknowledged, until `deadline` at most, and
    /// spills the rest.
    pub fn finish(&mut self, deadline: Instant) {
        self.is_ending = true;
        self.queue.close_frame();
        self.advance();
        while !self.queue.is_empty()
            && let Link::Up(connection) = &self.link
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || connection.wait(&self.queue, left).is_err() {
                break;
            }
            self.advance();
        }
        if !self.queue.is_empty() && !self.spill_all(WhenLocked::Wait) {
            let records = self.forget_queue();
            self.lose(
                records,
                "not acknowledged before the process ended, and not spilled",
            );
        }
        // Unlocked: the relay may take it for complete.
        self.spill.close();
        self.link = Link::Untried;
    }

    /// Connects if it is time to, exchanges what there is, and spills while the relay is away.
    fn advance(&mut self) {
        self.exchange();
        self.connect_if_due();
        if matches!(self.link, Link::Untried) {
            // The relay is older than the client thought.
            self.connect_if_due();
        }
        let may_spill = self.may_spill_again()
            && (self.making() != Making::Never || self.spill.name().is_some());
        if may_spill && !self.queue.is_empty() && matches!(self.link, Link::Away(_)) {
            self.spill_all(WhenLocked::Leave);
        }
    }

    fn connect_if_due(&mut self) {
        let is_due = match &self.link {
            Link::Untried => true,
            Link::Up(_) => false,
            Link::Away(away) => away.is_due(!self.queue.is_empty()),
        };
        if !is_due || !self.is_needed() {
            return;
        }
        if !self.is_itself() {
            // The timer looks again whether the process is its user now.
            return self.stay_away(RETRY_BUSY);
        }
        let hello = Hello {
            version: self.version,
            host: &self.options.host,
            program: &self.options.program,
            spill: self.spill.name().unwrap_or_default(),
        };
        match Connection::open(&self.options.socket, &hello) {
            Ok(connection) => {
                self.queue.begin_again();
                self.link = Link::Up(connection);
                self.exchange();
            }
            Err(error) => self.find_deserted(&error),
        }
    }

    /// Sends and receives what is possible now.
    fn exchange(&mut self) {
        let Link::Up(connection) = &mut self.link else {
            return;
        };
        let done = connection
            .receive(&mut self.queue)
            .and_then(|()| connection.send(&mut self.queue));
        if connection.is_welcome() {
            // The relay has all that is in the file, and so there is room in the next.
            if self.spill.name().is_some() {
                self.spill_failed = None;
            }
            self.spill = SpillFile::None;
            self.delay = None;
        }
        self.handle(done);
    }

    fn handle(&mut self, done: Result<(), Ended>) {
        if let Link::Up(connection) = &mut self.link {
            for (records, reason) in connection.take_lost(&self.queue) {
                self.lose(records, &format!("the relay does not take them: {reason}"));
            }
        }
        match done {
            Ok(()) => {}
            Err(Ended::Lost) => {
                self.queue.begin_again();
                if matches!(&self.link, Link::Up(connection) if connection.is_welcome()) {
                    // Perhaps a newer one comes.
                    self.version = VERSION;
                    // A relay that was started anew is there at once.
                    self.link = Link::Untried;
                } else {
                    self.go_away(false, "it closes the connection");
                }
            }
            Err(Ended::Refused {
                reason: Some(Refusal::Version),
                ..
            }) if self.version > OLDEST_VERSION => {
                self.queue.begin_again();
                self.version = OLDEST_VERSION;
                self.link = Link::Untried;
            }
            Err(Ended::Refused {
                text, is_lasting, ..
            }) => {
                self.queue.begin_again();
                self.go_away(is_lasting, &format!("it refuses: {text}"));
            }
        }
    }

    /// Nobody listens. What is tried before the timer runs off does not make it slower.
    fn find_deserted(&mut self, error: &io::Error) {
        if matches!(&self.link, Link::Away(away) if away.is_deserted()) {
            return;
        }
        let away = self.turned_away(false, &format!("cannot connect: {error}"));
        self.link = Link::Away(away.deserted());
    }

    /// No relay has welcomed the last attempt; `is_lasting`: nor will one in a moment.
    fn go_away(&mut self, is_lasting: bool, reason: &str) {
        self.link = Link::Away(self.turned_away(is_lasting, reason));
    }

    fn stay_away(&mut self, delay: Duration) {
        self.link = Link::Away(Away::of(delay));
    }

    fn turned_away(&mut self, is_lasting: bool, reason: &str) -> Away {
        if !matches!(self.link, Link::Away(_)) {
            let socket = self.options.socket.display();
            let text = format!("the relay at `{socket}` is away, events are spilled: {reason}");
            self.news.push(News::Trouble(text));
        }
        let delay = if is_lasting {
            RETRY_SLOWEST
        } else {
            next_delay(self.delay)
        };
        self.delay = Some(delay);
        Away::of(delay)
    }

    fn lose(&mut self, records: u64, reason: &str) {
        match self.news.last_mut() {
            Some(News::Lost {
                records: so_far,
                reason: last,
            }) if last == reason => *so_far += records,
            _ => self.news.push(News::Lost {
                records,
                reason: reason.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
