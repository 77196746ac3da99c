//! Records that are to be appended, and places in a partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dovecast_event::{Header, Record};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
}

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
