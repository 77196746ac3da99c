//! Drivers of blocks `[push_notification.NAME]`: one whose block is taken out of the configuration
//! keeps what it is owed, and delivers it when the block is back; what an end-point refuses is a
//! dead letter that can be delivered again; and nothing shows the password of an end-point.

use std::fs;
use std::time::Duration;

use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::loopback;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::Value;

const PATIENCE: Duration = dovecast_testkit::PATIENCE;
const METADATA: &str = "/private/vendor/vendor.dovecot/http-notify";

/// A new mail of a user who has asked for notifications.
fn new_mail(uid: u32) -> String {
    format!(
        r#"{{"user":"ann","mailbox":"INBOX","event":"MessageNew","uidvalidity":9,"uid":{uid},"metadata":{{"{METADATA}":"user=ann"}}}}"#
    )
}

/// UIDs of the mails that an end-point has taken, in order.
fn told(endpoint: &HookEndpoint) -> Vec<u64> {
    let uid = |body: &str| -> u64 {
        let body: Value = serde_json::from_str(body).expect("JSON");
        body["imap-uid"].as_u64().expect("a number")
    };
    let hooks = endpoint.hooks();
    hooks.iter().map(|hook| uid(&hook.body)).collect()
}

fn send(server: &Server, uid: u32) {
    let event = new_mail(uid);
    server.run(["send", "--event", &event]).expect("send");
}

/// Dead letters, once there are so many.
fn letters(server: &Server, count: usize) -> Vec<Value> {
    let found = poll_until(PATIENCE, || {
        let letters = server.run(["dead-letters", "--json"]).ok()?;
        let letters: Vec<Value> = serde_json::from_str(&letters).ok()?;
        (letters.len() == count).then_some(letters)
    });
    found.unwrap_or_else(|| panic!("not {count} dead letters: {}", server.server_log()))
}

#[test]
fn what_the_driver_of_a_removed_block_is_owed_arrives_when_the_block_is_back() {
    let endpoint = HookEndpoint::start().expect("an end-point");
    endpoint.answer(503);
    let block = format!(
        "[push_notification.ox1]\ndriver = 'ox'\nox_url = '{}'",
        endpoint.url()
    );
    let log = "[push_notification.log]\ndriver = 'dlog'\n\
               [logging]\nfilter = 'info,dovecast_dlog=debug,dovecast_dispatch=debug'";
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let mut server = builder
        .config(&block)
        .config(log)
        .start()
        .expect("a server");
    send(&server, 1);
    server.log_with(&["failed", "503"]).expect("a try");
    server.stop().expect("it ends");
    let file = server.config_file().to_owned();
    let whole = fs::read_to_string(&file).expect("a configuration");
    assert!(whole.contains(&block), "{whole}");
    fs::write(&file, whole.replace(&block, "")).expect("written");
    endpoint.answer(200);
    server.start_again().expect("a start");
    let gone = ["ox1", "is gone from the configuration"];
    server.log_with(&gone).expect("it is told");
    // Another driver has it, so that this one would have had it by now.
    send(&server, 2);
    server
        .log_with(&["dovecast_dlog", "UID [2]"])
        .expect("a call");
    assert_eq!(endpoint.count(), 0);
    server.stop().expect("it ends");
    fs::write(&file, whole).expect("written");
    server.start_again().expect("a start");
    send(&server, 3);
    endpoint.wait_for(2, PATIENCE).expect("both");
    // What came meanwhile was for a driver that there was not.
    assert_eq!(told(&endpoint), [1, 3]);
}

