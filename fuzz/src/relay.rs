//! The bytes between a mail process and the relay: frames of both sides, and the records in them.

use dovecast_event::{ParsedHeaders, RecordHeaders, UnixMillis};
use dovecast_relay::wire::{
    FRAME_HEAD_BYTES, Frame, Hello, MAX_FRAME_BYTES, Records, WireError, WireRecord, begin_records,
    end_records, read_frame, read_record, record_bytes, write_ack, write_hello, write_record,
    write_refused, write_rejected, write_welcome,
};

use crate::expect::{readable_error, within};
use crate::{Outcome, Target};

/// See the module.
pub const TARGET: Target = Target { name: "relay", run };

fn run(bytes: &[u8]) -> Outcome {
    let mut rest = bytes;
    loop {
        // Nothing is copied before a frame is whole, whatever length it says.
        match within(0, || read_frame(rest)) {
            Ok(Some((frame, length))) => {
                assert!((FRAME_HEAD_BYTES..=4 + MAX_FRAME_BYTES).contains(&length));
                let (whole, behind) = rest.split_at(length);
                is_read_when_it_is_whole(whole, &frame);
                if let Err(error) = is_written_the_same(whole, frame) {
                    return refused(error);
                }
                rest = behind;
            }
            Ok(None) if rest.is_empty() => return Outcome::Read,
            Ok(None) => return Outcome::Refused,
            Err(error) => return refused(error),
        }
    }
}

fn refused(error: WireError) -> Outcome {
    readable_error(&error);
    Outcome::Refused
}

/// What comes in pieces is waited for, and means the same then.
fn is_read_when_it_is_whole(whole: &[u8], frame: &Frame<'_>) {
    let length = whole.len();
    assert_eq!(read_frame(whole), Ok(Some((frame.clone(), length))));
    for cut in [length - 1, length / 2] {
        assert_eq!(read_frame(&whole[..cut]), Ok(None), "cut at {cut}");
    }
}

fn is_written_the_same(whole: &[u8], frame: Frame<'_>) -> Result<(), WireError> {
    let mut out = Vec::new();
    match frame {
        Frame::Hello(hello) => write_hello(&mut out, &hello),
        Frame::Records(records) => return records_are_written_the_same(whole, records),
        Frame::Ack(records) => write_ack(&mut out, records),
        Frame::Rejected(rejected) => write_rejected(&mut out, &rejected),
        Frame::Welcome { .. } => {
            // Whatever version it says.
            write_welcome(&mut out);
            assert_eq!(out.len(), whole.len());
            return Ok(());
        }
        Frame::Refused { reason: None, .. } => return Ok(()),
        Frame::Refused {
            reason: Some(reason),
            text,
        } => write_refused(&mut out, reason, text),
    }
    assert_eq!(
        out.escape_ascii().to_string(),
        whole.escape_ascii().to_string()
    );
    Ok(())
}

fn records_are_written_the_same(whole: &[u8], records: Records<'_>) -> Result<(), WireError> {
    let count = Records::count(&records);
    let mut out = Vec::new();
    let at = begin_records(&mut out);
    let mut read = 0;
    for record in records {
        let record = record?;
        read += 1;
        is_the_same_again(&record);
        write_record(&mut out, &record);
    }
    assert_eq!(read, count);
    end_records(&mut out, at, count);
    // Flags of later versions are read over; so only the length is the same for sure.
    assert_eq!(out.len(), whole.len());
    let again = read_frame(&out).expect("our own");
    assert!(matches!(again, Some((Frame::Records(_), length)) if length == out.len()));
    Ok(())
}

/// A record alone, as a spill file has it, and what it says in the headers of the log.
pub(crate) fn is_the_same_again(record: &WireRecord<'_>) {
    let mut out = Vec::new();
    write_record(&mut out, record);
    assert_eq!(out.len(), record_bytes(record));
    assert_eq!(read_record(&out), Ok(*record));
    assert!(read_record(&out[..out.len() - 1]).is_err());

    let hello = Hello {
        version: 1,
        host: "mail1",
        program: record.topic,
        spill: "",
    };
    let headers = RecordHeaders {
        id: record.id,
        time: UnixMillis(record.time_ms),
        host: hello.host,
        txn: record.txn,
        txn_seq: record.txn_seq,
        txn_last: record.txn_last,
    };
    let mut all = Vec::new();
    headers.write(&mut Vec::new(), |name, value| {
        all.push((name, value.to_vec()));
    });
    let read = ParsedHeaders::parse(all.iter().map(|(name, value)| (*name, &**value)));
    let read = read.expect("headers of a record");
    assert_eq!(
        (read.id, read.txn, read.txn_seq, read.txn_last, &*read.host),
        (
            record.id,
            record.txn,
            record.txn_seq,
            record.txn_last,
            hello.host
        )
    );
}
