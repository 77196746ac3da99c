//! The transport `relay`: records go to the relay of this host, over a unix socket and without any
//! thread.
//!
//! At the end of each transaction its records are written to the socket, so that they are out of
//! the process before the client has its answer; nothing waits. The timer looks for
//! acknowledgements.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use dovecast_dovecot_sys::host::{self, Level};
use dovecast_relay::client::{News, Options, UserClients};
use dovecast_relay::wire::WireRecord;

use crate::losses::{LineLimit, Losses};
use crate::record::Record;
use crate::transport;
use dovecast_options::GeneralSettings;

/// How soon after a transaction acknowledgements are looked for: about what a disk needs to make
/// them durable.
const FIRST_LOOK: Duration = Duration::from_millis(5);

/// The relay of this host.
pub(crate) struct Relay {
    destination: String,
    flush_time: Duration,
    state: RefCell<State>,
}

struct State {
    clients: UserClients,
    lines: LineLimit,
    losses: Losses,
}

impl Relay {
    /// The relay that `settings` name. It is not connected before the first record.
    pub(crate) fn new(settings: &GeneralSettings) -> Self {
        let relay = &settings.relay;
        let clients = UserClients::new(Options {
            socket: relay.socket.clone(),
            spill_dir: relay.spill_dir.clone(),
            queue_bytes: relay.queue_bytes,
            spill_bytes: relay.spill_bytes,
            host: host::hostname(),
            program: program(),
        });
        Self {
            destination: settings.destination().to_owned(),
            flush_time: settings.flush_time,
            state: RefCell::new(State {
                clients,
                lines: LineLimit::default(),
                losses: Losses::default(),
            }),
        }
    }

    /// Takes a record over.
    pub(crate) fn send(&self, record: &Record) {
        self.state.borrow_mut().clients.push(&WireRecord {
            topic: &record.envelope.topic,
            key: &record.envelope.key,
            value: &record.value,
            time_ms: record.time.0,
            id: record.id,
            txn: record.txn,
            txn_seq: record.txn_seq,
            txn_last: record.txn_last,
        });
    }

    /// Sends, or spills, what was taken over.
    pub(crate) fn flush(&self) {
        let state = &mut *self.state.borrow_mut();
        state.clients.flush();
        // News are told from the event loop, after the command's answer.
        transport::set_timer(FIRST_LOOK);
    }

    /// Looks for acknowledgements; says when to look again.
    pub(crate) fn serve(&self) -> Option<Duration> {
        let state = &mut *self.state.borrow_mut();
        let next = state.clients.serve();
        state.take_news();
        state.losses.tell(&self.destination);
        next
    }

    /// Waits until everything is acknowledged, at most for the configured time since `started`.
    pub(crate) fn finish(&self, started: Instant) {
        let state = &mut *self.state.borrow_mut();
        state.clients.finish(started + self.flush_time);
        state.take_news();
        state.losses.tell_now(&self.destination);
    }
}

/// `imap`, `lmtp`...: the name of the executable, where /proc is there to tell.
fn program() -> String {
    let executable = std::env::current_exe().ok();
    let name = executable.as_deref().and_then(Path::file_name);
    name.map_or_else(
        || "dovecot".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}

impl State {
    fn take_news(&mut self) {
        for news in self.clients.take_news() {
            match news {
                News::Trouble(text) => self.lines.log([(Level::Warning, text)], 0),
                News::Lost { records, reason } => self.losses.add(records, &reason),
            }
        }
    }
}
