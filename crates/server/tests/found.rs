//! The server that a command finds in its directory, or is led to: whose it is, and how much of
//! what it says is taken.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use dovecast_testkit::process::poll_until;
use dovecast_testkit::{PATIENCE, may_act_as_others};
use tempfile::TempDir;

/// Another user than the one who asks.
const OTHER: u32 = 61_001;

/// What a command says in a directory, which names no server.
fn topics(directory: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dovecast"))
        .args(options)
        .arg("topics")
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .expect("dovecast")
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory with a data directory in it, and somebody who answers on its control socket.
struct Found {
    dir: TempDir,
    answering: thread::JoinHandle<usize>,
}

impl Found {
    /// Answers each request with this; the end of the answers is the file `stop`.
    fn new(answer: &'static [u8]) -> Self {
        let dir = TempDir::new().expect("a directory");
        let data = dir.path().join("dovecast-data");
        fs::create_dir(&data).expect("a directory");
        let listener = UnixListener::bind(data.join("control.sock")).expect("a socket");
        let answering = thread::spawn(move || {
            let mut requests = 0;
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
                let Some(Ok(first)) = lines.next() else {
                    continue;
                };
                if first == "stop" {
                    break;
                }
                requests += 1;
                while lines
                    .next()
                    .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
                {}
                // Whoever has had enough is gone.
                let _ = stream.write_all(answer);
            }
            requests
        });
        Self { dir, answering }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// How many requests have come.
    fn stop(self) -> usize {
        let socket = self.path().join("dovecast-data/control.sock");
        let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("a connection");
        stream.write_all(b"stop\n").expect("write");
        drop(stream);
        self.answering.join().expect("it answers")
    }
}

const NOTHING: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]";

#[test]
fn a_server_of_ones_own_is_found() {
    let found = Found::new(NOTHING);
    let said = topics(found.path(), &[]);
    assert!(said.status.success(), "{said:?}");
    assert_eq!(found.stop(), 1);
}

#[test]
fn what_another_user_has_put_there_is_not_believed() {
    if !may_act_as_others("a directory of another user") {
        return;
    }
    for given_away in ["dovecast-data", "dovecast-data/control.sock"] {
        let found = Found::new(NOTHING);
        chown(found.path().join(given_away), Some(OTHER), None).expect("chown");
        let error = error(&topics(found.path(), &[]));
        assert!(error.contains("belongs to the user id 61001"), "{error}");
        assert!(error.contains("--data-dir"), "{error}");
        // Who names it means it.
        let said = topics(found.path(), &["--data-dir", "dovecast-data"]);
        assert!(said.status.success(), "{said:?}");
        assert_eq!(found.stop(), 1);
    }
}

#[test]
fn a_link_that_another_user_has_made_is_not_followed() {
    if !may_act_as_others("a link of another user") {
        return;
    }
    let (found, trap) = (Found::new(NOTHING), TempDir::new().expect("a directory"));
    let link = trap.path().join("dovecast-data");
    std::os::unix::fs::symlink(found.path().join("dovecast-data"), &link).expect("a link");
    std::os::unix::fs::lchown(&link, Some(OTHER), None).expect("chown");
    let error = error(&topics(trap.path(), &[]));
    assert!(error.contains("belongs to the user id 61001"), "{error}");
    assert_eq!(found.stop(), 0);
}

/// A server of another user, in a directory of root's that this user may write to.
fn of_another_user(dir: &Path) -> Child {
    let (data, config) = (dir.join("dovecast-data"), dir.join("dovecast.toml"));
    fs::create_dir(&data).expect("a directory");
    fs::set_permissions(&data, Permissions::from_mode(0o777)).expect("mode");
    fs::set_permissions(dir, Permissions::from_mode(0o755)).expect("mode");
    fs::write(
        &config,
        "roles = ['dispatch']\n[http]\nlisten = '127.0.0.1:0'\n",
    )
    .expect("a file");
    let copy = dir.join("dovecast");
    fs::copy(env!("CARGO_BIN_EXE_dovecast"), &copy).expect("a copy");
    let mut command = Command::new(copy);
    command.arg("--config").arg(config);
    command.arg("--data-dir").arg(&data).arg("serve");
    let log = fs::File::create(dir.join("server.log")).expect("a file");
    command.uid(OTHER).current_dir(dir).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(log);
    let child = command.spawn().expect("a server");
    let socket = data.join("control.sock");
    let found = poll_until(PATIENCE, || socket.exists().then_some(()));
    found.unwrap_or_else(|| {
        panic!(
            "{}",
            fs::read_to_string(dir.join("server.log")).expect("a log")
        )
    });
    child
}

#[test]
fn a_server_of_another_user_is_not_asked() {
    if !may_act_as_others("a server of another user") {
        return;
    }
    let dir = TempDir::new().expect("a directory");
    let mut server = of_another_user(dir.path());
    let named = ["--data-dir", "dovecast-data"];
    let answers = || topics(dir.path(), &named).status.success().then_some(());
    let answers = poll_until(PATIENCE, answers);
    // As after somebody has taken its place.
    chown(dir.path().join("dovecast-data/control.sock"), Some(0), None).expect("chown");
    let said = [topics(dir.path(), &[]), topics(dir.path(), &named)];
    server.kill().expect("kill");
    server.wait().expect("wait");
    assert!(answers.is_some(), "whoever names it gets no answer");
    for output in said {
        let error = error(&output);
        assert!(error.contains("runs as the user id 61001"), "{error}");
    }
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    for (answer, expected) in [
        (
            &b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n["[..],
            "the server answers more than 268435456 bytes",
        ),
        (
            b"HTTP/1.1 500 Oops\r\ncontent-length: 1000000\r\n\r\n[",
            "the server answers more than 65536 bytes",
        ),
    ] {
        let found = Found::new(answer);
        let error = error(&topics(found.path(), &[]));
        assert!(error.contains(expected), "{error}");
        assert_eq!(found.stop(), 1);
    }
}
