//! Records as they are in the log.

use std::sync::Arc;

use bytes::Bytes;

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
