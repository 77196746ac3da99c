//! A record of the protocol as the log has it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dovecast_event::{RecordHeaders, UnixMillis, header_name};
use dovecast_log::{Header, NewRecord};

use crate::wire::WireRecord;

/// Makes records of one sender; topics and header names are made once.
pub(super) struct Converter {
    host: String,
    uid: Bytes,
    topics: Vec<Arc<str>>,
    names: Vec<Arc<str>>,
    scratch: Vec<u8>,
}

/// The longest name of a host that a header takes, in bytes (RFC 1035 section 2.3.4). It stands in
/// every record: with one as long as a hello has room for, records of some bytes would take 64 kB
/// each.
const MAX_HOST_BYTES: usize = 255;
/// How far ahead of ours a client's clock may be.
const AHEAD: Duration = Duration::from_mins(5);
/// Topics that are remembered for one client.
const REMEMBERED: usize = 16;

impl Converter {
    /// A longer name of the host is cut.
    pub(super) fn new(host: &str, uid: u32) -> Self {
        Self {
            uid: Bytes::from(uid.to_string()),
            host: host[..host.floor_char_boundary(MAX_HOST_BYTES)].to_owned(),
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
        let mut list = Vec::with_capacity(7);
        let names = &mut self.names;
        headers.write(&mut self.scratch, |name, value| {
            list.push(Header {
                name: interned(names, name),
                value: Bytes::copy_from_slice(value),
            });
        });
        list.push(Header {
            name: interned(names, header_name::UID),
            value: self.uid.clone(),
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

/// A clock that is far ahead would keep its records for ever: retention goes by this time. The
/// header says what was sent.
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_long_name_of_a_host_does_not_stand_in_every_record() {
        let record = WireRecord {
            topic: "dovecot",
            key: b"",
            value: b"",
            time_ms: 0,
            id: Uuid::nil(),
            txn: Uuid::nil(),
            txn_seq: 0,
            txn_last: true,
        };
        for (host, expected) in [("mail1", 5), (&"é".repeat(30_000), 254)] {
            let record = Converter::new(host, 5000).convert(&record);
            let header = |name| {
                let mut headers = record.headers.iter();
                headers.find(|header| &*header.name == name)
            };
            let host = header(header_name::HOST);
            assert_eq!(host.map(|header| header.value.len()), Some(expected));
            let uid = header(header_name::UID);
            assert_eq!(uid.map(|header| &*header.value), Some(&b"5000"[..]));
        }
    }
}
