//! Open files: the limit is raised at the start, and where none is left that is logged once and not
//! for ever.

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use dovecast_relay::spill;
use dovecast_relay::wire::WireRecord;
use dovecast_testkit::PATIENCE;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use tempfile::TempDir;
use uuid::Uuid;

/// What is logged where no connection can be accepted, by the HTTP server and by the relay.
const HTTP: &str = "no HTTP connection can be accepted; this is retried";
const RELAY: &str = "the relay cannot accept clients; this is retried";
/// What is logged where spill files cannot be taken in: the directory cannot be opened, or a file.
const SPILLED: [&str; 2] = [
    "the spill directory cannot be read; this is retried",
    "a spill file cannot be appended to the log; this is retried",
];
/// Several looks at the spill directory, which has one each second.
const LOOKS: Duration = Duration::from_secs(4);
/// An event of a mail process that could not reach the relay.
const EVENT: &str =
    r#"{"user":"ann","mailbox":"INBOX","event":"MessageNew","uidvalidity":1,"uid":1}"#;

/// A dovecast that begins with other limits.
struct Limited {
    dir: TempDir,
}

impl Limited {
    fn new(ulimit: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let binary = env!("CARGO_BIN_EXE_dovecast");
        let script = format!("#!/bin/sh\nulimit {ulimit} || exit\nexec '{binary}' \"$@\"\n");
        let path = dir.path().join("dovecast");
        fs::write(&path, script).expect("a script");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("its mode");
        Self { dir }
    }

    fn binary(&self) -> PathBuf {
        self.dir.path().join("dovecast")
    }
}

/// Limits of open files of a process: the soft and the hard one.
fn limits(pid: u32) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let mut words = line.expect("the limit").split_whitespace();
    let mut next = || words.next().expect("a number").to_owned();
    (next(), next())
}

#[test]
fn the_limit_of_open_files_is_raised_to_what_is_allowed() {
    let limited = Limited::new("-S -n 256");
    let server = Server::builder().binary(limited.binary()).start();
    let server = server.expect("a server");
    let (soft, hard) = limits(server.pid());
    let hard: u64 = hard.parse().unwrap_or(u64::MAX);
    assert_eq!(soft, hard.min(262_144).to_string());
}

/// How often a line was logged.
fn told(server: &Server, line: &str) -> usize {
    server.server_log().matches(line).count()
}

/// Connections that take all descriptors of the server: more than it has.
fn all_descriptors(server: &Server) -> (Vec<TcpStream>, Vec<UnixStream>) {
    let address = server.address().expect("an address");
    let connections = (0..100).map(|_| TcpStream::connect(address).expect("connected"));
    let connections = connections.collect();
    let clients = (0..100)
        .map(|_| UnixStream::connect(server.relay_socket()).expect("connected"))
        .collect();
    let is_told = || (told(server, HTTP) > 0 && told(server, RELAY) > 0).then_some(());
    assert_eq!(
        poll_until(PATIENCE, is_told),
        Some(()),
        "{}",
        server.server_log()
    );
    (connections, clients)
}

#[test]
fn what_cannot_be_accepted_is_logged_once_and_accepted_later() {
    let limited = Limited::new("-n 120");
    let server = Server::builder().binary(limited.binary()).start();
    let mut server = server.expect("a server");
    for line in [
        "there are fewer connections to endpoints than `max_connections` of [dispatch] says",
        "this process may not open as many files as its configuration allows connections",
    ] {
        server.log_with(&[line]).expect("it is told");
    }
    drop(all_descriptors(&server));
    for errors in [
        "dovecast_http_accept_errors_total",
        "dovecast_relay_accept_errors_total",
    ] {
        server
            .metric_is(errors, |count| count > 0.0)
            .expect("counted");
    }
    // Each is tried ten times a second.
    assert_eq!(
        (told(&server, HTTP), told(&server, RELAY)),
        (1, 1),
        "{}",
        server.server_log()
    );
    assert!(server.stop().expect("an end").success());
}

/// Leaves a spill file with an event, as a mail process does that has ended.
fn leave_spill_file(server: &Server) {
    let record = WireRecord {
        topic: "dovecot",
        key: b"ann",
        value: EVENT.as_bytes(),
        time_ms: 0,
        id: Uuid::now_v7(),
        txn: Uuid::nil(),
        txn_seq: 0,
        txn_last: true,
    };
    let author = spill::Author::new("mail1", "lmtp");
    let writer = spill::Writer::create(server.spill_dir(), &author, &record, 1 << 20);
    let mut writer = writer.expect("a spill file");
    writer.push(&record);
    writer.flush().expect("written");
}

#[test]
fn a_spill_file_that_cannot_be_opened_is_logged_once_and_taken_in_later() {
    let limited = Limited::new("-n 120");
    let server = Server::builder()
        .binary(limited.binary())
        // Who holds a connection may do so for as long as the test takes.
        .http("header_timeout_seconds = 3600")
        .config("hello_timeout_seconds = 3600\nspill_interval_seconds = 1")
        .start();
    let server = server.expect("a server");
    let connections = all_descriptors(&server);
    leave_spill_file(&server);
    let lines = || -> usize { SPILLED.iter().map(|line| told(&server, line)).sum() };
    let is_told = poll_until(PATIENCE, || (lines() > 0).then_some(()));
    assert_eq!(is_told, Some(()), "{}", server.server_log());
    let is_told_again = poll_until(LOOKS, || (lines() > 1).then_some(()));
    assert_eq!(is_told_again, None, "{}", server.server_log());
    drop(connections);
    let taken = server.metric_is("dovecast_relay_spill_records_total", |records| {
        records > 0.0
    });
    assert_eq!(taken.ok(), Some(1.0), "{}", server.server_log());
    assert_eq!(server.values("dovecot").expect("values"), [EVENT]);
}
