//! Commands that cannot do what they are asked for: what they say, and how they exit.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use dovecast_testkit::server::Server;
use tempfile::TempDir;

/// A user of every system who is not the server's.
const NOBODY: u32 = 65_534;

fn server() -> Server {
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    builder.start().expect("a server")
}

/// What a command says on standard error, and how it exits.
fn said(command: &mut Command) -> (String, Option<i32>) {
    let output = command.output().expect("a command");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (said, output.status.code())
}

#[test]
fn what_is_sent_wrong_is_refused_with_what_is_wrong() {
    let server = server();
    for (line, expected, code) in [
        (&["send", "-u", "", "-m", "x"][..], "this is not a name", 2),
        (&["send", "-u", " "], "this is not a name", 2),
        (
            &["send", "-u", "7", "-a", "", "-e", "e"],
            "this is not a name",
            2,
        ),
        (&["send", "--topic", "a b", "x"], "`a b` is not a topic", 2),
        (&["tail", "--topic", "a b"], "`a b` is not a topic", 2),
        (
            &["send", "--topic", "t", "--header", "dovecast-id=zz", "x"],
            "`--header dovecast-id=zz`: the value is not a UUID",
            1,
        ),
        (
            &[
                "send",
                "--topic",
                "t",
                "--header",
                "dovecast-id=019aa3b1-6e58-7d0c-8f00-000000000001",
                "--header",
                "dovecast-id=019aa3b1-6e58-7d0c-8f00-000000000002",
                "x",
            ],
            "is given once",
            1,
        ),
        (
            &["send", "--event", "[]"],
            "the value is not an event: not a JSON object",
            1,
        ),
        (
            &["send", "--event", "7"],
            "the value is not an event: not a JSON object",
            1,
        ),
        (&["redeliver"], "dovecast redeliver <ENDPOINT> --all", 2),
    ] {
        let (text, exit) = said(&mut server.command(line));
        assert!(text.contains(expected), "{line:?}: {text}");
        assert_eq!(exit, Some(code), "{line:?}: {text}");
    }
    assert_eq!(server.records("t").expect("a topic"), Vec::<String>::new());
}

#[test]
fn an_id_of_ones_own_is_the_only_one_and_is_taken_once() {
    let server = server();
    let id = "019aa3b1-6e58-7d0c-8f00-000000000001";
    let header = format!("dovecast-id={id}");
    let send = ["send", "--topic", "t", "--header", &header, "x"];
    let printed = server.run(send).expect("send");
    assert!(printed.ends_with(&format!(" id {id}\n")), "{printed}");
    let (text, exit) = said(&mut server.command(send));
    assert!(text.contains("already"), "{text}");
    assert_eq!(exit, Some(1));
    let records = server.records("t").expect("records");
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0].matches("dovecast-id").count(), 1, "{records:?}");
}

