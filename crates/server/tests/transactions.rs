//! A server that is killed while a script is in the middle of a mailbox transaction, which is
//! larger than what is handed over at a time: with the embedded log each event is handled, and
//! those of a user in order. And transactions whose end the mail process has not sent: they end
//! without success, once.

#![cfg(feature = "lua")]

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, Instant};

use dovecast_relay::client::{Client, Options};
use dovecast_relay::wire::WireRecord;
use dovecast_testkit::process;
use dovecast_testkit::server::Server;
use serde_json::Value;
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

/// A server that runs the script in this directory, not started yet.
fn prepare(dir: &Path) -> Server {
    let script = SCRIPT.replace("DIR", &dir.display().to_string());
    let file = dir.join("push.lua");
    fs::write(&file, script.replace("EVENTS", &EVENTS.to_string())).expect("a script");
    let block = format!(
        "[push_notification.script]\ndriver = 'lua:file={}'",
        file.display()
    );
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    builder.config(&block).prepare().expect("a server")
}

/// A mail process.
fn mail_process(server: &Server) -> Client {
    Client::new(Options {
        socket: server.relay_socket().to_owned(),
        spill_dir: server.spill_dir().to_owned(),
        queue_bytes: 1024 * 1024,
        spill_bytes: 1024 * 1024,
        host: "mail1".to_owned(),
        program: "imap".to_owned(),
    })
}

/// Hands a transaction to the relay, of so many events from this UID on; `false`: without its end.
fn push(client: &mut Client, user: &str, first: u32, count: u32, is_whole: bool) {
    let txn = Uuid::now_v7();
    for uid in first..first + count {
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
            txn_seq: uid - first,
            txn_last: is_whole && uid - first + 1 == count,
        });
    }
    client.flush();
}

/// Ends a mail process once the relay has everything.
fn finish(mut client: Client) {
    client.finish(Instant::now() + PATIENCE);
    assert_eq!(client.take_news(), []);
}

/// Hands all transactions to the relay, those of the users in turn.
fn fill(server: &Server) {
    let mut client = mail_process(server);
    for transaction in 0..TRANSACTIONS {
        for user in USERS {
            let first = transaction * EVENTS + 1;
            push(&mut client, user, first, EVENTS, true);
        }
    }
    finish(client);
}

/// Waits until nothing is owed, and everything is read and committed; and nothing was given up.
fn check_quiet(server: &Server) {
    for owed in [
        "dovecast_dispatch_owed_deliveries",
        "dovecast_dispatch_owed_ranges",
    ] {
        let none = server.metric_is(owed, |count| count < 0.5);
        none.unwrap_or_else(|error| panic!("{error:#}: {}", server.server_log()));
    }
    let lag = || -> Option<u64> {
        let groups = server.run(["groups", "--json"]).ok()?;
        let groups: Vec<Value> = serde_json::from_str(&groups).ok()?;
        groups.iter().map(|group| group["lag"].as_u64()).sum()
    };
    let is_committed = process::poll_until(PATIENCE, || (lag() == Some(0)).then_some(()));
    assert!(is_committed.is_some(), "{:?} records are not done", lag());
    let letters = server.run(["dead-letters", "--json"]);
    assert_eq!(letters.expect("dead letters").trim(), "[]");
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
    let out = path("out");
    let mut server = prepare(dir.path());
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
    check_quiet(&server);
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

/// What the script was called for, for a user, by all processes.
fn calls(out: &Path, user: &str) -> Vec<String> {
    let all = lives(out).into_iter().flatten();
    let of_user = all.filter(|(of, _)| of == user);
    of_user.map(|(_, what)| what).collect()
}

/// Waits until a transaction of a user has ended so.
fn wait_for_end(server: &Server, out: &Path, user: &str, end: &str) {
    let has_ended = || calls(out, user).iter().any(|what| what == end);
    let ended = process::poll_until(PATIENCE, || has_ended().then_some(()));
    let shown = || format!("{:?}\n{}", calls(out, user), server.server_log());
    assert!(ended.is_some(), "no `{end}` of {user}: {}", shown());
}

/// Waits until a user's transaction of so many events, which has no end, has ended without success.
/// Another one that is written then is handled behind it, and nothing else is.
fn check_lost_end(server: &Server, out: &Path, user: &str, events: u32) {
    const MORE: u32 = 3;
    wait_for_end(server, out, user, "end false");
    let mut client = mail_process(server);
    push(&mut client, user, events + 1, MORE, true);
    finish(client);
    wait_for_end(server, out, user, "end true");
    let uids = |uids: RangeInclusive<u32>| uids.map(|uid| uid.to_string());
    let mut expected = vec!["begin".to_owned()];
    expected.extend(uids(1..=events));
    expected.extend(["end false", "begin"].map(str::to_owned));
    expected.extend(uids(events + 1..=events + MORE));
    expected.push("end true".to_owned());
    assert_eq!(calls(out, user), expected, "{user}");
}

/// The dispatcher waits for the end for half a minute; no configuration says how long.
#[test]
fn a_transaction_without_its_end_ends_without_success_once() {
    // Of one part, and of two.
    const LOST: [(&str, u32); 2] = [("ann", 3), ("bob", 150)];
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let mut server = prepare(dir.path());
    server.start_again().expect("a start");
    for (user, events) in LOST {
        let mut client = mail_process(&server);
        push(&mut client, user, 1, events, false);
        finish(client);
    }
    for (user, events) in LOST {
        check_lost_end(&server, &out, user, events);
    }
    assert_eq!(lives(&out).len(), 1);
    check_quiet(&server);
}

#[test]
fn a_transaction_without_its_end_ends_once_though_the_server_is_started_anew() {
    const LOST: u32 = 3;
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let mut server = prepare(dir.path());
    server.start_again().expect("a start");
    let mut client = mail_process(&server);
    push(&mut client, "ann", 1, LOST, false);
    finish(client);
    let read = "dovecast_dispatch_records_total";
    let all = server.metric_is(read, |read| read >= f64::from(LOST));
    all.expect("all are read");
    server.stop().expect("a stop");
    server.start_again().expect("a start");
    check_lost_end(&server, &out, "ann", LOST);
    check_quiet(&server);
}
