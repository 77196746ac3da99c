//! `dovecast bench`, against running servers: what it prints, and that nothing of it is left.

use std::fs;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use dovecast_testkit::http::Request;
use dovecast_testkit::process;
use dovecast_testkit::server::{Builder, Server};
use serde_json::Value;

const PATIENCE: Duration = dovecast_testkit::PATIENCE;
/// More than is sent within any test.
const FOR_LONG: &[&str] = &["bench", "dispatch", "--counts", "500000"];

fn builder() -> Builder {
    Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"))
}

fn server() -> Server {
    let builder = builder().config("[dispatch]\nallowed_networks = ['127.0.0.1']");
    builder.start().expect("a server")
}

fn run(server: &Server, arguments: &str) -> Output {
    let mut command = server.command(arguments.split_whitespace());
    command.output().expect("dovecast")
}

fn refused(output: &Output, expected: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(expected), "no `{expected}`: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

/// Endpoints of all accounts.
fn endpoints(server: &Server) -> usize {
    let json = server.run(["endpoints", "--json"]).expect("endpoints");
    let list: Vec<Value> = serde_json::from_str(&json).expect("a list");
    list.len()
}

/// Titles of applications called as that of the benchmark.
fn applications(server: &Server) -> Vec<String> {
    let token = server.admin_token().expect("a token");
    let request =
        Request::get("/api/hooks/apps").header("Authorization", &format!("Bearer {token}"));
    let answer = server.ask(&request).expect("an answer");
    let json: Value = serde_json::from_str(&answer.body).expect("JSON");
    let list = json["data"].as_array().expect("a list");
    let ours = list
        .iter()
        .map(|app| &app["attributes"])
        .filter(|app| app["name"] == "BenchmarkApp");
    ours.map(|app| app["title"].as_str().expect("a title").to_owned())
        .collect()
}

/// A benchmark that has begun.
fn begun(server: &Server) -> Child {
    let mut command = server.command(FOR_LONG);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("dovecast");
    let begun = process::poll_until(PATIENCE, || (endpoints(server) == 1).then_some(()));
    begun.expect("no endpoint is made");
    assert_eq!(applications(server).len(), 1);
    child
}

#[test]
fn every_notification_arrives_and_nothing_is_left_behind() {
    let server = server();
    let output = run(&server, "bench dispatch --counts 1,250 --json");
    assert!(output.status.success(), "{output:?}");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list");
    assert_eq!(rows.len(), 2);
    for (row, count) in rows.iter().zip([1, 250]) {
        assert_eq!((&row["count"], &row["missing"]), (&count.into(), &0.into()));
        let figure = |name: &str| row[name].as_f64().expect("a number");
        assert!(
            figure("seconds") > 0.0 && figure("per_second") > 0.0,
            "{row}"
        );
        assert!(
            figure("p50_ms") > 0.0 && figure("p50_ms") <= figure("p99_ms"),
            "{row}"
        );
        assert_eq!(row["duplicates"], 0);
    }
    assert_eq!(server.values("hooks.outbox").expect("values").len(), 251);
    assert_eq!(endpoints(&server), 0);
    assert!(applications(&server).is_empty());
}

#[test]
fn a_table_has_a_line_for_each_burst() {
    let server = server();
    let output = run(&server, "bench dispatch --counts 3,2");
    let table = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(lines[0].first(), Some(&"NOTIFICATIONS"));
    assert_eq!((lines[1][0], lines[2][0]), ("3", "2"));
    assert!(
        table
            .lines()
            .all(|line| line.len() == table.find('\n').expect("a line"))
    );
}

#[test]
fn a_server_that_sends_nothing_to_this_host_says_which_setting_it_needs() {
    let server = builder().start().expect("a server");
    let output = run(&server, "bench dispatch --counts 1");
    refused(
        &output,
        "`allowed_networks = [\"127.0.0.1\"]` in [dispatch]",
    );
    assert_eq!(endpoints(&server), 0);
    assert!(applications(&server).is_empty());
}

#[test]
fn what_does_not_come_is_counted_and_a_failure() {
    let server = server();
    // The command sends to a topic that the server does not read.
    let config = fs::read_to_string(server.config_file()).expect("a configuration");
    let elsewhere = config.replace("[dispatch]", "[dispatch]\noutbox_topic = 'elsewhere'");
    fs::write(server.config_file(), elsewhere).expect("a configuration");
    let output = run(&server, "bench dispatch --counts 3,4 --patience 1 --json");
    refused(
        &output,
        "3 of 3 notifications have not arrived; no attempt was made",
    );
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list");
    assert_eq!((rows.len(), &rows[0]["missing"]), (1, &3.into()));
    assert_eq!(endpoints(&server), 0);
}

#[test]
fn without_a_server_it_says_how_to_have_one() {
    let server = builder().prepare().expect("a directory");
    refused(&run(&server, "bench dispatch --counts 1"), "`--start`");
}

#[test]
fn it_runs_a_server_of_its_own() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dovecast"));
    let place = tempfile::tempdir().expect("a directory");
    command.env("TMPDIR", place.path());
    let arguments = ["bench", "dispatch", "--start", "--counts", "7", "--json"];
    let output = command.args(arguments).output().expect("dovecast");
    assert!(output.status.success(), "{output:?}");
    let rows: Value = serde_json::from_slice(&output.stdout).expect("a list");
    assert_eq!(
        (&rows[0]["count"], &rows[0]["missing"]),
        (&7.into(), &0.into())
    );
    let left = place.path().read_dir().expect("a directory").count();
    assert_eq!(left, 0, "its directory is left");
}

