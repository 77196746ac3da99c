//! Clients of all kinds.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use dovecast_log::Log;
use dovecast_relay::server::bind;
use dovecast_relay::wire::{self, Frame, Hello, Refusal, VERSION};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::{Host, PATIENCE, check_in_order, finish, push, read_to_end, send};

pub(crate) fn hello(spill: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let hello = Hello {
        version: VERSION,
        host: "mail1",
        program: "test",
        spill,
    };
    wire::write_hello(&mut out, &hello);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_is_in_the_log_with_its_headers() {
    let host = Host::started();
    let mut client = host.client();
    send(&mut client, "alice", 0..3);
    assert_eq!(finish(client), []);
    let records = host.arrived(3).await;
    check_in_order(&records);
    let record = &records[0];
    assert_eq!(record.key.as_deref(), Some(&b"alice"[..]));
    let headers: Vec<String> = record
        .headers
        .iter()
        .map(|header| format!("{}: {}", header.name, header.value.escape_ascii()))
        .collect();
    assert_eq!(
        headers,
        [
            "dovecast-id: 616c6963-6500-0000-0000-000000000000",
            "dovecast-time: 2026-11-20T21:35:28.120Z",
            "dovecast-host: mail1",
            "dovecast-txn: 00000000-0000-0000-0000-000000000000",
            "dovecast-txn-seq: 0",
            "dovecast-txn-last: 1",
            &*format!("dovecast-uid: {}", rustix::process::geteuid().as_raw()),
        ]
    );
    assert_eq!(record.timestamp_ms, 1_795_210_528_120);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_restarted_again_and_again_has_each_record_once() {
    let mut host = Host::started();
    let mut client = host.client();
    for round in 0..20 {
        send(&mut client, "alice", round * 50..(round + 1) * 50);
        if round % 2 == 0 {
            host.stop().await;
        } else {
            // The log is closed under it: as near to a death as one process allows.
            let (relay, log) = host.running.take().expect("it runs");
            log.close().await;
            relay.stop().await;
        }
        host.start();
    }
    let options_left = finish(client);
    let lost = options_left
        .iter()
        .any(|news| matches!(news, dovecast_relay::client::News::Lost { .. }));
    assert!(!lost, "{options_left:?}");
    let records = host.arrived(1000).await;
    check_in_order(&records);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_client_that_just_ends_are_appended() {
    let host = Host::started();
    let mut client = host.client();
    send(&mut client, "alice", 0..100);
    // As if the process were killed: nothing is waited for.
    drop(client);
    check_in_order(&host.arrived(100).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_very_many_events_loses_none() {
    let host = Host::started();
    let mut client = host.client();
    for number in 0..50_000 {
        push(&mut client, "alice", number);
    }
    client.flush();
    let news = finish(client);
    let count = host.arrived(50_000).await;
    check_in_order(&count);
    assert!(
        !format!("{news:?}").contains("Lost"),
        "some are lost: {news:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_is_refused_and_what_came_before_it_is_kept() {
    let host = Host::started();
    let check = |bytes: Vec<u8>, expected: &str| {
        let mut stream = host.connect();
        stream.write_all(&bytes).expect("the relay reads");
        let said = read_to_end(stream);
        let mut rest = said.as_slice();
        let mut refusal = None;
        while let Ok(Some((frame, length))) = wire::read_frame(rest) {
            if let Frame::Refused { reason, text } = frame {
                refusal = Some((reason, text.to_owned()));
            }
            rest = &rest[length..];
        }
        let (reason, text) = refusal.expect("a refusal");
        assert_eq!(reason, Some(Refusal::Malformed));
        assert!(text.contains(expected), "{text}");
    };
    let mut with_record = hello("");
    let at = wire::begin_records(&mut with_record);
    let record = dovecast_relay::wire::WireRecord {
        topic: "dovecot",
        key: b"alice",
        value: b"alice 0",
        time_ms: 0,
        id: crate::id("alice", 0),
        txn: uuid::Uuid::nil(),
        txn_seq: 0,
        txn_last: false,
    };
    wire::write_record(&mut with_record, &record);
    wire::end_records(&mut with_record[..], at, 1);
    check(
        [with_record.clone(), b"\x01\0\0\0\x07".to_vec()].concat(),
        "unknown frame type 7",
    );
    check(
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        "a frame of 542393671 bytes",
    );
    check(
        b"\x05\0\0\0\x02\0\0\0\0".to_vec(),
        "the first frame is no hello",
    );
    // More than any hello has, of which no more comes.
    check(
        b"\x01\x04\0\0\x01\x02".to_vec(),
        "no hello of 1024 bytes at most",
    );
    check([hello(""), hello("")].concat(), "second hello");
    check_in_order(&host.arrived(1).await);
    assert_eq!(host.relay().stats().malformed, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_is_forgotten_and_its_sender_gets_no_acknowledgement() {
    let host = Host::started();
    let mut client = host.client();
    send(&mut client, "bob", 0..1);
    let mut stream = host.connect();
    let mut bytes = hello("");
    let at = wire::begin_records(&mut bytes);
    wire::end_records(&mut bytes[..], at, 0);
    stream
        .write_all(&bytes[..bytes.len() - 2])
        .expect("the relay reads");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("a half-closed socket");
    let said = read_to_end(stream);
    let (frame, length) = wire::read_frame(&said).expect("a frame").expect("whole");
    assert!(matches!(frame, Frame::Welcome { .. }), "{frame:?}");
    assert_eq!(said.len(), length, "more than a welcome");
    finish(client);
    host.arrived(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_sent_away() {
    let mut host = Host::new();
    host.options.hello_time = Duration::from_millis(100);
    host.start();
    let said = read_to_end(host.connect());
    let Ok(Some((Frame::Refused { text, .. }, _))) = wire::read_frame(&said) else {
        panic!("no refusal: {said:?}");
    };
    assert_eq!(text, "there was no hello in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_comes_too_slowly_is_to_be_sent_again_soon() {
    let mut host = Host::new();
    host.options.unread_time = Duration::from_millis(100);
    host.start();
    let mut stream = host.connect();
    let frame = [&hello("")[..], &100_000_u32.to_le_bytes(), b"\x02"].concat();
    stream.write_all(&frame).expect("the relay reads");
    let said = read_to_end(stream);
    let (_, welcome) = wire::read_frame(&said).expect("a frame").expect("whole");
    let Ok(Some((Frame::Refused { reason, text }, _))) = wire::read_frame(&said[welcome..]) else {
        panic!("no refusal: {said:?}");
    };
    assert_eq!(reason, Some(Refusal::Busy), "{text}");
    assert_eq!(host.relay().stats().malformed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_acknowledgements_is_cut_off_and_its_records_are_kept() {
    let mut host = Host::new();
    host.options.unread_time = Duration::from_millis(200);
    host.start();
    let mut stream = host.connect();
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a time limit");
    stream.write_all(&hello("")).expect("the relay reads");
    let mut sent = 0;
    let deadline = Instant::now() + PATIENCE;
    // Until the relay hangs up: its acknowledgements fill the socket at some time.
    loop {
        let mut frame = Vec::new();
        let at = wire::begin_records(&mut frame);
        let value = format!("alice {sent}");
        let record = dovecast_relay::wire::WireRecord {
            topic: "dovecot",
            key: b"alice",
            value: value.as_bytes(),
            time_ms: 0,
            id: crate::id("alice", sent),
            txn: uuid::Uuid::nil(),
            txn_seq: 0,
            txn_last: false,
        };
        wire::write_record(&mut frame, &record);
        wire::end_records(&mut frame[..], at, 1);
        if stream.write_all(&frame).is_err() || host.relay().stats().unread > 0 {
            break;
        }
        sent += 1;
        if sent >= 20_000 || Instant::now() > deadline {
            // Acknowledgements are merged: a socket's buffer may be too large to ever fill.
            break;
        }
    }
    drop(stream);
    let records = {
        let settled = async {
            while host.relay().stats().clients > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            host.relay().stats().records
        };
        tokio::time::timeout(PATIENCE, settled)
            .await
            .expect("the relay lets it go")
    };
    let count = usize::try_from(records).expect("small");
    assert!(records >= u64::from(sent), "{records} of {sent}");
    check_in_order(&host.arrived(count).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_too_many_is_refused_and_spills() {
    let mut host = Host::new();
    host.options.max_clients = 1;
    host.start();
    let mut first = host.client();
    send(&mut first, "alice", 0..1);
    host.arrived(1).await;
    let mut second = host.client();
    send(&mut second, "bob", 0..1);
    let refused = async {
        while host.relay().stats().refused_busy == 0 {
            second.serve();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("a refusal");
    let news = finish(second);
    assert!(
        news.iter()
            .all(|news| matches!(news, dovecast_relay::client::News::Trouble(_))),
        "{news:?}"
    );
    // The spill file is taken in, though its writer was refused.
    let records = host.arrived(2).await;
    assert_eq!(check_in_order(&records).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_clients_at_once_lose_nothing() {
    let host = Host::started();
    let mut clients: Vec<_> = (0..2000).map(|_| host.client()).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        send(client, &format!("user{i}"), 0..3);
    }
    for client in clients {
        assert_eq!(finish(client), []);
    }
    let records = host.arrived(6000).await;
    assert_eq!(check_in_order(&records).len(), 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_does_not_starve_others() {
    let host = Host::started();
    let mut flood = host.client();
    for number in 0..200_000 {
        push(&mut flood, "flood", number);
    }
    flood.flush();
    let mut other = host.client();
    send(&mut other, "alice", 0..1);
    assert_eq!(finish(other), []);
    // Counted, not timed: the flood must not be through when the other one is acknowledged.
    let topics = host.log().topics().await.expect("topics");
    let appended: u64 = topics[0]
        .partitions
        .iter()
        .map(|partition| partition.end)
        .sum();
    assert!(
        appended < 200_000,
        "the one record had to wait for all {appended}"
    );
    let news = finish(flood);
    assert!(!format!("{news:?}").contains("Lost"), "{news:?}");
    check_in_order(&host.arrived(200_001).await);
}

#[test]
fn a_start_beside_a_relay_that_takes_nobody_on_does_not_wait() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("relay.sock");
    let busy = listener_of_one(&path);
    // Nobody accepts: sooner or later there is no room in its backlog.
    let mut waiting = Vec::new();
    while let Some(client) = connect_now(&path) {
        waiting.push(client);
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let error = bind(&path).expect_err("it is another's");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
    drop((busy, waiting));
    bind(&path).expect("what nobody answers is replaced");
}

fn socket() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket")
}

fn listener_of_one(path: &Path) -> OwnedFd {
    let listener = socket();
    let address = SocketAddrUnix::new(path).expect("an address");
    rustix::net::bind(&listener, &address).expect("bound");
    rustix::net::listen(&listener, 1).expect("it listens");
    listener
}

/// `None`: the backlog is full.
fn connect_now(path: &Path) -> Option<OwnedFd> {
    let client = socket();
    let address = SocketAddrUnix::new(path).expect("an address");
    rustix::net::connect(&client, &address)
        .ok()
        .map(|()| client)
}
