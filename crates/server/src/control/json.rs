//! What goes over the control socket, and what `--json` prints.

mod accounts;
mod deliveries;
mod push;
mod registry;
mod secrets;

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use dovecast_log::{
    GroupStatus, Header, LogError, NewRecord, PartitionStatus, Record, TopicStatus,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use accounts::*;
pub(crate) use deliveries::*;
pub(crate) use push::*;
pub(crate) use registry::*;
pub(crate) use secrets::*;

/// Bytes: a string where they are UTF-8, `{"base64": "..."}` where they are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Octets {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Binary {
        /// RFC 4648, with padding.
        base64: String,
    },
}

impl From<&[u8]> for Octets {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Binary {
                base64: BASE64_STANDARD.encode(bytes),
            },
        }
    }
}

impl TryFrom<Octets> for Bytes {
    type Error = String;

    fn try_from(octets: Octets) -> Result<Self, String> {
        match octets {
            Octets::Text(text) => Ok(text.into()),
            Octets::Binary { base64 } => match BASE64_STANDARD.decode(&base64) {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => Err(format!("not base64: {error}")),
            },
        }
    }
}

/// A topic.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Topic {
    pub(crate) topic: String,
    pub(crate) partitions: Vec<PartitionEnds>,
}

/// A partition of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PartitionEnds {
    pub(crate) partition: usize,
    pub(crate) begin: u64,
    pub(crate) end: u64,
}

impl From<TopicStatus> for Topic {
    fn from(status: TopicStatus) -> Self {
        let numbered = status.partitions.into_iter().enumerate();
        Self {
            topic: status.name,
            partitions: numbered
                .map(
                    |(partition, PartitionStatus { begin, end })| PartitionEnds {
                        partition,
                        begin,
                        end,
                    },
                )
                .collect(),
        }
    }
}

/// How far a group is in one partition.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GroupPlace {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) committed: u64,
    pub(crate) end: u64,
    pub(crate) lag: u64,
}

impl From<GroupStatus> for GroupPlace {
    fn from(status: GroupStatus) -> Self {
        Self {
            lag: status.end.saturating_sub(status.committed),
            group: status.group,
            topic: status.topic,
            partition: status.partition,
            committed: status.committed,
            end: status.end,
        }
    }
}

/// A record that is read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadRecord {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Octets>,
    pub(crate) headers: Vec<RecordHeader>,
    pub(crate) value: Octets,
}

/// A header of a record.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RecordHeader {
    pub(crate) name: String,
    pub(crate) value: Octets,
}

impl From<&Record> for ReadRecord {
    fn from(record: &Record) -> Self {
        Self {
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref().map(Octets::from),
            headers: headers_out(&record.headers),
            value: Octets::from(&*record.value),
        }
    }
}

impl TryFrom<ReadRecord> for Record {
    type Error = String;

    fn try_from(record: ReadRecord) -> Result<Self, String> {
        Ok(Self {
            topic: record.topic.into(),
            partition: record.partition,
            offset: record.offset,
            key: record.key.map(Bytes::try_from).transpose()?,
            value: record.value.try_into()?,
            headers: headers_in(record.headers)?,
            timestamp_ms: record.timestamp_ms,
        })
    }
}

/// One line of the answer to a request for records.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Line {
    /// A record.
    Record(ReadRecord),
    /// Records that cannot be read; the next line is what comes after them.
    Damaged(Damaged),
    /// The last line: reading failed.
    Failed(String),
}

/// Records that cannot be read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Damaged {
    pub(crate) partition: u32,
    /// Offset of the first that can be read again.
    pub(crate) next_offset: u64,
    pub(crate) reason: String,
}

