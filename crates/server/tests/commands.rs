//! The commands, on a real `dovecast serve`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use dovecast_testkit::server::Server;

const NEW: &str = r#"{"user":"anna","mailbox":"INBOX","event":"MessageNew","uidvalidity":1,"uid":7,"from":"Bo <bo@example.org>","subject":"Hi"}"#;
const READ: &str =
    r#"{"user":"anna","mailbox":"Lists","event":"MessageRead","uidvalidity":1,"uid":8}"#;
const BOB: &str =
    r#"{"user":"bob","mailbox":"INBOX","event":"MessageRead","uidvalidity":1,"uid":9}"#;

fn server() -> Server {
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    builder.start().expect("a server")
}

fn tail(server: &Server, arguments: &str) -> String {
    let all = "tail --from beginning --until-end ".to_owned() + arguments;
    server.run(all.split_whitespace()).expect("tail")
}

#[test]
fn what_is_sent_is_tailed_byte_by_byte() {
    let server = server();
    let value = [
        &b"\xff\x00\n\r\n"[..],
        "gr\u{fc}n".as_bytes(),
        &vec![b'x'; 100_000],
    ]
    .concat();
    let mut send = server.command(["send", "--topic=t", "--key=k"]);
    let mut send = send.stdin(Stdio::piped()).spawn().expect("send");
    let mut input = send.stdin.take().expect("standard input");
    input.write_all(&value).expect("write");
    drop(input);
    assert!(send.wait().expect("send").success());
    let raw = server
        .command([
            "tail",
            "--topic=t",
            "--from=beginning",
            "--count=1",
            "--format=raw",
        ])
        .output()
        .expect("tail");
    assert_eq!(raw.stdout, [&value[..], b"\n"].concat());
}

#[test]
fn a_record_has_its_key_headers_and_place_in_json() {
    let server = server();
    let send = [
        "send",
        "--topic=t",
        "--key=k",
        "--header=a=1",
        "--header=a=b=c",
        "value",
    ];
    let said = server.run(send).expect("send");
    let place: Vec<&str> = said.split_whitespace().collect();
    let [topic, "partition", partition, "offset", "0", "id", id] = place[..] else {
        panic!("{said}");
    };
    assert_eq!(topic, "t");
    let records = server.records("t").expect("records");
    let record: serde_json::Value = serde_json::from_str(&records[0]).expect("JSON");
    assert_eq!(record["topic"], "t");
    assert_eq!(record["partition"].to_string(), partition);
    assert_eq!(
        (&record["offset"], &record["key"], &record["value"]),
        (&0.into(), &"k".into(), &"value".into())
    );
    let headers = record["headers"].as_array().expect("headers");
    assert_eq!(
        headers[0],
        serde_json::json!({"name": "dovecast-id", "value": id})
    );
    assert_eq!(headers[1], serde_json::json!({"name": "a", "value": "1"}));
    assert_eq!(headers[2], serde_json::json!({"name": "a", "value": "b=c"}));
    assert!(record["timestamp_ms"].as_i64().expect("a time") > 1_700_000_000_000);
}

