//! A user who may not send and has left very many files in the spill directory, and a mail user
//! whose processes each name one: a third one's events arrive as if there were neither, and no file
//! is opened for who does not name it.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dovecast_relay::client::{Client, Options};
use dovecast_relay::wire::{self, Hello};
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use dovecast_testkit::{PATIENCE, as_user, may_act_as_others};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::{builder, event, record};

const STRANGER: u32 = 61_100;
pub(crate) const MAIL_USER: u32 = 61_003;
pub(crate) const HONEST: u32 = 61_001;
const FILES: usize = 20_000;
const HELLOS: usize = 300;
/// How often a file may be opened that no hello names: by looks at the directory, until it is known
/// to be refused. A relay that opens each file for each hello opens it [`HELLOS`] times.
const OPENED_AT_MOST: usize = 10;
/// Lines about refused files that these may make.
const MAX_LINES: usize = 20;

pub(crate) fn client(server: &Server) -> Client {
    Client::new(Options {
        socket: server.relay_socket().to_owned(),
        spill_dir: server.spill_dir().to_owned(),
        queue_bytes: 1 << 20,
        spill_bytes: 1 << 20,
        host: "mail1".to_owned(),
        program: "lmtp".to_owned(),
    })
}

/// An event of ann is taken from a mail process of somebody who does no harm.
pub(crate) fn ann_is_told_of(server: &Server) -> Result<()> {
    as_user(HONEST, || {
        let mut client = client(server);
        client.push(&record("dovecot", "ann", &event("ann", 1)));
        client.flush();
        client.finish(Instant::now() + PATIENCE);
        let news = client.take_news();
        ensure!(news.is_empty(), "{news:?}");
        Ok(())
    })
}

/// How often a file is opened from now on.
struct Opened(OwnedFd);

impl Opened {
    fn of(file: &Path) -> Result<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // Two that are the same would be one event.
        let flags = WatchFlags::OPEN | WatchFlags::CLOSE_NOWRITE;
        inotify::add_watch(&events, file, flags)?;
        Ok(Self(events))
    }

    fn count(&self) -> Result<usize> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        let mut opened = 0;
        loop {
            match events.next() {
                Ok(event) => opened += usize::from(event.events().contains(ReadFlags::OPEN)),
                Err(Errno::AGAIN) => return Ok(opened),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Connections whose hellos name the files of the stranger.
fn hellos(server: &Server) -> Result<Vec<UnixStream>> {
    let say = |number: usize| {
        let mut stream = UnixStream::connect(server.relay_socket())?;
        let mut hello = Vec::new();
        let names = Hello {
            version: wire::VERSION,
            host: "mail1",
            program: "lmtp",
            spill: &format!("{number}.spill"),
        };
        wire::write_hello(&mut hello, &names);
        stream.write_all(&hello)?;
        Ok(stream)
    };
    (0..HELLOS).map(say).collect()
}

#[test]
fn very_many_files_and_hellos_do_not_hold_another_user_back() -> Result<()> {
    if !may_act_as_others("a crowded spill directory") {
        return Ok(());
    }
    let server = builder()
        .config(&format!("allow = ['{HONEST}', '{MAIL_USER}']"))
        .start()?;
    as_user(STRANGER, || {
        for number in 0..FILES {
            File::create(server.spill_dir().join(format!("{number}.spill")))?;
        }
        Ok(())
    })?;
    // They have been looked at.
    server.metric_is("dovecast_relay_spill_refused_total", |refused| {
        refused > 0.0
    })?;
    let unnamed = server.spill_dir().join(format!("{}.spill", FILES - 1));
    let opened = Opened::of(&unnamed)?;
    let crowd = as_user(MAIL_USER, || hellos(&server))?;
    ann_is_told_of(&server)?;
    let arrived = poll_until(PATIENCE, || {
        let values = server.values("dovecot").ok()?;
        (values == [event("ann", 1)]).then_some(())
    });
    arrived.with_context(|| server.server_log())?;
    for mut stream in crowd {
        // Until it is turned away.
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_to_end(&mut Vec::new())?;
    }
    let opened = opened.count()?;
    ensure!(opened <= OPENED_AT_MOST, "it was opened {opened} times");
    let log = server.server_log();
    let lines = log.lines().filter(|line| line.contains(".spill"));
    ensure!(lines.count() <= MAX_LINES, "{log}");
    Ok(())
}
