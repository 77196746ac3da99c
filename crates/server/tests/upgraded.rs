//! A server on the database of an earlier version: what that owes is delivered.

use std::fs;

use dovecast_testkit::PATIENCE;
use dovecast_testkit::endpoint::{Hook, HookEndpoint};
use dovecast_testkit::http::Request;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

/// A `state.db` of version 9 of the schema; the tests of the store say what is in it.
const DATABASE: &str = include_str!("../../store/tests/store/version_9/sqlite.sql");
/// Where the endpoints of that database are.
const PLACE: &str = "127.0.0.1:45781";
const ACCOUNTS: [&str; 2] = ["42", "o\"ne\\two"];
/// Notifications of each account that are owed one by one, and that are in a range.
const NUMBERS: [u64; 3] = [0, 1, 2];

#[test]
fn what_version_9_owes_is_delivered_one_by_one_and_by_ranges() {
    let sink = HookEndpoint::start().expect("an endpoint");
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let builder = builder.config("[dispatch]\nallowed_networks = ['127.0.0.0/8']");
    let mut server = builder.start().expect("a server");
    for account in ACCOUNTS {
        fill(&server, account);
    }
    // What has been read is committed when it ends, and never delivered by itself again.
    let all = |count: f64| count >= 6.0;
    let read = server.metric_is("dovecast_dispatch_records_total", all);
    read.expect("all is read");
    server.stop().expect("an end");
    replace(&server, &sink);
    server.start_again().expect("it opens the database");

    let owed = ACCOUNTS.len() * NUMBERS.len();
    let hooks = sink.wait_for(owed, PATIENCE).expect("what is owed");
    check(&hooks, "/503");
    for id in paused(&server) {
        let change = ["endpoints", "change", &id, "--set", "paused=false"];
        server.run(change).expect("a change");
    }
    let hooks = sink.wait_for(2 * owed, PATIENCE).expect("the ranges");
    check(&hooks[owed..], "/paused");
    server.stop().expect("an end");
    assert_eq!(sink.count(), 2 * owed, "{:?}", sink.hooks());
}

/// Sends what the ranges of the database are about: the log has it before any endpoint is there.
fn fill(server: &Server, account: &str) {
    let token = server.admin_token().expect("a token");
    for number in NUMBERS {
        let message = json!({
            "application": "a", "event_type": "e", "level": null, "account_id": account,
            "timestamp": "2026-11-26T02:49:29Z", "message": {"n": number},
        });
        let request = Request::new("POST", "/api/hooks/messages")
            .header("Authorization", &format!("Bearer {token}"))
            .header("Content-Type", "application/json")
            .body(message.to_string());
        let answer = server.ask(&request).expect("an answer");
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

/// Puts the database in the place of the server's own, which knew no endpoint; its endpoints are
/// where the sink is.
fn replace(server: &Server, sink: &HookEndpoint) {
    let at = |name: &str| server.data_dir().join(name);
    for name in ["state.db", "state.db-wal", "state.db-shm", "secrets.key"] {
        // The first two only are always there.
        let _ = fs::remove_file(at(name));
    }
    assert!(!at("state.db").exists());
    let url = sink.url();
    let place = url.trim_start_matches("http://").trim_end_matches('/');
    let database = rusqlite::Connection::open(at("state.db")).expect("a database");
    let made = database.execute_batch(&DATABASE.replace(PLACE, place));
    made.expect("the database of version 9");
}

/// Ids of the endpoints that are paused, one of each account.
fn paused(server: &Server) -> Vec<String> {
    let list = server.run(["endpoints", "list", "--json"]).expect("a list");
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let list = list.as_array().expect("an array").iter();
    let ids: Vec<String> = list
        .filter(|endpoint| endpoint["name"] == "paused")
        .map(|endpoint| endpoint["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(ids.len(), ACCOUNTS.len(), "{ids:?}");
    ids
}

/// Fails unless these are all numbers of both accounts, at this path.
#[track_caller]
fn check(hooks: &[Hook], path: &str) {
    let mut numbers = Vec::new();
    for hook in hooks {
        assert!(hook.head[0].contains(path), "{hook:?}");
        let body: Value = serde_json::from_str(&hook.body).expect("JSON");
        numbers.push(body["message"]["n"].as_u64().expect("a number"));
    }
    numbers.sort_unstable();
    let twice = NUMBERS.iter().flat_map(|number| [*number; 2]);
    assert_eq!(numbers, twice.collect::<Vec<_>>(), "{hooks:?}");
}
