//! Headers of records: of those that are made here, and not by a mail process, and what is read of
//! all.

use bytes::Bytes;
use dovecast_event::{RecordHeaders, UnixMillis, header_name};
use dovecast_log::{Header, Record};
use uuid::Uuid;

/// One header.
pub(crate) fn header(name: &str, value: &[u8]) -> Header {
    Header {
        name: name.into(),
        value: Bytes::copy_from_slice(value),
    }
}

/// The headers of an event that is a transaction of its own.
pub(crate) fn event_headers(id: Uuid, now: jiff::Timestamp) -> Vec<Header> {
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let mut headers = Vec::new();
    RecordHeaders {
        id,
        time: UnixMillis(u64::try_from(now.as_millisecond()).unwrap_or(0)),
        host: &host,
        txn: Uuid::now_v7(),
        txn_seq: 0,
        txn_last: true,
    }
    .write(&mut Vec::new(), |name, value| {
        headers.push(header(name, value));
    });
    headers
}

/// When the event of a record was observed: what its header says. Kafka's time of a record is when
/// it was shipped.
pub(crate) fn event_time_ms(record: &Record) -> i64 {
    let header = record.header(header_name::TIME);
    let text = header.and_then(|value| std::str::from_utf8(value).ok());
    let time = text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    time.map_or(record.timestamp_ms, jiff::Timestamp::as_millisecond)
}
