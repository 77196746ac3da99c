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

mod connection;
mod queue;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use connection::{Connection, Ended};
use queue::Queue;

use crate::spill;
use crate::wire::{FRAME_HEAD_BYTES, Hello, MAX_FRAME_BYTES, VERSION, WireRecord, record_bytes};

/// How long after a failed attempt the next one is made: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_SLOWEST: Duration = Duration::from_secs(30);
/// How long after a failed attempt a process that has something to send makes the next one.
const RETRY_BUSY: Duration = Duration::from_millis(500);
/// How long after a failure to spill the next attempt is made, unless the queue is full.
const SPILL_AGAIN: Duration = Duration::from_secs(1);
/// How often acknowledgements are looked for: at first, and when none come.
const POLL_FIRST: Duration = Duration::from_millis(4);
const POLL_SLOWEST: Duration = Duration::from_secs(1);

/// Where records go, and the bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The relay's socket.
    pub socket: PathBuf,
    /// Where spill files are made.
    pub spill_dir: PathBuf,
    /// What may wait in memory.
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
    spill: Spill,
    /// Delay after the last attempt that no relay has welcomed; `None`: the last one was welcomed.
    delay: Option<Duration>,
    /// When the last attempt to spill has failed; said once.
    spill_failed: Option<Instant>,
    look: Duration,
    news: Vec<News>,
}

/// The spill file that no relay has confirmed yet.
enum Spill {
    /// Everything older than the queue is with the relay.
    None,
    /// More may be appended.
    Open(spill::Writer),
    /// Complete; its name. Nothing can be spilled until a relay has it: a second file could be
    /// taken in before it.
    Closed(String),
}

impl Spill {
    fn name(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Open(writer) => Some(writer.name()),
            Self::Closed(name) => Some(name),
        }
    }

    fn close(&mut self) {
        if let Self::Open(writer) = self {
            *self = Self::Closed(writer.name().to_owned());
        }
    }
}

enum Link {
    /// No attempt has been made, or a good connection was lost just now.
    Untried,
    Up(Connection),
    Away {
        /// When the timer tries again.
        until: Instant,
        delay: Duration,
        /// When the last attempt was made.
        tried: Instant,
    },
}

