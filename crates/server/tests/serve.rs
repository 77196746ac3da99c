//! `dovecast serve` as a process: started, asked, stopped, killed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use dovecast_testkit::process;
use dovecast_testkit::server::{Builder, Server};

fn builder() -> Builder {
    Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"))
}

#[test]
fn it_says_at_once_what_it_is_and_answers_health_readiness_and_metrics() {
    let server = builder().start().expect("a server");
    let log = server.server_log();
    let first = log.lines().next().expect("a line");
    for part in [
        "dovecast starts",
        env!("CARGO_PKG_VERSION"),
        "data_dir=",
        "relay_socket=",
        "control_socket=",
    ] {
        assert!(first.contains(part), "no `{part}` in: {first}");
    }
    assert_eq!(
        server.get("/healthz").expect("health"),
        (200, "ok\n".to_owned())
    );
    assert_eq!(
        server.get("/readyz").expect("readiness"),
        (200, "ok\n".to_owned())
    );
    assert_eq!(server.get("/nothing").expect("an answer").0, 404);
    server.run(["send", "--topic=t", "value"]).expect("send");
    let (status, text) = server.get("/metrics").expect("metrics");
    assert_eq!(status, 200);
    check_exposition(&text);
    assert!(
        text.contains("\ndovecast_log_end_offset{topic=\"t\",partition=\"0\"} "),
        "{text}"
    );
    // Nobody has said which partition a record without a key is in.
    let ends = text
        .lines()
        .filter(|line| line.starts_with("dovecast_log_end_offset{topic=\"t\""));
    let records: u64 = ends
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(records, 1);
}

/// Every sample belongs to the family described before it and has a number.
fn check_exposition(text: &str) {
    let mut family = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().expect("a name");
            assert!(
                ["dovecast_", "process_"]
                    .iter()
                    .any(|of| family.starts_with(of))
                    && help.len() > family.len() + 10,
                "{line}"
            );
        } else if !line.starts_with("# TYPE ") {
            let (name, value) = line.rsplit_once(' ').expect("a sample");
            assert!(name.starts_with(family), "{line} in {family}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}

#[test]
fn a_signal_without_a_meaning_ends_nothing_and_is_told_of() {
    let server = builder().start().expect("a server");
    for name in ["HUP", "USR1", "USR2", "ALRM"] {
        process::signal(server.pid(), name).expect("a signal");
        let told = server.log_with(&[&format!("SIG{name} changes nothing")]);
        told.expect("a line");
        server.run(["send", "--topic=t", "value"]).expect("send");
    }
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("dovecast.toml");
    let control = format!("[control]\nsocket = '{}/c'", dir.path().display());
    // With a control socket elsewhere it is that of the relay, whose name is shorter.
    for (length, text, expected) in [
        (
            95,
            "",
            "control.sock` is 108 bytes long, 107 is the most: set [control] socket",
        ),
        (
            97,
            &*control,
            "relay.sock` is 108 bytes long, 107 is the most: set [relay] socket",
        ),
    ] {
        fs::write(&config, text).expect("a configuration");
        let name = "a".repeat(length - dir.path().as_os_str().len() - 1);
        let data_dir = dir.path().join(name);
        let ended = Command::new(env!("CARGO_BIN_EXE_dovecast"))
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(&data_dir)
            .arg("serve")
            .stdin(Stdio::null())
            .output()
            .expect("an end");
        assert_eq!(ended.status.code(), Some(1));
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(said.contains(expected), "{said}");
        assert!(!data_dir.exists(), "{said}");
    }
}

#[test]
fn a_second_one_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let server = builder().start().expect("a server");
    let second = server.start_and_end().expect("a second server");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    let last = said.lines().last().expect("an error");
    assert!(
        last.starts_with("dovecast: another process uses the log at"),
        "{said}"
    );
    assert!(
        last.contains(&*server.data_dir().to_string_lossy()),
        "{said}"
    );
    server.run(["send", "--topic=t", "value"]).expect("send");
}

#[test]
fn a_socket_on_which_another_process_listens_is_not_taken_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("relay.sock");
    let _other = UnixListener::bind(&socket).expect("bind");
    let server = builder().relay(&socket, dir.path().join("spill")).prepare();
    let ended = server.expect("a server").start_and_end().expect("an end");
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("another relay answers at"), "{said}");
}

#[test]
fn a_wrong_configuration_is_refused_before_anything_is_made() {
    let server = builder()
        .config("max_clients = 0")
        .prepare()
        .expect("a server");
    let ended = server.start_and_end().expect("an end");
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let place = format!(
        "dovecast: {}:6:15: `max_clients`: ",
        server.config_file().display()
    );
    assert!(said.starts_with(&place), "{said}");
    assert!(!server.data_dir().exists());
}

