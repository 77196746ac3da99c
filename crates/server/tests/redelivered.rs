//! A mailbox transaction that a script has failed with is redelivered as that transaction, by the
//! name of one of its events.

#![cfg(feature = "lua")]

use std::fs;
use std::time::{Duration, Instant};

use dovecast_relay::client::{Client, Options};
use dovecast_relay::wire::WireRecord;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::Value;
use uuid::Uuid;

const PATIENCE: Duration = dovecast_testkit::PATIENCE;
const EVENTS: u32 = 3;
/// Writes what it is called for to a file; there is a file `refuse` while it fails.
const SCRIPT: &str = r#"
local function say(what)
  local out = assert(io.open("DIR/out", "a"))
  out:write(what, "\n")
  out:close()
end
function dovecot_lua_notify_begin_txn(user)
  say("begin")
  return user.username
end
function dovecot_lua_notify_event_message_expunge(user, event)
  say(string.format("%d", event.uid))
end
function dovecot_lua_notify_end_txn(user, success)
  local refuse = io.open("DIR/refuse")
  if refuse then
    refuse:close()
    error("not now")
  end
  say("end " .. tostring(success))
end
"#;

/// Hands one transaction to the relay.
fn hand_over(server: &Server) {
    let mut client = Client::new(Options {
        socket: server.relay_socket().to_owned(),
        spill_dir: server.spill_dir().to_owned(),
        queue_bytes: 1024 * 1024,
        spill_bytes: 1024 * 1024,
        host: "mail1".to_owned(),
        program: "imap".to_owned(),
    });
    let txn = Uuid::now_v7();
    for seq in 0..EVENTS {
        let value = format!(
            r#"{{"user":"ann","mailbox":"INBOX","event":"MessageExpunge","uidvalidity":9,"uid":{}}}"#,
            seq + 1
        );
        client.push(&WireRecord {
            topic: "dovecot",
            key: b"ann",
            value: value.as_bytes(),
            time_ms: u64::try_from(dovecast_testkit::clock::now_ms()).expect("a time"),
            id: Uuid::now_v7(),
            txn,
            txn_seq: seq,
            txn_last: seq + 1 == EVENTS,
        });
    }
    client.finish(Instant::now() + PATIENCE);
    assert_eq!(client.take_news(), []);
}

#[test]
fn a_transaction_that_a_script_has_failed_with_is_redelivered_as_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let script = SCRIPT.replace("DIR", &dir.path().display().to_string());
    fs::write(path("push.lua"), script).expect("a script");
    fs::write(path("refuse"), "").expect("a file");
    let block = format!(
        "[push_notification.script]\ndriver = 'lua:file={}'",
        path("push.lua").display()
    );
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let server = builder.config(&block).start().expect("a server");
    hand_over(&server);
    let letters = || -> Option<Vec<Value>> {
        let letters = server.run(["dead-letters", "--json"]).ok()?;
        serde_json::from_str(&letters).ok()
    };
    let dead = poll_until(PATIENCE, || {
        letters().filter(|letters| letters.len() == EVENTS as usize)
    });
    let dead = dead.unwrap_or_else(|| panic!("no dead letters: {}", server.server_log()));
    // In the middle of it.
    let text = |key: &str| dead[1][key].as_str().expect("an id").to_owned();
    let (endpoint, notification) = (text("endpoint"), text("notification"));
    fs::remove_file(path("refuse")).expect("no file");
    fs::remove_file(path("out")).expect("what it has said");
    let done = server
        .run(["redeliver", &endpoint, &notification])
        .expect("redeliver");
    assert_eq!(done, "3 deliveries are due now\n");
    let said = || fs::read_to_string(path("out")).unwrap_or_default();
    let ended = poll_until(PATIENCE, || said().contains("end").then_some(()));
    assert!(ended.is_some(), "{}: {}", said(), server.server_log());
    assert_eq!(said(), "begin\n1\n2\n3\nend true\n");
    assert_eq!(letters().as_deref(), Some(&[][..]));
}
