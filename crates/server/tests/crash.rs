//! A server that is killed at full load loses nothing of what it has accepted, and keeps the order
//! of each key where an endpoint wants that.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use dovecast_testkit::PATIENCE;
use dovecast_testkit::clock::now_ms;
use dovecast_testkit::crash::{CrashOptions, at_saturation};
use dovecast_testkit::endpoint::{Hook, HookEndpoint};
use dovecast_testkit::http::Request;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

const CONNECTIONS: usize = 32;
/// Keys of what is sent in order, each by a thread of its own.
const KEYS: u64 = 12;
/// Notifications of one request.
const TOGETHER: u64 = 5;
/// Notifications of a key that are sent ahead of what has arrived of all keys on the average: what
/// is held back of one is delivered slower than twelve threads send.
const AHEAD: u64 = 100;
/// Messages of which one has its first request refused: each holds back its key for a second.
const REFUSED_ONCE: u64 = 100;

#[test]
fn what_was_accepted_before_a_kill_is_delivered_after_it() {
    check(1);
}

#[test]
fn what_was_accepted_in_arrays_before_a_kill_is_delivered_after_it() {
    check(25);
}

/// `batch`: notifications of each request.
#[track_caller]
fn check(batch: u64) {
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let options = CrashOptions {
        connections: CONNECTIONS,
        batch,
        accepted: 5_000,
        message_bytes: 1000,
    };
    let crash = at_saturation(builder, options).expect("a crash");
    println!("{crash:?}");
    assert!(crash.accepted >= 5_000, "{crash:?}");
    // All of them sent until the end: that was full load.
    assert_eq!(crash.unanswered, CONNECTIONS, "{crash:?}");
    assert!(crash.delivered_before > 0, "{crash:?}");
    assert_eq!(crash.lost, 0, "{crash:?}");
    assert_eq!(crash.unrecognisable, 0, "{crash:?}");
}

#[test]
fn each_key_is_in_order_after_a_kill_while_some_keys_are_held_back() {
    check_order(Lacks::Nothing);
}

#[test]
fn each_key_is_in_order_after_a_kill_while_the_endpoint_is_down() {
    check_order(Lacks::Answers);
}

#[test]
fn each_key_is_in_order_after_a_kill_while_the_endpoint_is_paused() {
    check_order(Lacks::Leave);
}

/// What keeps an endpoint from getting anything when its server is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lacks {
    /// Nothing: all arrives but what is held back by a refusal.
    Nothing,
    /// Answers: what comes is owed behind the first of each key.
    Answers,
    /// Leave, as it is paused: what comes is owed as ranges of the log.
    Leave,
}

/// Kills a server whose endpoint wants order, in the middle of a load.
#[track_caller]
fn check_order(lacks: Lacks) {
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let builder = builder.config("[dispatch]\nallowed_networks = ['127.0.0.0/8']");
    let mut server = builder.start().expect("a server");
    let sink = HookEndpoint::start().expect("an endpoint");
    let id = in_order(&server, &sink);
    sink.refuse_once(REFUSED_ONCE);
    let socket = server.control_socket();
    let is_unbounded = Arc::<AtomicBool>::default();
    let senders: Vec<_> = (0..KEYS)
        .map(|key| {
            let (socket, sink, is_unbounded) =
                (socket.clone(), sink.clone(), Arc::clone(&is_unbounded));
            let may_send = move |accepted: u64| {
                let arrived = u64::try_from(sink.count()).expect("few") / KEYS;
                accepted < arrived + AHEAD || is_unbounded.load(Ordering::Acquire)
            };
            thread::spawn(move || send(&socket, key, may_send))
        })
        .collect();
    sink.wait_for(500, PATIENCE).expect("deliveries");
    // From now on it is sent as fast as it can be, also what is only owed.
    let is_owed_only = lacks != Lacks::Nothing;
    is_unbounded.store(is_owed_only, Ordering::Release);
    let many = |count: f64| count > 200.0;
    let owed = match lacks {
        Lacks::Nothing => Ok(0.0),
        Lacks::Answers => {
            sink.answer(503);
            server.metric_is("dovecast_dispatch_held_back_total", many)
        }
        Lacks::Leave => {
            pause(&server, &id, true);
            server.metric_is("dovecast_dispatch_deferred_total", many)
        }
    };
    owed.expect("much is owed");
    server.kill().expect("killed");
    is_unbounded.store(true, Ordering::Release);
    let accepted: Vec<u64> = senders
        .into_iter()
        .map(|sender| sender.join().expect("no panic"))
        .collect();
    sink.answer(204);
    sink.refuse_once(0);
    server.start_again().expect("it starts again");
    if lacks == Lacks::Leave {
        pause(&server, &id, false);
    }
    let arrived = poll_until(PATIENCE, || {
        let came = came_in_order(&sink.hooks());
        let is_there = |(came, sent): (&u64, &u64)| came >= sent;
        came.iter().zip(&accepted).all(is_there).then_some(())
    });
    arrived.unwrap_or_else(|| {
        let came = came_in_order(&sink.hooks());
        panic!(
            "{came:?} of {accepted:?} have come: {}",
            server.server_log()
        )
    });
    // What is under way ends, and comes twice if it has to.
    server.stop().expect("an end");
    let (hooks, came) = (sink.hooks(), came_in_order(&sink.hooks()));
    println!(
        "{accepted:?} accepted, {came:?} came, {} hooks",
        hooks.len()
    );
}

