//! Client and relay together, over a real socket and a real log: what came out is counted against
//! what went in.

mod clients;
mod gathered;
mod hostile;
mod kept;
mod order;
mod rates;
mod ship_again;
mod ship_refused;
mod ship_times;
mod ships;
mod spills;
mod trust;
mod users;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Log, Reader, Record, StartAt};
use dovecast_relay::client::{Client, News, Options};
use dovecast_relay::server::{RelayOptions, RelayServer, bind};
use dovecast_relay::wire::WireRecord;
use tempfile::TempDir;
use uuid::Uuid;

/// How long something that has to happen may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// A directory with a relay's socket, spill files and log, and perhaps the relay.
struct Host {
    dir: TempDir,
    running: Option<(RelayServer, Embedded)>,
    options: RelayOptions,
    log_options: EmbeddedOptions,
}

impl Host {
    /// Without a relay yet.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = RelayOptions {
            spill_dir: dir.path().join("spill"),
            spill_interval: Duration::from_millis(50),
            ..RelayOptions::default()
        };
        Self {
            dir,
            running: None,
            options,
            log_options: EmbeddedOptions::default(),
        }
    }

    fn started() -> Self {
        let mut host = Self::new();
        host.start();
        host
    }

    fn start(&mut self) {
        let log = self.open_log();
        let listener = bind(&self.socket()).expect("a socket");
        let relay = RelayServer::start(self.options.clone(), listener, log.clone());
        self.running = Some((relay.expect("a relay"), log));
    }

    fn open_log(&self) -> Embedded {
        let dir = self.dir.path().join("log");
        Embedded::open(&dir, &self.log_options).expect("a log")
    }

    async fn stop(&mut self) {
        let (relay, log) = self.running.take().expect("it runs");
        relay.stop().await;
        log.close().await;
    }

    fn relay(&self) -> &RelayServer {
        &self.running.as_ref().expect("it runs").0
    }

    fn log(&self) -> &Embedded {
        &self.running.as_ref().expect("it runs").1
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("relay.sock")
    }

    fn spill_dir(&self) -> PathBuf {
        self.dir.path().join("spill")
    }

    /// As mail processes find it where a package has made it.
    fn make_spill_dir(&self) {
        fs::create_dir_all(self.spill_dir()).expect("a directory");
    }

    fn client_options(&self) -> Options {
        Options {
            socket: self.socket(),
            spill_dir: self.spill_dir(),
            queue_bytes: 1024 * 1024,
            spill_bytes: 100 * 1024 * 1024,
            host: "mail1".to_owned(),
            program: "imap".to_owned(),
        }
    }

    fn client(&self) -> Client {
        Client::new(self.client_options())
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("the relay");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        stream
    }

    fn spill_files(&self) -> Vec<String> {
        names(&self.spill_dir())
    }

    /// The values of all records, once there are so many.
    async fn arrived(&self, count: usize) -> Vec<Record> {
        let mut reader = self
            .log()
            .reader("dovecot", StartAt::Beginning)
            .await
            .expect("a reader");
        let mut records = Vec::new();
        while records.len() < count {
            let next = tokio::time::timeout(PATIENCE, reader.next()).await;
            let Ok(next) = next else {
                panic!("only {} of {count} records have arrived", records.len());
            };
            records.extend(next.expect("records"));
        }
        let more = tokio::time::timeout(Duration::from_millis(100), reader.next()).await;
        assert!(more.is_err(), "more than {count} records");
        records
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("the directory")
        .map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.to_string_lossy().into_owned()
        })
        .collect();
    names.sort_unstable();
    names
}

/// Whether a file has the name of one that was put aside.
fn is_aside(name: &str) -> bool {
    Path::new(name).extension() == Some("torn".as_ref())
}

/// Sends records of a user, numbered from `from` on: one transaction each.
fn send(client: &mut Client, user: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        push(client, user, number);
        client.flush();
    }
}

fn push(client: &mut Client, user: &str, number: u32) {
    client.push(&WireRecord {
        topic: "dovecot",
        key: user.as_bytes(),
        value: format!("{user} {number}").as_bytes(),
        time_ms: 1_795_210_528_120,
        id: id(user, number),
        txn: Uuid::nil(),
        txn_seq: 0,
        txn_last: true,
    });
}

/// An id, equal for equal records.
fn id(user: &str, number: u32) -> Uuid {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(user.bytes()) {
        *to = from;
    }
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    Uuid::from_bytes(bytes)
}

/// Ends a client as a process that exits does; it must have nothing to complain of.
fn finish(mut client: Client) -> Vec<News> {
    client.finish(Instant::now() + PATIENCE);
    client.take_news()
}

/// That the records of each user are numbered from 0, in order, without gaps or repetitions.
fn check_in_order(records: &[Record]) -> BTreeMap<String, u32> {
    let mut next: BTreeMap<String, u32> = BTreeMap::new();
    for record in records {
        let value = String::from_utf8(record.value.to_vec()).expect("text");
        let (user, number) = value.split_once(' ').expect("user and number");
        let expected = next.entry(user.to_owned()).or_default();
        assert_eq!(number, expected.to_string(), "of {user}");
        *expected += 1;
    }
    next
}

/// What the relay says until it closes the connection.
fn read_to_end(mut stream: UnixStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset says the same as an end.
    let _ = stream.read_to_end(&mut said);
    said
}