impl Client {
    /// A client; it connects when there is something to send.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            link: Link::Untried,
            queue: Queue::default(),
            spill: Spill::None,
            delay: None,
            spill_failed: None,
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
        let bytes = record_bytes(record);
        if FRAME_HEAD_BYTES + size_of::<u32>() + bytes > MAX_FRAME_BYTES {
            return self.lose(1, &format!("a record of {bytes} bytes is too large"));
        }
        if self.queue.bytes() + bytes > self.options.queue_bytes {
            self.make_room(bytes);
            if self.queue.bytes() + bytes > self.options.queue_bytes {
                return self.lose(1, "the queue is full and nothing can be spilled");
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
    }

    /// Does what there is to do, and says when to call again; `None`: not before the next record.
    pub fn serve(&mut self) -> Option<Duration> {
        let before = self.queue.bytes();
        self.advance();
        if self.queue.bytes() < before {
            self.look = POLL_FIRST;
        }
        if let Link::Away { until, .. } = self.link {
            return self
                .is_needed()
                .then(|| until.saturating_duration_since(Instant::now()));
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
        if matches!(self.link, Link::Away { .. }) {
            self.link = Link::Untried;
        }
    }

    /// The process ends: waits until everything is acknowledged, until `deadline` at most, and
    /// spills the rest.
    pub fn finish(&mut self, deadline: Instant) {
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
        if !self.queue.is_empty() && !self.spill_all() {
            let records = self.queue.clear();
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
        let may_spill = self
            .spill_failed
            .is_none_or(|failed| failed.elapsed() >= SPILL_AGAIN);
        if may_spill && !self.queue.is_empty() && matches!(self.link, Link::Away { .. }) {
            self.spill_all();
        }
    }

    fn connect_if_due(&mut self) {
        let is_due = match &self.link {
            Link::Untried => true,
            Link::Up(_) => false,
            // What is spilled beside a relay that is back is behind what others send it: not for
            // long.
            Link::Away {
                until,
                delay,
                tried,
            } => {
                let is_busy = *delay < RETRY_SLOWEST && !self.queue.is_empty();
                Instant::now() >= *until || is_busy && tried.elapsed() >= RETRY_BUSY
            }
        };
        if !is_due || !self.is_needed() {
            return;
        }
        let hello = Hello {
            version: VERSION,
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
            Err(error) => self.go_away(false, &format!("cannot connect: {error}")),
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
            // The relay has all that is in the file.
            self.spill = Spill::None;
            self.delay = None;
        }
        self.handle(done);
    }

    fn handle(&mut self, done: Result<(), Ended>) {
        match done {
            Ok(()) => {}
            Err(Ended::Lost) => {
                self.queue.begin_again();
                if matches!(&self.link, Link::Up(connection) if connection.is_welcome()) {
                    // A relay that was started anew is there at once.
                    self.link = Link::Untried;
                } else {
                    self.go_away(false, "it closes the connection");
                }
            }
            Err(Ended::Refused { text, is_lasting }) => {
                self.queue.begin_again();
                self.go_away(is_lasting, &format!("it refuses: {text}"));
            }
        }
    }

    /// No relay has welcomed the last attempt; `is_lasting`: nor will one in a moment.
    fn go_away(&mut self, is_lasting: bool, reason: &str) {
        if !matches!(self.link, Link::Away { .. }) {
            let socket = self.options.socket.display();
            let text = format!("the relay at `{socket}` is away, events are spilled: {reason}");
            self.news.push(News::Trouble(text));
        }
        let delay = match self.delay {
            _ if is_lasting => RETRY_SLOWEST,
            None => RETRY_FIRST,
            Some(delay) => (delay * 2).min(RETRY_SLOWEST),
        };
        self.delay = Some(delay);
        self.stay_away(delay);
    }

    fn stay_away(&mut self, delay: Duration) {
        self.link = Link::Away {
            until: Instant::now() + delay,
            delay,
            tried: Instant::now(),
        };
    }

    /// Makes room for a record: by sending, else by spilling what waits.
    fn make_room(&mut self, bytes: usize) {
        self.queue.close_frame();
        self.advance();
        if self.queue.bytes() + bytes > self.options.queue_bytes && self.spill_all() {
            // What comes next must not overtake what is in the file: the next connection names it
            // first.
            self.stay_away(RETRY_FIRST);
        }
    }

    /// Moves all that waits into the spill file; `false` if that is not possible.
    fn spill_all(&mut self) -> bool {
        match self.try_spill() {
            Ok(()) => {
                self.queue.clear();
                self.spill_failed = None;
                true
            }
            Err(error) => {
                if self.spill_failed.replace(Instant::now()).is_none() {
                    let dir = self.options.spill_dir.display();
                    let text = format!("cannot spill events to `{dir}`: {error}");
                    self.news.push(News::Trouble(text));
                }
                false
            }
        }
    }

    fn try_spill(&mut self) -> io::Result<()> {
        let Self {
            options,
            queue,
            spill,
            ..
        } = self;
        let mut failed = None;
        queue.for_each(|record| {
            if failed.is_some() {
                return;
            }
            if matches!(spill, Spill::None) {
                let by = spill::Author::new(&options.host, &options.program);
                match spill::Writer::create(&options.spill_dir, &by, record, options.spill_bytes) {
                    Ok(writer) => *spill = Spill::Open(writer),
                    Err(error) => failed = Some(error),
                }
            }
            if let Spill::Open(writer) = spill {
                writer.push(record);
            }
        });
        match (failed, &mut *spill) {
            (Some(error), _) => Err(error),
            (None, Spill::Open(writer)) => {
                let done = writer.flush();
                if writer.is_broken() {
                    // The relay takes in what is whole of it.
                    spill.close();
                }
                done
            }
            (None, Spill::Closed(name)) => {
                let text = format!("the relay has to take in `{name}` first");
                Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
            }
            (None, Spill::None) => Ok(()),
        }
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
