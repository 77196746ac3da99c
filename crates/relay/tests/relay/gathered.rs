//! Reading what has gathered: few commits, nothing kept waiting, nothing acknowledged early.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use dovecast_relay::wire::{self, Frame, WireRecord};
use uuid::Uuid;

use crate::clients::hello;
use crate::{Host, PATIENCE, check_in_order, finish, id, read_to_end, send};

/// Long beside what a few clients take to send, even on a busy machine.
const LONG: Duration = Duration::from_millis(500);

fn with_interval(interval: Duration) -> Host {
    let mut host = Host::new();
    host.options.commit_interval = interval;
    host.start();
    host
}

fn frame(number: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    let at = wire::begin_records(&mut frame);
    let value = format!("alice {number}");
    let record = WireRecord {
        topic: "dovecot",
        key: b"alice",
        value: value.as_bytes(),
        time_ms: 0,
        id: id("alice", number),
        txn: Uuid::nil(),
        txn_seq: 0,
        txn_last: true,
    };
    wire::write_record(&mut frame, &record);
    wire::end_records(&mut frame[..], at, 1);
    frame
}

/// Waits for the next frame, and reads no further.
fn read_frame(stream: &mut UnixStream) -> Vec<u8> {
    let mut said = vec![0; wire::FRAME_HEAD_BYTES - 1];
    stream.read_exact(&mut said).expect("the relay answers");
    let length = u32::from_le_bytes(said[..4].try_into().expect("four bytes"));
    let head = said.len();
    said.resize(head + usize::try_from(length).expect("small"), 0);
    stream
        .read_exact(&mut said[head..])
        .expect("a whole answer");
    said
}

/// An acknowledgement that comes, if it comes at once, or what the relay has said meanwhile.
fn look(stream: &mut UnixStream) {
    let moment = Some(Duration::from_millis(2));
    stream.set_read_timeout(moment).expect("a time limit");
    // Nothing, while the relay rests.
    let _ = stream.read(&mut [0; 1024]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_few_commits() {
    const ROUNDS: u32 = 100;
    let host = with_interval(LONG);
    let mut streams: Vec<_> = (0..4).map(|_| host.connect()).collect();
    for stream in &mut streams {
        stream.write_all(&hello("")).expect("the relay reads");
    }
    for round in 0..ROUNDS {
        for (number, stream) in (4 * round..).zip(&mut streams) {
            stream.write_all(&frame(number)).expect("the relay reads");
        }
        // A relay that takes each frame for itself has the time to do so.
        look(&mut streams[0]);
    }
    drop(streams);
    host.arrived(400).await;
    let commits = host.log().stats().commits;
    assert!(commits <= 30, "{commits} commits");
}

/// Each of several, and with nothing behind it that would bring it along.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_record_is_acknowledged_without_another_behind_it() {
    for interval in [0, 2, 50].map(Duration::from_millis) {
        let host = with_interval(interval);
        let mut stream = host.connect();
        stream.write_all(&hello("")).expect("the relay reads");
        let said = read_frame(&mut stream);
        let welcome = wire::read_frame(&said).expect("a frame");
        assert!(matches!(welcome, Some((Frame::Welcome { .. }, _))));
        for number in 0..5 {
            // Half a frame is nothing yet; the rest of it is all that comes.
            let frame = frame(number);
            let (one, other) = frame.split_at(frame.len() / 2);
            stream.write_all(one).expect("the relay reads");
            stream.write_all(other).expect("the relay reads");
            let said = read_frame(&mut stream);
            let ack = wire::read_frame(&said).expect("a frame").expect("whole").0;
            let expected = u64::from(number) + 1;
            assert!(matches!(ack, Frame::Ack(records) if records == expected));
            // The log counts what is committed.
            assert_eq!(host.log().stats().appended, expected);
        }
    }
}

/// Everything is there at once when the socket is looked at first: a whole session, and its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_ended_before_it_is_read_is_read_to_its_end() {
    for interval in [Duration::ZERO, LONG] {
        let host = with_interval(interval);
        // The relay rests from now on.
        let mut first = host.client();
        send(&mut first, "bob", 0..1);
        assert_eq!(finish(first), []);
        let mut stream = host.connect();
        let frames = (0..1000).flat_map(frame);
        let bytes: Vec<u8> = hello("").into_iter().chain(frames).collect();
        stream.write_all(&bytes).expect("the relay reads");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("a half-closed socket");
        let said = read_to_end(stream);
        let (mut rest, mut durable) = (said.as_slice(), 0);
        while let Ok(Some((frame, length))) = wire::read_frame(rest) {
            if let Frame::Ack(records) = frame {
                durable = records;
            }
            rest = &rest[length..];
        }
        assert_eq!(durable, 1000, "{interval:?}");
        check_in_order(&host.arrived(1001).await);
    }
}

/// A relay that stops reads what has gathered, whatever is left of the interval.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_takes_what_has_gathered() {
    let mut host = with_interval(Duration::from_mins(10));
    let mut client = host.client();
    send(&mut client, "alice", 0..100);
    let stopped = tokio::time::timeout(PATIENCE, host.stop()).await;
    stopped.expect("the relay stops");
    // What is with the relay comes no second time.
    drop(client);
    host.start();
    check_in_order(&host.arrived(100).await);
}
