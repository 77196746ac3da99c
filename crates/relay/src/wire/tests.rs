//! Frames that read back, and bytes that are none.

use super::*;

fn example() -> WireRecord<'static> {
    WireRecord {
        topic: "dovecot",
        key: b"alice",
        value: br#"{"user":"alice"}"#,
        time_ms: 1_795_210_528_120,
        id: Uuid::from_u128(1),
        txn: Uuid::from_u128(2),
        txn_seq: 3,
        txn_last: true,
    }
}

fn all_frames() -> Vec<u8> {
    let mut out = Vec::new();
    let hello = Hello {
        version: VERSION,
        host: "mail1",
        program: "imap",
        spill: "",
    };
    write_hello(&mut out, &hello);
    let at = begin_records(&mut out);
    write_record(&mut out, &example());
    write_record(&mut out, &example());
    end_records(&mut out, at, 2);
    write_welcome(&mut out);
    let rejected = Rejected {
        up_to: 2,
        count: 1,
        reason: "not one of its topics",
    };
    write_rejected(&mut out, &rejected);
    write_ack(&mut out, 2);
    write_refused(&mut out, Refusal::Peer, "uid 33 may not send");
    out
}

fn read_all(mut bytes: &[u8]) -> Result<Vec<Frame<'_>>, WireError> {
    let mut frames = Vec::new();
    while let Some((frame, length)) = read_frame(bytes)? {
        frames.push(frame);
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty(), "bytes are left over");
    Ok(frames)
}

#[test]
fn every_frame_reads_back() {
    let bytes = all_frames();
    let frames = read_all(&bytes).expect("our own");
    assert_eq!(frames.len(), 6);
    let Frame::Records(records) = frames[1].clone() else {
        panic!("not records: {frames:?}");
    };
    let records: Result<Vec<_>, _> = records.collect();
    assert_eq!(records, Ok(vec![example(), example()]));
    assert_eq!(frames[4], Frame::Ack(2));
}

#[test]
fn a_frame_that_has_not_arrived_whole_is_waited_for() {
    let bytes = all_frames();
    let (_, first) = read_frame(&bytes).expect("whole").expect("a frame");
    for cut in 0..first {
        assert_eq!(read_frame(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
}

#[test]
fn what_is_no_frame_is_an_error_and_no_panic() {
    let check = |bytes: &[u8], expected: &str| {
        let error = read_all(bytes).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    };
    check(
        b"\0\0\0\0",
        "a frame of 0 bytes (1 to 4194304 are possible)",
    );
    check(
        b"GET / HTTP/1.1\r\n",
        "a frame of 542393671 bytes (1 to 4194304 are possible)",
    );
    check(b"\x01\0\0\0\x07", "unknown frame type 7");
    check(
        b"\x02\0\0\0\x01\x01",
        "the body of a frame of type 1 is cut short",
    );
    check(
        b"\x0a\0\0\0\x82\0\0\0\0\0\0\0\0\0",
        "1 bytes too many in a frame of type 130",
    );
    check(
        b"\x08\0\0\0\x01\x01\x01\0\xff\0\0\0",
        "text that is not UTF-8 in a frame of type 1",
    );
}

#[test]
fn records_that_are_too_few_or_too_many_are_an_error() {
    let with_count = |count| {
        let mut out = Vec::new();
        let at = begin_records(&mut out);
        write_record(&mut out, &example());
        end_records(&mut out, at, count);
        out
    };
    for (count, expected) in [(0, "too many"), (2, "cut short")] {
        let bytes = with_count(count);
        let Ok(Some((Frame::Records(records), _))) = read_frame(&bytes) else {
            panic!("not records");
        };
        let error = records.last().expect("an error").expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_record_alone_reads_back_and_its_length_is_known() {
    let mut out = Vec::new();
    write_record(&mut out, &example());
    assert_eq!(out.len(), record_bytes(&example()));
    assert_eq!(read_record(&out), Ok(example()));
    assert!(read_record(&out[..out.len() - 1]).is_err());
}

#[test]
fn the_documented_example_is_what_is_sent() {
    let document = include_str!("../../../../docs/relay-protocol.md");
    let example = document.split("```hex\n").nth(1).expect("an example");
    let hex = example.split("```").next().expect("its end");
    let bytes = hex
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16));
    let documented: Vec<u8> = bytes.collect::<Result<_, _>>().expect("hex");
    let mut sent = Vec::new();
    let hello = Hello {
        version: VERSION,
        host: "mail1",
        program: "imap",
        spill: "",
    };
    write_hello(&mut sent, &hello);
    write_ack(&mut sent, 3);
    assert_eq!(documented, sent);
}