#[test]
fn whoever_interrupts_it_leaves_nothing_behind() {
    let server = server();
    let child = begun(&server);
    process::signal(child.id(), "INT").expect("a signal");
    let output = child.wait_with_output().expect("dovecast");
    refused(&output, "interrupted");
    assert_eq!(endpoints(&server), 0);
    assert!(applications(&server).is_empty());
}

#[test]
fn whoever_kills_it_leaves_nothing_behind() {
    let server = server();
    let mut child = begun(&server);
    child.kill().expect("kill");
    child.wait().expect("wait");
    let removed = process::poll_until(PATIENCE, || {
        (endpoints(&server) == 0 && applications(&server).is_empty()).then_some(())
    });
    removed.expect("something is left");
}

#[test]
fn what_a_killed_server_has_left_is_removed_by_the_next_benchmark() {
    let mut server = server();
    let mut child = begun(&server);
    server.kill().expect("kill");
    assert_eq!(child.wait().expect("wait").code(), Some(1));
    server.start_again().expect("a start");
    assert_eq!((endpoints(&server), applications(&server).len()), (1, 1));
    let output = run(&server, "bench dispatch --counts 1");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(endpoints(&server), 0);
    assert!(applications(&server).is_empty());
}

#[test]
fn there_is_one_at_a_time() {
    let server = server();
    let mut child = begun(&server);
    let output = run(&server, "bench dispatch --counts 1");
    refused(&output, "another benchmark is running");
    assert_eq!(endpoints(&server), 1);
    child.kill().expect("kill");
    child.wait().expect("wait");
}

#[test]
fn an_application_of_somebody_else_stays() {
    let server = server();
    let token = server.admin_token().expect("a token");
    let request = Request::new("POST", "/api/hooks/apps/register")
        .header("Authorization", &format!("Bearer {token}"))
        .header("Content-Type", "application/json")
        .body(r#"{"application":{"name":"BenchmarkApp","title":"Mine"},"event_types":[]}"#);
    assert_eq!(server.ask(&request).expect("an answer").status, 200);
    let output = run(&server, "bench dispatch --counts 5");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(applications(&server), ["Mine"]);
}

/// With `event_account = "user"` it may be a mail user's.
#[test]
fn an_account_of_a_similar_name_stays() {
    let server = server();
    let add = "endpoints add --account-id dovecast-bench --name a --url https://example.org/";
    server.run(add.split(' ')).expect("an endpoint");
    let add = "tokens add t --account-id dovecast-bench";
    server.run(add.split(' ')).expect("a token");
    let output = run(&server, "bench dispatch --counts 5");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(endpoints(&server), 1);
    let tokens = server.run(["tokens"]).expect("tokens");
    assert!(tokens.contains("dovecast-bench"), "{tokens}");
    // That of the benchmark nobody can take.
    let own = "\u{1}dovecast-bench";
    let taken = server.run(["tokens", "add", "t", "--account-id", own]);
    let error = format!("{:?}", taken.expect_err("a token"));
    assert!(error.contains("has a control character"), "{error}");
}