impl Damaged {
    /// What a reader has passed over; any other error is given back.
    pub(crate) fn of(error: LogError) -> Result<Self, LogError> {
        match error {
            LogError::Corrupt {
                partition,
                offsets,
                reason,
                ..
            } => Ok(Self {
                partition,
                next_offset: offsets.end,
                reason,
            }),
            LogError::Expired {
                partition, offsets, ..
            } => Ok(Self {
                partition,
                next_offset: offsets.end,
                reason: format!(
                    "{} were removed from the log before they were read",
                    offsets.end - offsets.start
                ),
            }),
            error => Err(error),
        }
    }
}

/// Records to append.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Append {
    pub(crate) records: Vec<AppendRecord>,
}

/// A record to append.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppendRecord {
    pub(crate) topic: String,
    #[serde(default)]
    pub(crate) key: Option<Octets>,
    pub(crate) value: Octets,
    #[serde(default)]
    pub(crate) headers: Vec<RecordHeader>,
    pub(crate) timestamp_ms: i64,
    #[serde(default)]
    pub(crate) id: Option<Uuid>,
}

impl From<&NewRecord> for AppendRecord {
    fn from(record: &NewRecord) -> Self {
        Self {
            topic: record.topic.to_string(),
            key: record.key.as_deref().map(Octets::from),
            value: Octets::from(&*record.value),
            headers: headers_out(&record.headers),
            timestamp_ms: record.timestamp_ms,
            id: record.id.map(Uuid::from_u128),
        }
    }
}

impl TryFrom<AppendRecord> for NewRecord {
    type Error = String;

    fn try_from(record: AppendRecord) -> Result<Self, String> {
        Ok(Self {
            topic: record.topic.into(),
            key: record.key.map(Bytes::try_from).transpose()?,
            value: record.value.try_into()?,
            headers: headers_in(record.headers)?,
            timestamp_ms: record.timestamp_ms,
            id: record.id.map(|id| id.as_u128()),
        })
    }
}

/// What appending did.
#[derive(Debug, Serialize, Deserialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the fields are those of the JSON"
)]
pub(crate) struct Appended {
    pub(crate) appended: usize,
    pub(crate) duplicates: usize,
    pub(crate) refused: usize,
}

/// What a benchmark of the dispatcher sends, and where that goes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Benchmark {
    pub(crate) application: String,
    pub(crate) event_type: String,
    pub(crate) level: String,
    pub(crate) account_id: String,
    pub(crate) endpoint: Uuid,
}

/// What was made for it is removed, or why not.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BenchmarkEnd {
    pub(crate) error: Option<String>,
}

/// Why a request has no other answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) error: String,
}

fn headers_out(headers: &[Header]) -> Vec<RecordHeader> {
    let out = headers.iter().map(|header| RecordHeader {
        name: header.name.to_string(),
        value: Octets::from(&*header.value),
    });
    out.collect()
}

fn headers_in(headers: Vec<RecordHeader>) -> Result<Vec<Header>, String> {
    let read = headers.into_iter().map(|header| {
        Ok(Header {
            name: Arc::from(header.name),
            value: header.value.try_into()?,
        })
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_out_as_it_went_in_whatever_its_bytes() {
        for value in [
            &b""[..],
            b"{\"a\":1}",
            "Gr\u{fc}\u{df}e\n".as_bytes(),
            b"\xff\x00\xfe",
            b"\xc3",
        ] {
            let record = Record {
                topic: "t".into(),
                partition: 3,
                offset: u64::MAX,
                key: (!value.is_empty()).then(|| Bytes::copy_from_slice(value)),
                value: Bytes::copy_from_slice(value),
                headers: vec![Header {
                    name: "h".into(),
                    value: Bytes::copy_from_slice(value),
                }],
                timestamp_ms: -1,
            };
            let line = Line::Record(ReadRecord::from(&record));
            let json = serde_json::to_string(&line).expect("JSON");
            assert!(!json.contains('\n'), "{json}");
            let Line::Record(read) = serde_json::from_str(&json).expect("a line") else {
                panic!("another line: {json}");
            };
            assert_eq!(Record::try_from(read), Ok(record));
        }
    }
}
