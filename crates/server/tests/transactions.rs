//! A server that is killed while a script is in the middle of a mailbox transaction, which is
//! larger than what is handed over at a time: with the embedded log each event is handled, and
//! those of a user in order.

#![cfg(feature = "lua")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use dovecast_relay::client::{Client, Options};
use dovecast_relay::wire::WireRecord;
use dovecast_testkit::process;
use dovecast_testkit::server::Server;
use uuid::Uuid;

const PATIENCE: Duration = dovecast_testkit::PATIENCE;
const USERS: [&str; 2] = ["ann", "bob"];
/// Transactions of each user.
const TRANSACTIONS: u32 = 2;
/// Events of each transaction: three parts, of which each is handed over once it has been taken.
const EVENTS: u32 = 250;
/// Writes a line for what it is called for: the process, the user, and what it is. It waits at the
/// events of a transaction for which there is a file `hold`, with their place behind it.
const SCRIPT: &str = r#"
local out = io.open("DIR/out", "a")
local life = string.format("%d", dovecot.nanoseconds())
local function say(user, what)
  out:write(life, " ", user, " ", what, "\n")
  out:flush()
end
local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end
function dovecot_lua_notify_begin_txn(user)
  say(user.username, "begin")
  return user.username
end
function dovecot_lua_notify_event_message_expunge(user, event)
  say(user, string.format("%d", event.uid))
  while exists(string.format("DIR/hold%d", (event.uid - 1) % EVENTS)) do end
end
function dovecot_lua_notify_end_txn(user, success)
  say(user, "end " .. tostring(success))
end
"#;

/// What one process of the script was called for, in order.
type Life = Vec<(String, String)>;

fn lives(out: &Path) -> Vec<Life> {
    let mut lives: Vec<(String, Life)> = Vec::new();
    let text = fs::read_to_string(out).unwrap_or_default();
    // The last line may not be whole yet.
    for line in text.split_inclusive('\n') {
        let Some((life, rest)) = line.strip_suffix('\n').and_then(|it| it.split_once(' ')) else {
            continue;
        };
        let (user, what) = rest.split_once(' ').expect("what it is called for");
        let call = (user.to_owned(), what.to_owned());
        match lives.iter_mut().find(|(name, _)| name == life) {
            Some((_, calls)) => calls.push(call),
            None => lives.push((life.to_owned(), vec![call])),
        }
    }
    lives.into_iter().map(|(_, calls)| calls).collect()
}

/// Hands all transactions to the relay, those of the users in turn.
fn fill(server: &Server) {
    let mut client = Client::new(Options {
        socket: server.relay_socket().to_owned(),
        spill_dir: server.spill_dir().to_owned(),
        queue_bytes: 1024 * 1024,
        spill_bytes: 1024 * 1024,
        host: "mail1".to_owned(),
        program: "imap".to_owned(),
    });
    for transaction in 0..TRANSACTIONS {
        for user in USERS {
            let txn = Uuid::now_v7();
            for seq in 0..EVENTS {
                let uid = transaction * EVENTS + seq + 1;
                let value = format!(
                    r#"{{"user":"{user}","mailbox":"INBOX","event":"MessageExpunge","uidvalidity":9,"uid":{uid}}}"#
                );
                client.push(&WireRecord {
                    topic: "dovecot",
                    key: user.as_bytes(),
                    value: value.as_bytes(),
                    time_ms: u64::try_from(dovecast_testkit::clock::now_ms()).expect("a time"),
                    id: Uuid::now_v7(),
                    txn,
                    txn_seq: seq,
                    txn_last: seq + 1 == EVENTS,
                });
            }
            client.flush();
        }
    }
    client.finish(Instant::now() + PATIENCE);
    assert_eq!(client.take_news(), []);
}

