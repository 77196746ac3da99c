//! Ids of notifications and endpoints.

use std::fmt;
use std::str::FromStr;

use dovecast_event::{Record, header_name};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Names a notification: the same after a crash, on another node, and when its record is read
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotificationId(pub Uuid);

/// Names an endpoint: in the database, in JSON and in logs it is the text of the UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub Uuid);

/// Names the key of a record in its partition of a log, within which an endpoint may want order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderKey(pub Uuid);

impl OrderKey {
    /// The name of a key of a partition: the same on every node that reads this log, and of one
    /// length. `log`: empty where all nodes read the same.
    pub fn new(log: &str, topic: &str, partition: u32, key: &[u8]) -> Self {
        let log = if log.is_empty() {
            Vec::new()
        } else {
            [log.as_bytes(), &[0]].concat()
        };
        Self::after(&log, topic, partition, key)
    }

    /// The name of what is delivered again of a key of a partition, which has an order of its own.
    pub fn of_redelivery(topic: &str, partition: u32, key: &[u8]) -> Self {
        // No topic and no log begins so.
        Self::after(b"\0redelivered\0", topic, partition, key)
    }

    fn after(mark: &[u8], topic: &str, partition: u32, key: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(mark);
        hash.update(topic.as_bytes());
        hash.update([0]);
        hash.update(partition.to_be_bytes());
        hash.update(key);
        Self(uuid_of(hash))
    }
}

fn uuid_of(hash: Sha256) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

impl NotificationId {
    /// The record's `dovecast-id`; without one, an id made of the record's place, which never
    /// changes either.
    pub fn of(record: &Record) -> Self {
        let header = record.header(header_name::ID);
        let named = header.and_then(|value| Uuid::try_parse_ascii(value).ok());
        Self(named.unwrap_or_else(|| Self::of_place(record)))
    }

    fn of_place(record: &Record) -> Uuid {
        let mut hash = Sha256::new();
        hash.update(record.topic.as_bytes());
        hash.update([0]);
        hash.update(record.partition.to_be_bytes());
        hash.update(record.offset.to_be_bytes());
        hash.update(record.timestamp_ms.to_be_bytes());
        uuid_of(hash)
    }
}

impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Uuid> for EndpointId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl From<Uuid> for OrderKey {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl FromStr for OrderKey {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

impl FromStr for NotificationId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

impl FromStr for EndpointId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}
