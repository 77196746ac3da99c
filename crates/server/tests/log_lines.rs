//! The server's own log goes where nothing can be written, or nobody reads: requests are answered,
//! and the stop is orderly.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use dovecast_testkit::http::Request;
use dovecast_testkit::process;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tempfile::TempDir;

/// How long something that has to happen may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server with a port that is known without its log.
struct Server {
    dir: TempDir,
    address: SocketAddr,
    monitor: SocketAddr,
    child: Option<Child>,
}

impl Server {
    fn new() -> Self {
        Self::with_format("text")
    }

    fn with_format(format: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [address, monitor] = ports.map(|port| port.local_addr().expect("its number"));
        let text = format!(
            "[http]\nlisten = \"{address}\"\nmonitor_listen = \"{monitor}\"\n[logging]\nformat = \"{format}\"\n"
        );
        fs::write(dir.path().join("dovecast.toml"), text).expect("a file");
        Self {
            dir,
            address,
            monitor,
            child: None,
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dovecast"));
        command
            .arg("--config")
            .arg(self.dir.path().join("dovecast.toml"));
        command.arg("--data-dir").arg(self.dir.path().join("data"));
        command.arg("serve").stdin(Stdio::null());
        command
    }

    fn printed(&self) -> String {
        fs::read_to_string(self.dir.path().join("out")).unwrap_or_default()
    }

    fn start(&mut self, stderr: impl Into<Stdio>) {
        let out = File::create(self.dir.path().join("out")).expect("a file");
        let child = self.command().stdout(out).stderr(stderr).spawn();
        let child = self.child.insert(child.expect("a server"));
        let address = self.address;
        let ready = process::poll_until(PATIENCE, || {
            if let Some(status) = child.try_wait().expect("its state") {
                return Some(Err(status));
            }
            let ready = Request::get("/readyz").send(address);
            ready
                .is_ok_and(|answer| answer.status == 200)
                .then_some(Ok(()))
        });
        assert_eq!(ready, Some(Ok(())));
    }

    /// A request that is logged.
    fn make_token(&self) -> u16 {
        let printed = self.printed();
        let token = printed
            .trim_end()
            .rsplit(' ')
            .next()
            .expect("a token")
            .to_owned();
        let request = Request::new("POST", "/api/hooks/tokens")
            .header("Authorization", &format!("Bearer {token}"))
            .header("Content-Type", "application/json")
            .body(r#"{"token":{"name":"a","scope":"admin"}}"#);
        request.send(self.address).expect("an answer").status
    }

    fn lost_lines(&self) -> f64 {
        let metrics = Request::get("/metrics")
            .send(self.monitor)
            .expect("metrics");
        let sample = metrics
            .body
            .lines()
            .find_map(|line| line.strip_prefix("dovecast_server_log_lines_lost_total "));
        sample.expect("a sample").parse().expect("a number")
    }

    fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a server");
        process::signal(child.id(), "TERM").expect("a signal");
        let ended = process::poll_until(PATIENCE, || child.try_wait().expect("its state"));
        let Some(status) = ended else {
            let _ = child.kill();
            panic!("it does not stop");
        };
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn full_device() -> File {
    let full = File::options().write(true).open("/dev/full");
    full.expect("a device on which there is no room")
}

/// A pipe that takes nothing more, and whoever does not read it.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&writer).expect("its flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("flags");
    while rustix::io::write(&writer, &[b'x'; 512]).is_ok() {}
    while rustix::io::write(&writer, b"x").is_ok() {}
    fcntl_setfl(&writer, flags).expect("flags");
    (reader, writer)
}

fn closed_pipe() -> PipeWriter {
    std::io::pipe().expect("a pipe").1
}

/// Whether lines are lost, and whoever is to live as long as the server.
type Place = (&'static str, bool, fn() -> (Stdio, Option<PipeReader>));

const PLACES: [Place; 3] = [
    ("a full device", true, || (full_device().into(), None)),
    ("a closed pipe", true, || (closed_pipe().into(), None)),
    ("a pipe that nobody reads", false, || {
        let (reader, writer) = full_pipe();
        (writer.into(), Some(reader))
    }),
];

#[test]
fn a_log_that_cannot_be_written_changes_nothing_else() {
    for format in ["text", "json"] {
        for (place, are_lost, make) in PLACES {
            let (stderr, _reader) = make();
            let mut server = Server::with_format(format);
            server.start(stderr);
            for _ in 0..50 {
                assert_eq!(server.make_token(), 201, "{place}");
            }
            assert_eq!(server.lost_lines() > 50.0, are_lost, "{format}: {place}");
            assert_eq!(server.stop().code(), Some(0), "{format}: {place}");
        }
    }
}

#[test]
fn a_reader_of_the_log_that_goes_away_is_no_reason_to_end() {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut server = Server::new();
    server.start(writer);
    let mut first = [0; 20];
    reader.read_exact(&mut first).expect("a log");
    drop(reader);
    for _ in 0..50 {
        assert_eq!(server.make_token(), 201);
    }
    assert!(server.lost_lines() >= 50.0);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_start_that_fails_ends_though_nobody_reads_why() {
    for (place, _, make) in PLACES {
        let (stderr, _reader) = make();
        let server = Server::new();
        // The data directory is a file.
        fs::write(server.dir.path().join("data"), "").expect("a file");
        let mut child = server.command().stderr(stderr).spawn().expect("a server");
        let ended = process::poll_until(PATIENCE, || child.try_wait().expect("its state"));
        let _ = child.kill();
        assert_eq!(ended.and_then(|status| status.code()), Some(1), "{place}");
    }
}

#[test]
fn an_admin_token_that_cannot_be_shown_is_not_kept() {
    let outs: [fn() -> Stdio; 2] = [|| full_device().into(), || closed_pipe().into()];
    for out in outs {
        let mut server = Server::new();
        for _ in 0..2 {
            let errors = server.dir.path().join("err");
            let stderr = File::create(&errors).expect("a file");
            let ended = server.command().stdout(out()).stderr(stderr).status();
            assert_eq!(ended.expect("a server").code(), Some(1));
            let said = last_line(&errors);
            assert!(said.contains("cannot print the admin token"), "{said}");
        }
        server.start(Stdio::null());
        assert_eq!(server.make_token(), 201);
    }
}

fn last_line(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a log");
    text.lines().last().unwrap_or_default().to_owned()
}