#[test]
fn it_stops_gracefully_although_someone_still_reads() {
    let mut server = builder().start().expect("a server");
    let mut tail = server.command(["tail", "--topic=t", "--from=beginning", "--format=raw"]);
    let mut tail = tail
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tail");
    server.run(["send", "--topic=t", "value"]).expect("send");
    let mut line = String::new();
    let shown = tail.stdout.as_mut().expect("its output");
    BufReader::new(shown)
        .read_line(&mut line)
        .expect("the record");
    assert_eq!(line, "value\n");
    let status = server.stop().expect("a stop");
    assert_eq!(status.code(), Some(0), "{}", server.server_log());
    assert!(
        server.server_log().contains("dovecast has stopped"),
        "{}",
        server.server_log()
    );
    let tail = tail.wait_with_output().expect("tail");
    assert!(tail.stdout.is_empty(), "{tail:?}");
    // Nobody listens any more: that is said with the place.
    let later = server.command(["topics"]).output().expect("topics");
    let said = String::from_utf8_lossy(&later.stderr).into_owned();
    assert_eq!(later.status.code(), Some(1));
    assert!(
        said.contains("control.sock") && said.contains("dovecast serve"),
        "{said}"
    );
}

#[test]
fn what_was_acknowledged_is_there_after_every_kill() {
    let mut server = builder().start().expect("a server");
    let mut sent = Vec::new();
    for round in 0..5 {
        let value = format!("value {round}");
        server
            .run(["send", "--topic=t", "--key=k", &value])
            .expect("send");
        sent.push(value);
        server.kill().expect("kill");
        server.start_again().expect("a start");
        assert_eq!(server.values("t").expect("values"), sent);
    }
}

#[test]
fn only_root_and_its_own_user_get_through_the_control_socket() {
    let server = builder().start().expect("a server");
    let mode = |path| fs::metadata(path).expect("metadata").permissions().mode() & 0o7777;
    assert_eq!(mode(server.control_socket()), 0o600);
    assert_eq!(mode(server.relay_socket().to_owned()), 0o666);
    assert_eq!(mode(server.data_dir().join("log")), 0o700);
    assert_eq!(mode(server.spill_dir().to_owned()), 0o3733);
    if !is_root() {
        skip("only root can become another user");
        return;
    }
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg("bash").arg("-c");
        command.arg("exec 3<>/dev/null; \"$0\" --config \"$1\" --data-dir \"$2\" topics");
        command
            .arg(readable_copy(&server))
            .arg(server.config_file())
            .arg(server.data_dir());
        command.output().expect("setpriv")
    };
    let refused = as_nobody();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("ermission denied"), "{said}");
    // Where the rights of the file do not stop somebody, who it is does.
    fs::set_permissions(server.control_socket(), fs::Permissions::from_mode(0o666)).expect("chmod");
    let refused = as_nobody();
    assert_eq!(refused.status.code(), Some(1));
    let warned = process::poll_until(dovecast_testkit::PATIENCE, || {
        server.server_log().contains("peer.uid=65534").then_some(())
    });
    assert!(warned.is_some(), "{}", server.server_log());
}

/// Says loudly what is not tested here.
fn skip(reason: &str) {
    // A test whose output nobody takes has nobody to tell.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// The binary where another user may run it.
fn readable_copy(server: &Server) -> std::path::PathBuf {
    let copy = server.config_file().with_file_name("dovecast");
    if !copy.exists() {
        fs::copy(env!("CARGO_BIN_EXE_dovecast"), &copy).expect("copy");
    }
    copy
}

#[test]
fn sockets_and_readiness_go_through_systemd_where_it_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let notify = std::os::unix::net::UnixDatagram::bind(dir.path().join("notify")).expect("bind");
    notify
        .set_read_timeout(Some(dovecast_testkit::PATIENCE))
        .expect("a timeout");
    let server = builder().prepare().expect("a server");
    let passed = dir.path().join("passed.sock");
    let _ = UnixListener::bind(&passed).map(|listener| {
        let mut command = Command::new("bash");
        // systemd's protocol: descriptors from 3 on, for the process of this id.
        command.args([
            "-c",
            r#"exec 3<&0 0</dev/null; LISTEN_PID=$$ exec "$0" "$@""#,
        ]);
        command.arg(env!("CARGO_BIN_EXE_dovecast"));
        command.arg("--config").arg(server.config_file());
        command
            .arg("--data-dir")
            .arg(server.data_dir())
            .arg("serve");
        command
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "relay");
        command.env("NOTIFY_SOCKET", dir.path().join("notify"));
        command.env("WATCHDOG_USEC", "100000");
        command
            .stdin(std::os::fd::OwnedFd::from(listener))
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("a server");
        let heard = |expected: &str| {
            let mut message = [0; 200];
            loop {
                let length = notify.recv(&mut message).expect("a message");
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                if text.contains(expected) {
                    break;
                }
            }
        };
        heard("READY=1");
        heard("WATCHDOG=1");
        assert!(!server.relay_socket().exists(), "the passed socket is used");
        process::signal(child.id(), "TERM").expect("TERM");
        heard("STOPPING=1");
        assert!(child.wait().expect("an end").success());
    });
}

#[test]
fn a_state_that_is_no_database_ends_the_start_with_that_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("state.db"), vec![0xa5; 20_000]).expect("a file");
    let file = dir.path().join("dovecast.toml");
    fs::write(&file, "[http]\nlisten = '127.0.0.1:0'").expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_dovecast"))
        .arg("--config")
        .arg(&file)
        .arg("--data-dir")
        .arg(dir.path())
        .arg("serve")
        .output()
        .expect("dovecast serve");
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    assert!(!output.status.success());
    assert!(last.ends_with("file is not a database"), "{said}");
}
