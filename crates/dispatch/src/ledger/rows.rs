//! What a ledger keeps: deliveries and ranges that are owed, dead letters, attempts.

use std::sync::Arc;

use bytes::Bytes;
use dovecast_log::{Record, TopicPartition};
use dovecast_notification::{EndpointId, NotificationId, OrderKey};
use uuid::Uuid;

use super::Millis;

/// Place of a delivery among those of its key at an endpoint that wants them in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlace {
    /// Partition that the record stands in.
    pub of: TopicPartition,
    /// Key of the record.
    pub key: OrderKey,
    /// Offset of the record.
    pub offset: u64,
    /// The log that the record stands in, where that is not the one of this dispatcher.
    pub log: Option<Arc<str>>,
}

impl KeyPlace {
    /// The partition that the record stands in; `None`: it is one of another log.
    pub fn in_our_log(&self) -> Option<&TopicPartition> {
        self.log.is_none().then_some(&self.of)
    }
}

/// A delivery that has failed, or was not tried yet, and is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Where it goes.
    pub endpoint: EndpointId,
    /// What it tells of.
    pub notification: NotificationId,
    /// Canonical JSON of the notification.
    pub content: Bytes,
    /// Attempts that have failed.
    pub failures: u32,
    /// Not before this time; [`BEHIND`](super::BEHIND): not before the one before it of its key is
    /// done.
    pub due_ms: Millis,
    /// Why the last attempt has failed; empty before the first.
    pub reason: String,
    /// Place among the deliveries of its key; `None`: it waits for no other.
    pub place: Option<KeyPlace>,
    /// What the driver has noted of it for the next attempt; empty: nothing.
    pub note: String,
}

/// Names an owed delivery: there is one of a notification and an endpoint.
pub type OwedId = (EndpointId, NotificationId);

/// Names a range of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RangeId {
    /// Whose it is.
    pub endpoint: EndpointId,
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Offset at which it began.
    pub start: u64,
}

impl RangeId {
    /// The partition that it is a range of.
    pub fn partition(&self) -> TopicPartition {
        TopicPartition {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
        }
    }
}

/// A range of a partition that an endpoint has not got: what of it matches its filter is to be
/// delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwedRange {
    /// Name of the range.
    pub id: RangeId,
    /// The first offset that is not done.
    pub from: u64,
    /// The offset behind the last.
    pub to: u64,
}

/// Where a record stands that is refused. Read again, it is refused at the same place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordPlace {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Offset of the record.
    pub offset: u64,
}

impl RecordPlace {
    /// The place of a record.
    pub fn of(record: &Record) -> Self {
        Self {
            topic: Arc::clone(&record.topic),
            partition: record.partition,
            offset: record.offset,
        }
    }
}

/// A delivery that will not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it was to go; `None`: the record was no notification.
    pub endpoint: Option<EndpointId>,
    /// The record that was refused: of each there is one dead letter, however often it is read.
    pub record: Option<RecordPlace>,
    /// What it tells of.
    pub notification: NotificationId,
    /// Canonical JSON of the notification, or the record's value.
    pub content: Bytes,
    /// Why.
    pub reason: String,
    /// When it was given up.
    pub time_ms: Millis,
    /// Attempts that were made.
    pub attempts: u32,
    /// What it is redelivered with; `None`: it is redelivered alone. It is written, and not read
    /// again.
    pub together: Option<RedeliveredWith>,
    /// What the driver has noted of it, for when it is redelivered. It is written, and not read
    /// again.
    pub note: String,
}

/// What of a mailbox transaction was given up, and is redelivered as a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedeliveredWith {
    /// The transaction.
    pub transaction: Uuid,
    /// Place among all that is redelivered of the key. That is a key of its own: what comes of the
    /// user meanwhile does not wait for it.
    pub place: KeyPlace,
}

/// One attempt, as it is kept for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// Where it went.
    pub endpoint: EndpointId,
    /// What it told of.
    pub notification: NotificationId,
    /// When it ended.
    pub time_ms: Millis,
    /// The first is 1.
    pub number: u32,
    /// Whether the endpoint has it.
    pub is_delivered: bool,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// How long it took.
    pub latency_us: u64,
    /// The head of the answer, or why there was none.
    pub said: String,
}