#[test]
fn what_an_end_point_refuses_is_a_dead_letter_that_is_delivered_again() {
    let endpoint = HookEndpoint::start().expect("an end-point");
    let block = format!(
        "[push_notification.ox1]\ndriver = 'ox'\nox_url = '{}'",
        endpoint.url()
    );
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let server = builder.config(&block).start().expect("a server");
    // Neither is asked again, and 410 does not switch the driver off.
    for (uid, status) in [(1, 404), (2, 410)] {
        endpoint.answer(status);
        send(&server, uid);
        let newest = letters(&server, uid as usize).remove(0);
        let reason = newest["reason"].as_str().expect("a reason");
        assert!(reason.contains(&status.to_string()), "{newest}");
    }
    endpoint.answer(200);
    send(&server, 3);
    endpoint.wait_for(1, PATIENCE).expect("the third");
    let id = letters(&server, 2)[0]["endpoint"]
        .as_str()
        .expect("an id")
        .to_owned();
    let done = server.run(["redeliver", &id, "--all"]).expect("redeliver");
    assert_eq!(done, "2 deliveries are due now\n");
    endpoint.wait_for(3, PATIENCE).expect("all");
    let mut told = told(&endpoint);
    assert_eq!(told.remove(0), 3);
    told.sort_unstable();
    assert_eq!(told, [1, 2]);
    letters(&server, 0);
}

/// The id of a block's endpoint, as the log says it.
fn id_of(server: &Server, block: &str) -> String {
    let named = format!("block=\"{block}\"");
    let runs = ["a driver of the configuration runs", &named];
    let log = server.log_with(&runs).expect("a line");
    let line = log
        .lines()
        .find(|line| runs.iter().all(|text| line.contains(text)));
    let id = line.and_then(|line| line.split_once("endpoint.id="));
    let id = id.and_then(|(_, rest)| rest.split_whitespace().next());
    id.expect("an id").to_owned()
}

/// Attempts at an endpoint, once these are among them.
fn attempts(server: &Server, id: &str, expected: &[&str]) -> String {
    let found = poll_until(PATIENCE, || {
        let attempts = server.run(["attempts", id, "--json"]).ok()?;
        let has_all = expected.iter().all(|text| attempts.contains(text));
        has_all.then_some(attempts)
    });
    found.unwrap_or_else(|| panic!("no attempt with {expected:?}: {}", server.server_log()))
}

#[test]
fn the_password_of_an_end_point_is_shown_nowhere_whatever_fails() {
    // As it is written, and as a header has it together with the login.
    const PASSWORD: &str = "s3cret";
    const IN_HEADER: &str = "bG9naW46czNjcmV0";
    let endpoint = HookEndpoint::start().expect("an end-point");
    endpoint.answer(503);
    let login = format!("http://login:{PASSWORD}@");
    let there = endpoint.url().replace("http://", &login);
    // Nobody listens there.
    let away = format!("{login}{}:1/notify", loopback::unique_address());
    let config = format!(
        "[push_notification.there]\ndriver = 'ox'\nox_url = '{there}'\n\
         [push_notification.away]\ndriver = 'ox:url={away}'\n\
         [logging]\nfilter = 'debug'"
    );
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let server = builder.config(&config).start().expect("a server");
    send(&server, 1);
    server.log_with(&["failed", "503"]).expect("a try");
    endpoint.answer(404);
    let dead = letters(&server, 1);
    endpoint.answer(200);
    send(&server, 2);
    let taken = endpoint.wait_for(1, PATIENCE).expect("the second");
    assert_eq!(
        taken[0].header("authorization"),
        Some(&*format!("Basic {IN_HEADER}"))
    );
    let ids = ["there", "away"].map(|block| id_of(&server, block));
    let statuses = [503, 404, 200].map(|status| format!("\"status\":{status},"));
    let shown = [
        attempts(&server, &ids[0], &statuses.each_ref().map(String::as_str)),
        attempts(&server, &ids[1], &["no connection to"]),
        format!("{dead:?}"),
        server.server_log(),
    ];
    for shown in shown {
        for password in [PASSWORD, IN_HEADER] {
            assert!(!shown.contains(password), "{password} in {shown}");
        }
    }
}
