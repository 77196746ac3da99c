//! A record of the protocol as the log has it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dovecast_event::{RecordHeaders, UnixMillis};
use dovecast_log::{Header, NewRecord};

use crate::wire::WireRecord;

/// Makes records of one host; topics and header names are made once.
pub(super) struct Converter {
    host: String,
    topics: Vec<Arc<str>>,
    names: Vec<Arc<str>>,
    scratch: Vec<u8>,
}

/// How far ahead of ours a client's clock may be.
const AHEAD: Duration = Duration::from_mins(5);
/// Topics that are remembered for one client.
const REMEMBERED: usize = 16;

impl Converter {
    pub(super) fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            topics: Vec::new(),
            names: Vec::new(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn convert(&mut self, record: &WireRecord<'_>) -> NewRecord {
        let headers = RecordHeaders {
            id: record.id,
            time: UnixMillis(record.time_ms),
            host: &self.host,
            txn: record.txn,
            txn_seq: record.txn_seq,
            txn_last: record.txn_last,
        };
        let mut list = Vec::with_capacity(6);
        let names = &mut self.names;
        headers.write(&mut self.scratch, |name, value| {
            list.push(Header {
                name: interned(names, name),
                value: Bytes::copy_from_slice(value),
            });
        });
        NewRecord {
            topic: interned(&mut self.topics, record.topic),
            key: Some(Bytes::copy_from_slice(record.key)),
            value: Bytes::copy_from_slice(record.value),
            headers: list,
            timestamp_ms: i64::try_from(record.time_ms.min(latest_ms())).unwrap_or(i64::MAX),
            id: Some(record.id.as_u128()),
        }
    }
}

/// A clock that is far ahead would keep its records for ever: retention goes by this time. The header says what was sent.
fn latest_ms() -> u64 {
    let now = SystemTime::now() + AHEAD;
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

fn interned(known: &mut Vec<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(found) = known.iter().find(|known| ***known == *text) {
        return Arc::clone(found);
    }
    let new: Arc<str> = Arc::from(text);
    if known.len() < REMEMBERED {
        known.push(Arc::clone(&new));
    }
    new
}

/// Kafka's rule for topic names.
pub(super) fn is_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".."
}
