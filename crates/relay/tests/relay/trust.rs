//! What a client may send, and what becomes of what it may not: never acknowledged as durable.

use std::cell::Cell;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use dovecast_log::Log;
use dovecast_log::embedded::Embedded;
use dovecast_relay::client::{Client, News, UserClients};
use dovecast_relay::server::Topics;
use dovecast_relay::wire::{self, Frame, Hello, Refusal, WireRecord};
use uuid::Uuid;

use crate::{Host, PATIENCE, check_in_order, finish, id, push, read_to_end, send};

const NOT_ALLOWED: &str =
    "the relay does not take them: the topic `hooks.outbox` is not in `topics` of [relay]";

fn record<'a>(topic: &'a str, value: &'a [u8], number: u32) -> WireRecord<'a> {
    WireRecord {
        topic,
        key: b"alice",
        value,
        time_ms: 0,
        id: id("forged", number),
        txn: Uuid::nil(),
        txn_seq: 0,
        txn_last: true,
    }
}

fn lost(records: u64, reason: &str) -> News {
    News::Lost {
        records,
        reason: reason.to_owned(),
    }
}

async fn topics(log: &Embedded) -> Vec<String> {
    let topics = log.topics().await.expect("the topics");
    topics.into_iter().map(|topic| topic.name).collect()
}

