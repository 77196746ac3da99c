//! What a topic holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

/// A record that is to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Topic it goes to; made if there is none of this name.
    pub topic: Arc<str>,
    /// Decides the partition; without a key any.
    pub key: Option<Bytes>,
    /// What it says.
    pub value: Bytes,
    /// In order; names may repeat.
    pub headers: Vec<Header>,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// A record whose id was appended within the window is dropped.
    pub id: Option<u128>,
}

/// A record as it is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Place in the partition.
    pub offset: u64,
    /// Decides the partition.
    pub key: Option<Bytes>,
    /// What it says.
    pub value: Bytes,
    /// In order; names may repeat.
    pub headers: Vec<Header>,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
}

/// What a record, or a header, takes in memory besides its bytes: its own fields and those of its
/// buffers.
const RECORD_MEMORY_BYTES: usize = 256;
const HEADER_MEMORY_BYTES: usize = 128;

impl Record {
    /// What the record takes in memory, rather too much than too little.
    pub fn memory_bytes(&self) -> usize {
        let key = self.key.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter();
        let headers = headers.map(|header| header.value.len() + HEADER_MEMORY_BYTES);
        RECORD_MEMORY_BYTES + key + self.value.len() + headers.sum::<usize>()
    }

    /// The value of the last header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let header = self.headers.iter().rfind(|header| &*header.name == name)?;
        Some(&header.value)
    }
}

/// One header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name.
    pub name: Arc<str>,
    /// Value.
    pub value: Bytes,
}

/// A place in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Offset of the next record.
    pub offset: u64,
}

impl Position {
    /// The positions behind the last record of each partition.
    pub fn behind(records: &[Record]) -> Vec<Self> {
        let mut last = BTreeMap::new();
        for record in records {
            last.insert((&record.topic, record.partition), record.offset + 1);
        }
        let position = |((topic, partition), offset): ((&Arc<str>, u32), u64)| Self {
            topic: Arc::clone(topic),
            partition,
            offset,
        };
        last.into_iter().map(position).collect()
    }
}
