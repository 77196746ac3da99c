//! `dovecast doctor` beside a server, with a Dovecot that says what a test wants it to.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use dovecast_testkit::may_act_as_others;
use dovecast_testkit::server::Server;
use tempfile::TempDir;

/// A user id that no system has.
const UID: u32 = 4_711_815;

/// A user of every system who is not the server's.
const NOBODY: u32 = 65_534;

const PLUGINS: &str = "mail_plugins = notify push_notification push_notification_kafka\n";

/// Programs in the place of Dovecot's.
struct Dovecot(TempDir);

impl Dovecot {
    fn new(version: &str, configuration: &str) -> Self {
        let dir = TempDir::new().expect("a directory");
        let program = |name: &str, script: String| {
            let path = dir.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a program");
            fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("a mode");
        };
        program("dovecot", format!("echo '{version}'"));
        program(
            "doveconf",
            format!("[ \"$1\" = -n ] || exit 0\ncat <<'END'\n{configuration}\nEND"),
        );
        Self(dir)
    }

    /// What the doctor says of it and of a server, and how it exits.
    fn examined(&self, server: &Server, arguments: &[&str]) -> (String, i32) {
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.0.path().display());
        let mut command = server.command(["doctor"].iter().chain(arguments));
        let output = command.env("PATH", path).output().expect("doctor");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (said, output.status.code().unwrap_or(-1))
    }
}

fn server(relay: &str) -> Server {
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    builder.config(relay).start().expect("a server")
}

/// A Dovecot whose mail processes run as [`UID`] and send to the relay of a server.
fn relayed(server: &Server, options: &str) -> Dovecot {
    relayed_of(server, options, &format!("mail_uid = {UID}"))
}

/// As [`relayed`], with other settings of mail users.
fn relayed_of(server: &Server, options: &str, users: &str) -> Dovecot {
    let (socket, spill) = (
        server.relay_socket().display(),
        server.spill_dir().display(),
    );
    Dovecot::new(
        "2.3.19.1 (9b53102964)",
        &format!(
            "{PLUGINS}{users}\nplugin {{\n  push_notification_driver = kafka:{options}\n  kafka.notification.transport = relay\n  \
             kafka.notification.relay_socket = {socket}\n  kafka.notification.relay_spill_dir = {spill}\n}}"
        ),
    )
}

#[test]
fn a_mail_user_who_is_not_allowed_is_named_with_what_to_do() {
    let server = server("allow = [\"root\"]");
    let (said, code) = relayed(&server, "").examined(&server, &[]);
    let expected = format!(
        "problem: mail processes run as user id {UID} (`mail_uid`), which `allow` of [relay] lacks: the relay turns them away, and nothing arrives. \
         Add \"{UID}\" (or a range such as \"10000-19999\") to `allow` in {}, and restart dovecast",
        server.config_file().display()
    );
    assert!(said.contains(&expected), "{said}");
    assert_eq!(code, 2, "{said}");
}

#[test]
fn a_mail_user_who_is_allowed_by_number_or_range_is_no_finding() {
    for allow in [format!("[{UID}]"), "[\"4000000-5000000\"]".to_owned()] {
        let server = server(&format!("allow = {allow}"));
        let (said, _) = relayed(&server, "").examined(&server, &[]);
        assert!(!said.contains("allow"), "{allow}: {said}");
    }
}

#[test]
fn a_wrong_command_line_is_no_finding() {
    let server = server("");
    let (_, code) = relayed(&server, "").examined(&server, &["--foo"]);
    assert_eq!(code, 3);
}

#[test]
fn mail_users_of_a_database_are_no_proof_that_nothing_is_wrong() {
    let server = server("allow = [\"root\"]");
    let dovecot = relayed_of(&server, "", "userdb {\n  driver = sql\n}");
    let (said, code) = dovecot.examined(&server, &[]);
    assert!(
        said.contains("warning: cannot tell as whom mail processes run"),
        "{said}"
    );
    assert_ne!(code, 0, "{said}");
}