#[test]
fn events_are_checked_keyed_by_user_and_filtered() {
    let server = server();
    for event in [NEW, READ, BOB] {
        server.run(["send", "--event", event]).expect("send");
    }
    server
        .run(["send", "--topic=dovecot", "--key=anna", "no event"])
        .expect("send");
    let uids = |arguments: &str| {
        let lines = tail(&server, &format!("--format json {arguments}"));
        let mut found: Vec<String> = Vec::new();
        for line in lines.lines() {
            let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let value = record["value"].as_str().expect("text").to_owned();
            found.push(
                serde_json::from_str(&value)
                    .map_or(value, |event: serde_json::Value| event["uid"].to_string()),
            );
        }
        found.sort();
        found
    };
    assert_eq!(uids(""), ["7", "8", "9", "no event"]);
    assert_eq!(uids("--user anna"), ["7", "8"]);
    assert_eq!(uids("--kind messageread"), ["8", "9"]);
    assert_eq!(uids("--kind MessageNew,MessageTrash"), ["7"]);
    assert_eq!(uids("--mailbox INBOX"), ["7", "9"]);
    assert_eq!(
        uids("--mailbox INBOX --user anna --kind MessageRead"),
        [""; 0]
    );
    let pretty = tail(&server, "--user anna --kind MessageNew");
    assert!(
        pretty.contains("  anna   ") && pretty.ends_with("Bo <bo@example.org>: Hi\n"),
        "{pretty}"
    );
    assert!(
        !pretty.contains('\x1b'),
        "colours without a terminal: {pretty}"
    );
    let wrong = server
        .command(["send", "--event", r#"{"user":"anna"}"#])
        .output()
        .expect("send");
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        said.starts_with("dovecast: the value is not an event: ") && said.contains("mailbox"),
        "{said}"
    );
}

#[test]
fn many_of_a_notification_have_ids_of_their_own() {
    let server = server();
    let said = server.run(["send", "-u", "7", "--count", "1234"]);
    assert_eq!(said.expect("send"), "hooks.outbox 1234 records\n");
    let records = server.records("hooks.outbox").expect("records");
    let id = |record: &String| {
        let record: serde_json::Value = serde_json::from_str(record).expect("JSON");
        assert!(
            record["value"]
                .as_str()
                .is_some_and(|value| value.contains(r#""application":"BenchmarkApp""#)),
            "{record}"
        );
        record["headers"][0]["value"].to_string()
    };
    let ids: BTreeSet<String> = records.iter().map(id).collect();
    assert_eq!((records.len(), ids.len()), (1234, 1234));
}

#[test]
fn a_notification_goes_to_the_outbox_with_its_account_as_key() {
    let server = server();
    let send = [
        "send",
        "--application=App",
        "--event-type=New",
        "--account-id=7",
        "--message=Hello",
    ];
    let said = server.run(send).expect("send");
    assert!(said.starts_with("hooks.outbox partition "), "{said}");
    let records = server.records("hooks.outbox").expect("records");
    let record: serde_json::Value = serde_json::from_str(&records[0]).expect("JSON");
    assert_eq!(record["key"], "7");
    let value = record["value"].as_str().expect("text");
    assert!(
        value.starts_with(
            r#"{"application":"App","event_type":"New","level":null,"account_id":"7","#
        ),
        "{value}"
    );
}

#[test]
fn a_place_to_begin_counts_from_both_ends() {
    let server = server();
    for value in ["a", "b", "c"] {
        server
            .run(["send", "--topic=t", "--key=k", value])
            .expect("send");
    }
    let from = |place: &str| {
        let tail = [
            "tail",
            "--topic=t",
            "--until-end",
            "--format=raw",
            "--from",
            place,
        ];
        server.run(tail).expect("tail")
    };
    assert_eq!(from("beginning"), "a\nb\nc\n");
    assert_eq!(from("last:2"), "b\nc\n");
    assert_eq!(from("last:20"), "a\nb\nc\n");
    assert_eq!(from("last:0"), "");
    assert_eq!(from("end"), "");
}

#[test]
fn topics_and_groups_are_tables_or_json() {
    let server = server();
    let table = server.run(["topics"]).expect("topics");
    let known = ["dovecot", "hooks.outbox"].map(|topic| table.matches(topic).count());
    assert_eq!(known, [8, 8], "{table}");
    let said = server
        .run(["send", "--topic=t", "--key=k", "value"])
        .expect("send");
    let partition = said.split(' ').nth(2).expect("a partition").to_owned();
    let table = server.run(["topics"]).expect("topics");
    assert_eq!(table.lines().count(), 25, "{table}");
    let row = format!("t             {partition:>9}      0    1        1");
    assert!(table.lines().any(|line| line == row), "`{row}` in {table}");
    let json = server.run(["topics", "--json"]).expect("topics");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[2]["topic"], "t");
    assert_eq!(json[2]["partitions"].as_array().map(Vec::len), Some(8));
    let table = server.run(["groups"]).expect("groups");
    assert!(
        table.starts_with("GROUP  TOPIC  PARTITION  COMMITTED  END  LAG\n"),
        "{table}"
    );
    let json = server.run(["groups", "--json"]).expect("groups");
    assert!(
        serde_json::from_str::<serde_json::Value>(&json)
            .expect("JSON")
            .is_array(),
        "{json}"
    );
}

#[test]
fn a_topic_is_removed_unless_the_configuration_names_it() {
    let server = server();
    let topics = || server.run(["topics"]).expect("topics");
    server.run(["send", "--topic=junk", "value"]).expect("send");
    assert!(topics().contains("junk"));
    let said = server.run(["topics", "--remove", "junk"]).expect("removed");
    assert_eq!(said, "the topic `junk` is removed\n");
    assert!(!topics().contains("junk"));
    for (topic, reason) in [
        ("junk", "there is no topic `junk`"),
        (
            "hooks.outbox",
            "the configuration names the topic `hooks.outbox`",
        ),
        ("dovecot", "the configuration names the topic `dovecot`"),
    ] {
        let error = server.run(["topics", "--remove", topic]);
        let error = error.expect_err(topic).to_string();
        assert!(error.contains(reason), "{error}");
    }
}

/// Whether a file of the log has a text.
fn is_in_the_log(server: &Server, text: &str) -> bool {
    let mut files = fs::read_dir(server.data_dir().join("log")).expect("a directory");
    files.any(|file| {
        let bytes = fs::read(file.expect("an entry").path()).expect("a file");
        bytes.windows(text.len()).any(|at| at == text.as_bytes())
    })
}

#[test]
fn what_was_in_a_topic_that_is_removed_is_in_no_file_of_the_log() {
    let mut server = server();
    let (gone, stays) = ("mark-of-what-is-gone", "mark-of-what-stays");
    for (topic, mark) in [("--topic=junk", gone), ("--topic=kept", stays)] {
        server.run(["send", topic, mark]).expect("send");
        assert!(is_in_the_log(&server, mark), "{mark}");
    }
    server.run(["topics", "--remove", "junk"]).expect("removed");
    assert!(server.stop().expect("an end").success());
    assert!(!is_in_the_log(&server, gone));
    assert!(is_in_the_log(&server, stays));
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let server = server();
    server.run(["send", "--topic=t", "a"]).expect("send");
    let mut tail = server.command(["tail", "--topic=t", "--from=beginning", "--format=raw"]);
    let mut tail = tail
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tail");
    let mut line = String::new();
    let mut out = BufReader::new(tail.stdout.take().expect("standard output"));
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "a\n");
    drop(out);
    server.run(["send", "--topic=t", "b"]).expect("send");
    let mut said = String::new();
    let mut error = tail.stderr.take().expect("standard error");
    error.read_to_string(&mut said).expect("standard error");
    assert_eq!(tail.wait().expect("tail").code(), Some(0), "{said}");
    assert_eq!(said, "");
}

#[test]
fn the_default_configuration_is_printed_and_a_file_is_checked() {
    let server = server();
    let printed = Command::new(env!("CARGO_BIN_EXE_dovecast"))
        .arg("config")
        .output();
    let printed = String::from_utf8(printed.expect("config").stdout).expect("text");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("dovecast.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).expect("write");
        let output = server
            .command(["config", "--check"])
            .arg(&file)
            .output()
            .expect("config");
        (
            output.status.code(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (code, said) = check(&printed);
    assert_eq!(code, Some(0), "{said}");
    // This host need not have the user `vmail`.
    let known = "[relay]\nallow = ['root']\n";
    let (code, said) = check(known);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.ends_with("dovecast.toml: nothing is wrong\n"),
        "{said}"
    );
    let (code, said) = check(&format!("{known}[ox]\nuser = 'a'\npassword = 'geheim'"));
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.ends_with("dovecast.toml: it can be served, with 1 warning\n"),
        "{said}"
    );
    let warning = format!(
        "warning: every user of this host can read `{}`",
        file.display()
    );
    assert!(
        said.contains(&warning) && !said.contains("geheim"),
        "{said}"
    );
    let (code, said) = check("[relay]\nallow = ['nobody-of-this-name']");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("warning: `allow`: this host has no user `nobody-of-this-name`"),
        "{said}"
    );
    let (code, said) = check("[log]\npartitions = 0");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("dovecast.toml:2:14: `partitions`: "),
        "{said}"
    );
}

#[test]
fn the_doctor_exits_as_dovecast_plugin_check_does() {
    let server = server();
    let doctor = server
        .command(["doctor", "--root", "/nowhere"])
        .output()
        .expect("doctor");
    assert_eq!(doctor.status.code(), Some(3), "{doctor:?}");
    assert!(
        doctor.stdout.is_empty() && !doctor.stderr.is_empty(),
        "{doctor:?}"
    );
}

#[test]
fn without_a_server_the_error_says_where_one_was_looked_for() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dovecast"));
    let output = command
        .args(["--data-dir", "/nowhere", "topics"])
        .output()
        .expect("topics");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with("dovecast: cannot connect to `/nowhere/control.sock`"),
        "{said}"
    );
    assert!(!said.trim_end().contains('\n'), "{said}");
}