/// Makes an endpoint that wants each key in order, for account 42; its id.
fn in_order(server: &Server, sink: &HookEndpoint) -> String {
    let token = server.account_token("42").expect("a token");
    // What fails twice would else wait for minutes, and its key with it.
    let delays = [1; 20];
    let fields = json!({
        "name": "in order", "url": sink.url(), "active": true, "filter": {}, "ordering": "key",
        "retry_delays": delays,
    });
    let request = Request::new("POST", "/api/hooks/endpoints")
        .header("Authorization", &format!("Bearer {token}"))
        .header("Content-Type", "application/json")
        .body(json!({"endpoint": fields}).to_string());
    let answer = server.ask(&request).expect("an answer");
    assert_eq!(answer.status, 201, "{answer:?}");
    let made: Value = serde_json::from_str(&answer.body).expect("JSON");
    made["data"]["id"].as_str().expect("an id").to_owned()
}

fn pause(server: &Server, id: &str, is_paused: bool) {
    let set = format!("paused={is_paused}");
    let changed = server.run(["endpoints", "change", id, "--set", &set]);
    changed.expect("a change");
}

/// Sends notifications of a key, with the numbers from 0 on and whenever it may, until the server
/// is gone; how many that has accepted.
fn send(socket: &Path, key: u64, may_send: impl Fn(u64) -> bool) -> u64 {
    let mut accepted = 0;
    loop {
        let may = poll_until(PATIENCE, || may_send(accepted).then_some(()));
        may.expect("others arrive");
        let record = |number: u64| {
            let value = json!({
                "application": "load", "event_type": "counted", "level": null,
                "timestamp": "2026-11-20T10:00:00Z", "account_id": "42",
                "message": {"key": key, "number": number},
            });
            json!({
                "topic": "hooks.outbox", "key": format!("key{key}"), "value": value.to_string(),
                "timestamp_ms": now_ms(),
            })
        };
        let records: Vec<Value> = (accepted..accepted + TOGETHER).map(record).collect();
        match append(socket, &json!({"records": records}).to_string()) {
            Ok(answer) if answer.contains("\"appended\":5") => accepted += TOGETHER,
            Ok(answer) if answer.is_empty() => return accepted,
            Ok(answer) => panic!("{answer}"),
            Err(_) => return accepted,
        }
    }
}

/// The answer of the control socket; empty where the server was killed before it.
fn append(socket: &Path, body: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    let length = body.len();
    write!(
        stream,
        "POST /v1/records HTTP/1.1\r\nHost: dovecast\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// How many different messages of each key came, each for the first time behind all that is older
/// of its key.
#[track_caller]
fn came_in_order(hooks: &[Hook]) -> Vec<u64> {
    let mut next = vec![0; usize::try_from(KEYS).expect("few")];
    for (place, hook) in hooks.iter().enumerate() {
        let body: Value = serde_json::from_str(&hook.body).expect("JSON");
        let [key, number] = ["key", "number"].map(|name| body["message"][name].as_u64());
        let key = key
            .and_then(|key| usize::try_from(key).ok())
            .expect("a key");
        let number = number.expect("a number");
        assert!(
            number <= next[key],
            "at {place}, {number} of key {key} comes before {}",
            next[key]
        );
        next[key] = next[key].max(number + 1);
    }
    next
}