/// Sends three records that are allowed, and two between them that are not.
fn send_with_forged(client: &mut Client) {
    push(client, "alice", 0);
    client.push(&record("hooks.outbox", b"{}", 0));
    push(client, "alice", 1);
    client.push(&record("hooks.outbox", b"{}", 1));
    push(client, "alice", 2);
    client.flush();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_to_a_topic_that_is_not_named_is_lost_and_its_client_counts_it() {
    let host = Host::started();
    let mut client = host.client();
    send_with_forged(&mut client);
    assert_eq!(finish(client), [lost(2, NOT_ALLOWED)]);
    check_in_order(&host.arrived(3).await);
    assert_eq!(topics(host.log()).await, ["dovecot"]);
    let stats = host.relay().stats();
    assert_eq!((stats.records, stats.dropped), (3, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_the_log_refuses_are_lost_and_their_client_counts_them() {
    let mut host = Host::new();
    host.options.topics = Topics::new(["*".to_owned()], []);
    host.log_options.max_topics = 1;
    host.start();
    let mut client = host.client();
    push(&mut client, "alice", 0);
    client.push(&record("second", b"{}", 0));
    push(&mut client, "alice", 1);
    client.flush();
    let reason =
        "the relay does not take them: the log refuses them: there are too many topics already";
    assert_eq!(finish(client), [lost(1, reason)]);
    check_in_order(&host.arrived(2).await);
}

fn hello(version: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let hello = Hello {
        version,
        host: "mail1",
        program: "test",
        spill: "",
    };
    wire::write_hello(&mut out, &hello);
    out
}

fn frames(said: &[u8]) -> Vec<Frame<'_>> {
    let mut rest = said;
    std::iter::from_fn(|| {
        let (frame, length) = wire::read_frame(rest).expect("a relay's frames")?;
        rest = &rest[length..];
        Some(frame)
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_version_1_gets_no_acknowledgement_for_what_is_not_taken() {
    let host = Host::started();
    let mut stream = host.connect();
    let mut bytes = hello(1);
    let at = wire::begin_records(&mut bytes);
    wire::write_record(&mut bytes, &record("dovecot", b"good", 0));
    wire::write_record(&mut bytes, &record("hooks.outbox", b"forged", 1));
    wire::end_records(&mut bytes[..], at, 2);
    stream.write_all(&bytes).expect("the relay reads");
    let said = read_to_end(stream);
    let frames = frames(&said);
    assert!(matches!(frames[0], Frame::Welcome { .. }), "{frames:?}");
    let Frame::Refused {
        reason: Some(Refusal::Malformed),
        text,
    } = frames[1]
    else {
        panic!("not refused: {frames:?}");
    };
    assert!(text.contains("hooks.outbox"), "{text}");
    assert_eq!(host.arrived(1).await[0].value, "good");
    // The client keeps it, and leaves it in a spill file: it is counted there.
    assert_eq!(host.relay().stats().dropped, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_of_version_1_is_spoken_to_in_version_1() {
    let host = Host::new();
    host.make_spill_dir();
    let listener = UnixListener::bind(host.socket()).expect("a socket");
    let relay = std::thread::spawn(move || {
        let mut versions = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().expect("a client");
            let version = read_hello(&mut stream);
            versions.push(version);
            let mut said = Vec::new();
            if version == 1 {
                wire::write_welcome(&mut said);
                wire::write_ack(&mut said, 1);
                stream.write_all(&said).expect("the client reads");
                let _ = read_to_end(stream);
                return versions;
            }
            wire::write_refused(&mut said, Refusal::Version, "the relay speaks version 1");
            stream.write_all(&said).expect("the client reads");
        }
    });
    let mut client = host.client();
    send(&mut client, "alice", 0..1);
    let deadline = Instant::now() + PATIENCE;
    // What it cannot send at once is spilled; the file is named to the relay then.
    while client.serve().is_some() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    drop(client);
    assert_eq!(relay.join().expect("no panic"), [2, 1]);
}

/// Reads until a hello is there; returns its version.
fn read_hello(stream: &mut UnixStream) -> u8 {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 1];
        let read = std::io::Read::read(stream, &mut buffer).expect("a client's bytes");
        assert_eq!(read, 1, "the client has gone");
        bytes.push(buffer[0]);
        if let Some((Frame::Hello(hello), _)) = wire::read_frame(&bytes).expect("a frame") {
            return hello.version;
        }
    }
}

thread_local! {
    static USER: Cell<u32> = const { Cell::new(0) };
}

fn push_as(clients: &mut UserClients, user: u32, name: &str, number: u32) {
    USER.set(user);
    clients.push(&WireRecord {
        topic: "dovecot",
        key: name.as_bytes(),
        value: format!("{name} {number}").as_bytes(),
        time_ms: 0,
        id: id(name, number),
        txn: Uuid::nil(),
        txn_seq: 0,
        txn_last: true,
    });
    clients.flush();
}

/// The process's timer, as often as an attempt to connect is due.
pub(crate) async fn serve_until_due(clients: &mut UserClients) {
    for _ in 0..3 {
        let next = clients.serve().unwrap_or_default();
        tokio::time::sleep(next).await;
    }
}

#[tokio::test]
async fn a_process_that_changes_its_user_has_a_file_and_a_connection_for_each() {
    let mut host = Host::new();
    host.make_spill_dir();
    let mut clients = UserClients::of_users(host.client_options(), || USER.get());
    push_as(&mut clients, 5001, "anna", 0);
    push_as(&mut clients, 5002, "ben", 0);
    push_as(&mut clients, 5001, "anna", 1);
    let files = host.spill_files();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in &files {
        let bytes = std::fs::read(host.spill_dir().join(file)).expect("a file");
        let text = String::from_utf8_lossy(&bytes);
        let users = (text.contains("anna "), text.contains("ben "));
        assert!(matches!(users, (true, false) | (false, true)), "{users:?}");
    }
    host.start();
    // Ben's client connects while the process is Ben, and not before.
    for user in [5003, 0] {
        USER.set(user);
        serve_until_due(&mut clients).await;
        assert_eq!(host.relay().stats().accepted, 0, "as {user}");
    }
    clients.finish(Instant::now() + PATIENCE);
    host.arrived(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_leaves_a_place_to_others() {
    let mut host = Host::new();
    host.options.max_clients = 20;
    host.start();
    let mut kept = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let mut stream = host.connect();
        stream.write_all(&hello(2)).expect("the relay reads");
        let mut first = [0; 5];
        std::io::Read::read_exact(&mut stream, &mut first).expect("an answer");
        match first[4] {
            129 => kept.push(stream),
            _ => refused += 1,
        }
    }
    assert_eq!((kept.len(), refused), (18, 2));
    assert_eq!(host.relay().stats().refused_busy, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_frame_with_very_many_records_few_are_in_memory() {
    let host = Host::started();
    let mut bytes = hello(2);
    let at = wire::begin_records(&mut bytes);
    let mut count = 0;
    while bytes.len() < wire::MAX_FRAME_BYTES - 100 {
        wire::write_record(&mut bytes, &record("dovecot", b"", count));
        count += 1;
    }
    wire::end_records(&mut bytes[..], at, count);
    let mut stream = host.connect();
    stream.write_all(&bytes).expect("the relay reads");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("a half-closed socket");
    let said = read_to_end(stream);
    let acknowledged: Vec<u64> = frames(&said)
        .into_iter()
        .filter_map(|frame| match frame {
            Frame::Ack(records) => Some(records),
            _ => None,
        })
        .collect();
    assert_eq!(acknowledged.last(), Some(&u64::from(count)));
    // 256 KiB at a time, of which each takes more than half a KiB.
    let first = acknowledged[0];
    assert!(first < 512, "{first} records in one append");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_have_not_arrived_whole_take_a_bounded_memory() {
    const LONG: usize = wire::MAX_FRAME_BYTES;
    let mut host = Host::new();
    host.options.unread_time = PATIENCE;
    host.start();
    let mut unfinished = hello(2);
    let hello_bytes = unfinished.len();
    let length = u32::try_from(LONG).expect("4 MiB");
    unfinished.extend_from_slice(&length.to_le_bytes());
    unfinished.resize(hello_bytes + LONG, 2);
    let streams: Vec<UnixStream> = (0..40).map(|_| host.connect()).collect();
    let senders: Vec<_> = streams
        .iter()
        .map(|stream| {
            let mut stream = stream.try_clone().expect("a socket");
            let bytes = unfinished.clone();
            // Ends with an error when the socket is shut down.
            std::thread::spawn(move || stream.write_all(&bytes).is_ok())
        })
        .collect();
    // Those who find room have sent all, and it is read.
    let is_full = || {
        let sent = senders.iter().filter(|sender| sender.is_finished());
        sent.count() >= 15 && host.relay().stats().bytes >= 15 * LONG as u64
    };
    let deadline = Instant::now() + PATIENCE;
    while !is_full() {
        assert!(Instant::now() < deadline, "they are not read");
        tokio::task::yield_now().await;
    }
    let mut client = host.client();
    send(&mut client, "alice", 0..3);
    assert_eq!(finish(client), []);
    // Half of 128 MiB is one user's, and each client is read a little without.
    let bytes = host.relay().stats().bytes;
    assert!(bytes < 64 * 1024 * 1024 + 41 * 64 * 1024, "{bytes} bytes");
    for stream in &streams {
        stream.shutdown(std::net::Shutdown::Both).expect("a socket");
    }
    let sent = senders
        .into_iter()
        .map(|sender| sender.join().expect("no panic"));
    assert_eq!(sent.filter(|is_sent| *is_sent).count(), 15);
}
