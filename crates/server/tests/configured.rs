//! Drivers of blocks `[push_notification.NAME]`: one whose block is taken out of the configuration
//! keeps what it is owed, and delivers it when the block is back; what an end-point refuses is a
//! dead letter that can be delivered again.

use std::fs;
use std::time::Duration;

use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;

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
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        body["imap-uid"].as_u64().expect("a number")
    };
    let hooks = endpoint.hooks();
    hooks.iter().map(|hook| uid(&hook.body)).collect()
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
    let send = |server: &Server, uid| {
        server
            .run(["send", "--event", &new_mail(uid)])
            .expect("send");
    };
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
    let send = |uid| {
        server
            .run(["send", "--event", &new_mail(uid)])
            .expect("send");
    };
    let letters = |count: usize| {
        let found = poll_until(PATIENCE, || {
            let letters = server.run(["dead-letters", "--json"]).ok()?;
            let letters: Vec<serde_json::Value> = serde_json::from_str(&letters).ok()?;
            (letters.len() == count).then_some(letters)
        });
        found.unwrap_or_else(|| panic!("not {count} dead letters: {}", server.server_log()))
    };
    // Neither is asked again, and 410 does not switch the driver off.
    for (uid, status) in [(1, 404), (2, 410)] {
        endpoint.answer(status);
        send(uid);
        let newest = letters(uid as usize).remove(0);
        let reason = newest["reason"].as_str().expect("a reason");
        assert!(reason.contains(&status.to_string()), "{newest}");
    }
    endpoint.answer(200);
    send(3);
    endpoint.wait_for(1, PATIENCE).expect("the third");
    let id = letters(2)[0]["endpoint"]
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
    letters(0);
}
