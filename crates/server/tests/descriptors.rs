//! Open files: the limit is raised at the start, and where none is left that is logged once and not
//! for ever.

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use dovecast_testkit::PATIENCE;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use tempfile::TempDir;

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

#[test]
fn what_cannot_be_accepted_is_logged_once_and_accepted_later() {
    let limited = Limited::new("-n 120");
    let server = Server::builder().binary(limited.binary()).start();
    let mut server = server.expect("a server");
    let address = server.address().expect("an address");
    for line in [
        "there are fewer connections to endpoints than `max_connections` of [dispatch] says",
        "this process may not open as many files as its configuration allows connections",
    ] {
        server.log_with(&[line]).expect("it is told");
    }
    let told = |line: &str| server.server_log().matches(line).count();
    let (http, relay) = (
        "no HTTP connection can be accepted; this is retried",
        "the relay cannot accept clients; this is retried",
    );
    let connections: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(address).expect("connected"))
        .collect();
    let clients: Vec<_> = (0..100)
        .map(|_| UnixStream::connect(server.relay_socket()).expect("connected"))
        .collect();
    let is_told = || (told(http) > 0 && told(relay) > 0).then_some(());
    assert_eq!(
        poll_until(PATIENCE, is_told),
        Some(()),
        "{}",
        server.server_log()
    );
    drop((connections, clients));
    for errors in [
        "dovecast_http_accept_errors_total",
        "dovecast_relay_accept_errors_total",
    ] {
        server
            .metric_is(errors, |count| count > 0.0)
            .expect("counted");
    }
    // Each is tried ten times a second.
    assert_eq!((told(http), told(relay)), (1, 1), "{}", server.server_log());
    assert!(server.stop().expect("an end").success());
}
