//! `dovecast plan`: docs/scaling.md shows what it prints, and what is wrong is said in a line.
//!
//! `UPDATE_DOCS=1 cargo test -p dovecast-server --test plan` writes the document's tables anew.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Output};

use dovecast_testkit::server::Server;
use dovecast_testkit::{PATIENCE, process, workspace};

const DOCUMENT: &str = "docs/scaling.md";
/// What a block begins with that holds a command and what it prints.
const BLOCK: &str = "```console\n$ dovecast ";
const END: &str = "```\n";

fn dovecast(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovecast"));
    let run = command.args(arguments.split_whitespace()).output();
    run.expect("dovecast")
}

fn printed(arguments: &str) -> String {
    let output = dovecast(arguments);
    assert!(output.status.success(), "{arguments}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The document with what its commands print now.
fn anew(document: &str) -> (String, usize) {
    let mut parts = document.split(BLOCK);
    let mut text = parts.next().unwrap_or_default().to_owned();
    let mut commands = 0;
    for part in parts {
        let (command, rest) = part.split_once('\n').expect("a command");
        let (_, behind) = rest.split_once(END).expect("the end of the block");
        // A String takes everything.
        let _ = write!(text, "{BLOCK}{command}\n{}{END}{behind}", printed(command));
        commands += 1;
    }
    (text, commands)
}

#[test]
fn the_document_shows_what_the_command_prints() {
    let path = workspace::root().join(DOCUMENT);
    let document = fs::read_to_string(&path).expect(DOCUMENT);
    let (text, commands) = anew(&document);
    assert!(commands > 2, "{DOCUMENT} shows commands");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, text).expect("write");
    } else {
        assert!(text == document, "UPDATE_DOCS=1 writes {DOCUMENT} anew");
    }
}

#[test]
fn json_holds_what_the_tables_show() {
    let of = "plan --mailboxes 5000 --events-per-second 20 --endpoints 7";
    let json = printed(&format!("{of} --json"));
    let plan: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let asked = &plan["demand"];
    let demand = ["mailboxes", "events_per_second", "endpoints"].map(|name| asked[name].as_u64());
    assert_eq!(demand, [Some(5000), Some(20), Some(7)]);
    assert!(plan["dispatchers"].as_u64() >= Some(2) && plan["partitions"].as_u64() >= Some(12));
    let table = printed(of);
    let first = plan["limits"][0]["what"].as_str().expect("a limit");
    assert!(
        table.contains(&format!("comes first: {first}, reached at")),
        "{table}"
    );
    let priced = printed(&format!("{of} --price 30"));
    let machines = plan["machines"].as_u64().expect("a number");
    let expected = format!("{machines} machines at 30: {}\n", machines * 30);
    assert!(priced.ends_with(&expected), "{priced}");
    let constants = printed("plan --constants --json");
    let constants: Vec<serde_json::Value> = serde_json::from_str(&constants).expect("a list");
    assert!(constants.iter().all(|constant| constant["value"].is_u64()));
}

#[test]
fn a_server_counts_the_statements_that_plans_reckon_with() {
    let server = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let server = server.start().expect("a server");
    let counted = || {
        let counted = server.metric("dovecast_store_statements_total");
        counted.expect("a number")
    };
    let before = counted();
    // Its heartbeat, at the latest.
    let more = process::poll_until(PATIENCE, || (counted() > before).then_some(()));
    more.expect("no more statements");
}

#[test]
fn what_cannot_be_planned_is_said_in_a_line() {
    for (arguments, expected) in [
        ("plan", "--mailboxes"),
        ("plan --mailboxes 5", "--events-per-second"),
        ("plan --mailboxes 5 --events-per-second -1", "-1"),
        (
            "plan --mailboxes 5 --events-per-second 1 --disk-gib 1",
            "1 is not in 10..=10000000",
        ),
    ] {
        let output = dovecast(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {error}");
        assert!(error.contains(expected), "{arguments}: {error}");
    }
}