#[test]
fn a_tail_ends_with_an_error_when_the_server_stops() {
    let mut server = server();
    server.run(["send", "--topic=t", "first"]).expect("send");
    let mut tail = server.command(["tail", "--topic=t", "--from=beginning"]);
    let mut tail = tail
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tail");
    let mut line = String::new();
    let shown = tail.stdout.as_mut().expect("an output");
    BufReader::new(shown).read_line(&mut line).expect("a line");
    server.stop().expect("a stop");
    let output = tail.wait_with_output().expect("an end");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("the server has stopped"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn who_may_not_connect_learns_as_whom_to_do_it() {
    let server = server();
    if !dovecast_testkit::may_act_as_others("who may not connect") {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovecast"));
    command
        .arg("--data-dir")
        .arg(server.data_dir())
        .arg("topics")
        .uid(NOBODY);
    // Where that user may not even run the program there is nothing to see.
    if let Ok(output) = command.output() {
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains("run this as root, or as the server's user"),
            "{text}"
        );
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn what_the_start_refuses_the_check_refuses() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("dovecast.toml");
    for (config, expected) in [
        (
            "[store]\nurl = 'postgres://a@127.0.0.1:1/x?sslmode=maybe'\n[secrets]\nkeys = 'env:K'",
            "maybe",
        ),
        (
            "[dispatch]\nevent_topics = ['hooks.outbox']",
            "which is `outbox_topic`",
        ),
        (
            "[dispatch]\nevent_topics = []\n[ox]\nuser = 'a'\npassword = 'b'",
            "[ox] needs a topic in `event_topics`",
        ),
        (
            "[mail_push.webpush]\nsubject = 'https://'",
            "`mail_push.webpush.subject` is neither",
        ),
        (
            "[mail_push.webpush]\nsubject = 'mailto:postmaster'",
            "`mail_push.webpush.subject` is neither",
        ),
        (
            "[mail_push.webpush]\nnavigate = '{{ '",
            "`mail_push.webpush.navigate` ",
        ),
        (
            "[mail_push.credstorage]\nenabled = true\npasscrypt = '   '",
            "`passcrypt` in [mail_push.credstorage] is empty",
        ),
        (
            "[mail_push.apns]\nkey_file = '/nowhere/key.p8'\nkey_id = 'ABCDE12345'\nteam_id = 'TEAM567890'\ntopic = 'org/x y'",
            "`mail_push.apns.topic` is not the name of an application",
        ),
        (
            "[push_notification.a]\ndriver = 'oxx'",
            "[push_notification.a] driver: Unknown push notification driver: oxx, expected one of `dlog`",
        ),
        (
            "[push_notification.a]\ndriver = 'ox'\nox_url = 'http://h/'\nox_urls = 'x'",
            "[push_notification.a] ox_urls: unknown option, expected one of `url`",
        ),
        (
            "[push_notification.a]\ndriver = 'dlog:url=x'",
            "[push_notification.a] url: unknown option, `dlog` has none",
        ),
        (
            "[push_notification.a]\ndriver = 'ox'\nox_user_from_metadata = true",
            "[push_notification.a] url: push_notification_ox_url is missing or empty",
        ),
        #[cfg(feature = "lua")]
        (
            "[push_notification.a]\ndriver = 'lua'",
            "[push_notification.a] file: No file in config and no push_notification_lua_script_file set",
        ),
        #[cfg(feature = "lua")]
        (
            "[push_notification.a]\ndriver = 'lua'\nlua_file = '/nowhere/push.lua'",
            "[push_notification.a] lua_file: Lua script '/nowhere/push.lua': cannot open /nowhere/push.lua: No such file",
        ),
        #[cfg(feature = "kafka")]
        (
            "[log]\nkind = 'kafka'\n[kafka.properties]\n'linger.mss' = 7",
            "unknown librdkafka property `linger.mss`",
        ),
        #[cfg(feature = "kafka")]
        (
            "[kafka_clusters.a]\nbrokers = ['a:1']\naccounts = ['*']\ntopics = ['a']\n[kafka_clusters.a.properties]\nacks = 0",
            "`acks` of the kafka cluster `a` is set by dovecast",
        ),
    ] {
        fs::write(&file, format!("[http]\nlisten = '127.0.0.1:0'\n{config}\n")).expect("a file");
        let dovecast = || Command::new(env!("CARGO_BIN_EXE_dovecast"));
        let (text, exit) = said(dovecast().args(["config", "--check"]).arg(&file));
        assert!(text.contains(expected), "{config}: {text}");
        assert_eq!(exit, Some(1), "{config}: {text}");
        let mut serve = dovecast();
        serve
            .arg("--config")
            .arg(&file)
            .arg("--data-dir")
            .arg(dir.path().join("data"));
        let (text, exit) = said(
            serve
                .arg("serve")
                .env("K", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        );
        assert!(text.contains(expected), "{config}: {text}");
        assert_eq!(exit, Some(1), "{config}: {text}");
    }
}

/// What `dovecast config --check` says of a configuration, and how it exits.
fn checked(config: &str) -> (String, Option<i32>) {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("dovecast.toml");
    fs::write(&file, config).expect("a file");
    let mut dovecast = Command::new(env!("CARGO_BIN_EXE_dovecast"));
    let output = dovecast.args(["config", "--check"]).arg(&file).output();
    let output = output.expect("a command");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (text, output.status.code())
}

#[test]
fn a_cause_is_said_once() {
    let (text, _) = checked("[store]\nurl = 'postgres://a@h/x?sslmode=foo'");
    assert_eq!(text.matches("unknown value").count(), 1, "{text}");
    #[cfg(feature = "kafka")]
    {
        let (text, _) = checked("[log]\nkind = 'kafka'\n[kafka.properties]\n'linger.mss' = 7");
        assert!(!text.contains("connect"), "{text}");
    }
}

const NO_PASSWORD: &str = "server = 'mail.example.org'\nusername = 'a'\npassword_file = 'credential:mail'\nca_file = '/nowhere/ca.pem'";

#[test]
fn a_check_passes_where_the_secrets_are_not_on_this_host() {
    for place in [
        "/nowhere/secret",
        "env:DOVECAST_NOT_SET",
        "credential:secret",
    ] {
        for config in [
            format!("[store]\nurl_file = '{place}'"),
            format!("[ox]\nuser = 'a'\npassword_file = '{place}'"),
            format!("[push_notification.a]\ndriver = 'ox'\nox_url_file = '{place}'"),
            format!("[mail]\n{NO_PASSWORD}\nfrom = 'a@example.org'"),
            format!("[mail_push.webpush]\nkey_file = '{place}'"),
            format!("[mail_push.fcm]\nservice_account_file = '{place}'"),
            format!(
                "[mail_push.apns]\nkey_file = '{place}'\nkey_id = 'ABCDE12345'\nteam_id = 'TEAM567890'\ntopic = 'org.example.mail'"
            ),
            format!("[mail_push.credstorage]\nenabled = true\npasscrypt_file = '{place}'"),
            #[cfg(feature = "kafka")]
            format!(
                "[log]\nkind = 'kafka'\n[kafka.properties]\n'security.protocol' = 'sasl_plaintext'\n'sasl.mechanism' = 'PLAIN'\n'sasl.username' = 'a'\n'sasl.password_file' = '{place}'"
            ),
            #[cfg(feature = "kafka")]
            format!(
                "[kafka_clusters.a]\nbrokers = ['a:1']\n[kafka_clusters.a.properties]\n'security.protocol' = 'sasl_plaintext'\n'sasl.mechanism' = 'PLAIN'\n'sasl.username' = 'a'\n'sasl.password_file' = '{place}'"
            ),
        ] {
            let (text, exit) = checked(&config);
            assert_eq!(exit, Some(0), "{config}: {text}");
        }
    }
}

#[test]
fn what_is_absent_hides_no_other_mistake_from_a_check() {
    for (config, expected) in [
        (
            format!("[mail]\n{NO_PASSWORD}\nfrom = 'not an address'"),
            "not an address",
        ),
        (
            format!("[mail]\n{NO_PASSWORD}\nfrom = 'a@example.org'\nenvelope_from = 'zz'"),
            "zz",
        ),
        (
            "[push_notification.a]\ndriver = 'ox'\nox_url_file = 'credential:'".to_owned(),
            "[push_notification.a] ox_url_file: `` is not a name",
        ),
        #[cfg(feature = "kafka")]
        (
            format!(
                "[mail]\n{NO_PASSWORD}\nfrom = 'a@example.org'\n[kafka_clusters.a]\nbrokers = ['a:1']\n[kafka_clusters.a.properties]\nfoo = 1"
            ),
            "unknown librdkafka property `foo`",
        ),
    ] {
        let (text, exit) = checked(&config);
        assert!(text.contains(expected), "{config}: {text}");
        assert_eq!(exit, Some(1), "{config}: {text}");
    }
}