/// Waits until the process that began last waits at this place of a transaction, and kills the
/// server then. What is left of the script ends by itself.
fn kill_at(server: &mut Server, out: &Path, place: u32, hold: &Path) {
    let uids: Vec<String> = (0..TRANSACTIONS)
        .map(|transaction| (transaction * EVENTS + place + 1).to_string())
        .collect();
    let before = lives(out).len();
    let is_held = |calls: &Life| calls.last().is_some_and(|(_, what)| uids.contains(what));
    let waited = process::poll_until(PATIENCE, || {
        let lives = lives(out);
        let of_now = lives.get(before.saturating_sub(1)..)?;
        of_now.iter().any(is_held).then_some(())
    });
    assert!(waited.is_some(), "{place}: {}", server.server_log());
    let script = process::children(server.pid()).expect("processes");
    server.kill().expect("a kill");
    fs::remove_file(hold).expect("no hold");
    let is_gone = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists();
    let gone = process::poll_until(PATIENCE, || {
        script.iter().all(|(pid, _)| is_gone(pid)).then_some(())
    });
    assert!(gone.is_some(), "{script:?} still run");
}

#[test]
fn each_event_of_large_transactions_is_handled_in_order_whatever_moment_the_server_is_killed_at() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let script = SCRIPT.replace("DIR", &dir.path().display().to_string());
    fs::write(
        path("push.lua"),
        script.replace("EVENTS", &EVENTS.to_string()),
    )
    .expect("a script");
    let out = path("out");
    let block = format!(
        "[push_notification.script]\ndriver = 'lua:file={}'",
        path("push.lua").display()
    );
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let mut server = builder.config(&block).prepare().expect("a server");
    // In the second part, in the last one, in the first one of what is left, at its end.
    let mut is_filled = false;
    for place in [150, 240, 20, EVENTS - 1] {
        let hold = path(&format!("hold{place}"));
        fs::write(&hold, "").expect("a file");
        server.start_again().expect("a start");
        if !std::mem::replace(&mut is_filled, true) {
            fill(&server);
        }
        kill_at(&mut server, &out, place, &hold);
    }
    server.start_again().expect("a start");
    let all = TRANSACTIONS * EVENTS;
    let is_done = |user: &str| {
        let lives = lives(&out);
        let mut calls = lives.iter().flatten().filter(|(of, _)| of == user);
        let last = all.to_string();
        calls.by_ref().any(|(_, what)| *what == last) && calls.any(|(_, what)| what == "end true")
    };
    let done = process::poll_until(PATIENCE, || {
        USERS.iter().all(|user| is_done(user)).then_some(())
    });
    let lives = lives(&out);
    assert!(done.is_some(), "{lives:?}\n{}", server.server_log());
    assert!(lives.len() >= 5, "{}", lives.len());
    for user in USERS {
        let mut seen = BTreeSet::new();
        for life in &lives {
            check_life(life, user, &mut seen);
        }
        assert_eq!(seen, (1..=all).collect(), "{user}");
    }
}

/// What a process was called for: events one after the other, and none for the first time before
/// the one ahead of it; transactions that begin, and end well.
fn check_life(life: &Life, user: &str, seen: &mut BTreeSet<u32>) {
    let mut last: Option<u32> = None;
    let mut is_open = false;
    for (_, what) in life.iter().filter(|(of, _)| of == user) {
        match &**what {
            "begin" => assert!(!std::mem::replace(&mut is_open, true), "{user}: {life:?}"),
            "end true" => assert!(std::mem::take(&mut is_open), "{user}: {life:?}"),
            uid => {
                let uid: u32 = uid.parse().unwrap_or_else(|_| panic!("{user}: {uid}"));
                assert!(is_open, "{user} {uid}: no beginning");
                assert!(
                    last.is_none_or(|last| last + 1 == uid),
                    "{user}: {last:?} {uid}"
                );
                assert!(
                    uid == 1 || seen.contains(&(uid - 1)),
                    "{user}: {uid} too early"
                );
                seen.insert(uid);
                last = Some(uid);
            }
        }
    }
}