#[test]
fn who_is_not_root_learns_what_was_not_checked() {
    let server = server(&format!("allow = [{UID}]"));
    let dovecot = relayed(&server, "");
    let rights = Permissions::from_mode(0o755);
    fs::set_permissions(dovecot.0.path(), rights).expect("a mode");
    let mut command = server.command(["doctor"]);
    let path = format!("{}:/usr/bin:/bin", dovecot.0.path().display());
    // Where that user may not even run the program there is nothing to see.
    let Ok(output) = command.env("PATH", path).uid(NOBODY).output() else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // Nor where that user does not get to directories of tests.
    if !said.starts_with("Dovecot ") {
        return;
    }
    let expected = "of the plugin was not checked: run it as root";
    assert!(said.contains(expected), "{said}");
    assert_ne!(output.status.code(), Some(0), "{said}");
}

#[test]
fn a_spill_directory_that_cannot_be_read_is_said() {
    let server = server(&format!("allow = [{UID}]"));
    let dovecot = relayed(&server, "");
    let dir = server.spill_dir().to_owned();
    fs::remove_dir_all(&dir).expect("removed");
    fs::write(&dir, "").expect("a file in its place");
    let (said, _) = dovecot.examined(&server, &[]);
    let expected = format!(
        "warning: whether `{}` holds events that are not taken in was not checked",
        dir.display()
    );
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn whoever_has_left_spill_files_and_is_not_allowed_is_named() {
    let server = server("allow = [\"4000000-4711815\"]");
    let dovecot = relayed(&server, "");
    let file = server.spill_dir().join("of-another.open");
    fs::write(&file, "").expect("a file");
    if !may_act_as_others("whose spill files there are") {
        return;
    }
    chown(&file, Some(UID + 1), None).expect("root gives files away");
    let (said, _) = dovecot.examined(&server, &[]);
    let expected = format!(
        "holds events of user id {}, which `allow` of [relay] lacks",
        UID + 1
    );
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn topics_that_nobody_takes_are_named() {
    for (options, relay, expected) in [
        (
            "topic=mail",
            "",
            "problem: the plugin sends to the topic `mail`, which the relay does not take",
        ),
        (
            "topic=mail",
            "topics = [\"m*\"]",
            "warning: the plugin sends to the topic `mail`, which is not in `event_topics`",
        ),
        ("topic=dovecot", "", ""),
    ] {
        let server = server(relay);
        let (said, _) = relayed(&server, options).examined(&server, &[]);
        assert!(said.contains(expected), "{options} {relay}: {said}");
        assert!(!expected.is_empty() || !said.contains("topic"), "{said}");
    }
}

#[test]
fn options_that_the_plugin_refuses_are_problems_in_both_versions() {
    let server = server("");
    let in_2_3 = "plugin {\n  push_notification_driver = kafka:topik=x events=MessageNews\n}";
    let in_2_4 = "push_notification mails {\n  driver = kafka\n  kafka_transport = rely\n}";
    for (version, configuration, expected) in [
        (
            "2.3.19.1",
            in_2_3,
            "problem: driver kafka:topik=x events=MessageNews is off: unknown option `topik`",
        ),
        (
            "2.3.19.1",
            in_2_3,
            "; option `events`: unknown event `MessageNews`",
        ),
        (
            "2.4.1-4",
            in_2_4,
            "is off: option `kafka_transport`: `rely` is not `kafka` or `relay`",
        ),
    ] {
        let dovecot = Dovecot::new(version, &format!("{PLUGINS}{configuration}"));
        let (said, code) = dovecot.examined(&server, &[]);
        assert!(said.contains(expected), "{said}");
        assert_eq!(code, 2, "{said}");
    }
}

#[test]
fn each_misspelled_option_and_setting_is_named_by_itself() {
    let server = server("");
    let in_2_3 = |options: &str, settings: &str| {
        format!(
            "plugin {{\n  push_notification_driver = kafka:{options}\n  kafka.notification.{settings}\n}}"
        )
    };
    let in_2_4 =
        |options: &str| format!("push_notification mails {{\n  driver = kafka\n  {options}\n}}");
    let (relayed, topic) = ("transport = relay", "topic=dovecot");
    for (version, configuration, expected) in [
        (
            "2.3.19.1",
            in_2_3("events=MessageNews", relayed),
            "option `events`: unknown event `MessageNews`",
        ),
        (
            "2.3.19.1",
            in_2_3("events=MessageNew, MessageRead", relayed),
            "`MessageRead` is not an option but an event: a list has no blanks",
        ),
        (
            "2.3.19.1",
            in_2_3("topic=a/b", relayed),
            "option `topic`: `a/b` is not a Kafka topic",
        ),
        (
            "2.3.19.1",
            in_2_3("metadata=/private/x", relayed),
            "option `metadata` (value `/private/x`) needs full detail",
        ),
        (
            "2.3.19.1",
            in_2_3(topic, "transport = rely"),
            "`rely` is not `kafka` or `relay`",
        ),
        (
            "2.3.19.1",
            in_2_3(topic, "relay_queue_max_kbytes = many"),
            "`many` is not a number of kilobytes from 16 to 1048576",
        ),
        (
            "2.4.1-4",
            in_2_4("kafka_topic = a/b"),
            "option `kafka_topic`: `a/b` is not a Kafka topic",
        ),
        (
            "2.4.1-4",
            in_2_4("kafka_relay_queue_max_kbytes = many"),
            "`many` is not a number of kilobytes from 16 to 1048576",
        ),
    ] {
        let dovecot = Dovecot::new(version, &format!("{PLUGINS}{configuration}"));
        let (said, code) = dovecot.examined(&server, &[]);
        let problems = said.lines().filter(|line| line.starts_with("problem: "));
        let is_named = problems.clone().any(|line| line.contains(expected));
        assert!(is_named, "{configuration}: {said}");
        assert_eq!(code, 2, "{said}");
    }
}

#[test]
fn a_user_who_may_take_the_name_of_another_is_a_problem_in_both_versions() {
    let server = server("");
    let in_2_3 = |url: &str| {
        format!("plugin {{\n  push_notification_driver = ox:url={url} user_from_metadata\n}}")
    };
    // A URL with a variable is none to Dovecot 2.4: a userdb says it.
    let in_2_4 = |url: &str| {
        format!(
            "push_notification mails {{\n  driver = ox\n  ox_url = http://a:b@x/\n  ox_user_from_metadata = yes\n}}\n\
             userdb static {{\n  fields {{\n    push_notification/mails/ox_url = {url}\n  }}\n}}"
        )
    };
    let expected = "problem: the driver `ox` has `user_from_metadata`: every IMAP user writes the name that his mails get, and may take another's. \
                    Leave it out, or put `?of=%u` at the end of the URL";
    for (version, configuration, is_problem) in [
        ("2.3.19.1", in_2_3("http://a:b@x/"), true),
        ("2.3.19.1", in_2_3("http://a:b@x/?of=%u"), false),
        ("2.4.1-4", in_2_4("http://a:b@x/"), true),
        ("2.4.1-4", in_2_4("http://a:b@x/?of=%{user}"), false),
    ] {
        let dovecot = Dovecot::new(version, &format!("{PLUGINS}{configuration}"));
        let (said, code) = dovecot.examined(&server, &[]);
        assert_eq!(said.contains(expected), is_problem, "{said}");
        assert!(code == 2 || !is_problem, "{code}: {said}");
    }
}

#[test]
fn a_directory_that_mail_processes_do_not_get_through_is_named() {
    let walled = TempDir::new().expect("a directory");
    fs::set_permissions(walled.path(), Permissions::from_mode(0o700)).expect("a mode");
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let builder = builder.data_dir(walled.path().join("data"));
    let server = builder.start().expect("a server");
    let (said, _) = relayed(&server, "").examined(&server, &[]);
    let wall = format!("`{}` lets that user not through", walled.path().display());
    // Who may not become another user cannot ask as one.
    let is_root = may_act_as_others("a wall in the way of mail processes");
    assert_eq!(said.contains(&wall), is_root, "{said}");
}

#[test]
fn a_configuration_that_cannot_be_read_and_a_server_that_never_ran_are_problems() {
    let server = server("");
    let dovecot = relayed(&server, "");
    let of = |config: &Path, data_dir: &Path| {
        let path = format!("{}:/usr/bin:/bin", dovecot.0.path().display());
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dovecast"));
        command
            .arg("--config")
            .arg(config)
            .arg("--data-dir")
            .arg(data_dir);
        let output = command
            .arg("doctor")
            .env("PATH", path)
            .output()
            .expect("doctor");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (said, output.status.code())
    };
    let (said, code) = of(Path::new("/nowhere.toml"), server.data_dir());
    let expected = "problem: the configuration of dovecast cannot be read: cannot read the configuration `/nowhere.toml`";
    assert!(said.contains(expected), "{said}");
    assert_eq!(code, Some(2), "{said}");
    let (said, _) = of(server.config_file(), Path::new("/nowhere"));
    assert!(
        said.contains("problem: the data directory `/nowhere` is not there"),
        "{said}"
    );
}
