//! The log: topics of records, each in partitions, each record at an offset. Words and meaning are
//! Kafka's.
//!
//! One trait, [`Log`], and two implementations. What the log promises:
//! - an append that has returned `Ok` is durable;
//! - records of one key are in one partition, in the order in which they were appended;
//! - an I/O error is not corruption, and corruption is not the end of the log: a reader is told
//!   which offsets are damaged and goes on behind them;
//! - no reader passes over records that retention has removed without being told which.

#![forbid(unsafe_code)]

mod assignment;
mod budget;
mod clock;
pub mod embedded;
mod error;
#[cfg(feature = "kafka")]
pub mod kafka;
mod line_limit;
mod rates;
mod record;

use std::future::Future;
use std::sync::Arc;

pub use assignment::{AssignedPartition, Assignment};
pub use budget::{Budget, Held};
pub use clock::now_ms;
pub use dovecast_event::{Header, Record};
pub use error::LogError;
pub use line_limit::LineLimit;
pub use rates::{RateLimits, Rates};
pub use record::{NewRecord, Position, TopicPartition};

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the oldest record there is.
    Beginning,
    /// Behind the newest record there is now.
    End,
    /// A number of records before the end, in each partition.
    Last(u64),
    /// At the oldest record of this time or later, in milliseconds since the epoch. The time is
    /// what Kafka calls so: the record's own, or that of its append, as the topic has it; the
    /// embedded log knows when it was appended.
    Time(i64),
}

/// What an append did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Records that are in the log now and were not before.
    pub appended: usize,
    /// Records that were there already, by their id, and were dropped.
    pub duplicates: usize,
    /// Records that the log never takes; they are lost, unless whoever appends them keeps them
    /// elsewhere.
    pub refused: usize,
    /// Which records those are, and why.
    pub refusals: Vec<Refusal>,
}

/// A record that the log never takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Place of the record among those of the append.
    pub place: usize,
    /// As the log says it.
    pub reason: String,
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStatus {
    /// Name of the topic.
    pub name: String,
    /// By partition number.
    pub partitions: Vec<PartitionStatus>,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Offset of the oldest record.
    pub begin: u64,
    /// Offset the next record will get.
    pub end: u64,
}

/// How far a consumer group is in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group's name.
    pub group: String,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Offset of the next record the group wants.
    pub committed: u64,
    /// Offset the next record of the partition will get; the lag is the difference.
    pub end: u64,
}

/// A log.
pub trait Log: Send + Sync + 'static {
    /// See [`Log::reader`].
    type Reader: Reader;
    /// See [`Log::consumer`].
    type Consumer: Consumer;

    /// Appends records, in this order, and returns when all of them are durable. After an error
    /// some may be in the log or none; append them again.
    fn append(
        &self,
        records: Vec<NewRecord>,
    ) -> impl Future<Output = Result<Appended, LogError>> + Send;

    /// All topics, by name.
    fn topics(&self) -> impl Future<Output = Result<Vec<TopicStatus>, LogError>> + Send;

    /// All groups, by name, topic and partition.
    fn groups(&self) -> impl Future<Output = Result<Vec<GroupStatus>, LogError>> + Send;

    /// How far a group is in some partitions of a topic, by number, as far as that is known now.
    /// Where it has committed nothing, that is the oldest record.
    fn progress(
        &self,
        group: &str,
        topic: &str,
        partitions: &[u32],
    ) -> impl Future<Output = Result<Vec<GroupStatus>, LogError>> + Send {
        async move {
            let (topics, groups) = (self.topics().await?, self.groups().await?);
            let found = topics.iter().find(|found| found.name == topic);
            let mut progress = Vec::new();
            for partition in partitions {
                let at = usize::try_from(*partition).unwrap_or(usize::MAX);
                let Some(status) = found.and_then(|found| found.partitions.get(at)) else {
                    continue;
                };
                let of_it = |of: &&GroupStatus| {
                    (&*of.group, &*of.topic, of.partition) == (group, topic, *partition)
                };
                let committed = groups.iter().find(of_it).map(|of| of.committed);
                progress.push(GroupStatus {
                    group: group.to_owned(),
                    topic: topic.to_owned(),
                    partition: *partition,
                    committed: committed.unwrap_or(status.begin),
                    end: status.end,
                });
            }
            Ok(progress)
        }
    }

    /// Where a reader that begins so would begin, by partition number; nothing where there is no
    /// such topic.
    fn positions(
        &self,
        topic: &str,
        start: StartAt,
    ) -> impl Future<Output = Result<Vec<u64>, LogError>> + Send;

    /// Reads all partitions of a topic, outside any group. The topic need not exist yet.
    fn reader(
        &self,
        topic: &str,
        start: StartAt,
    ) -> impl Future<Output = Result<Self::Reader, LogError>> + Send;

    /// Reads one partition from an offset on, or from the oldest record behind it.
    fn reader_at(
        &self,
        position: &Position,
    ) -> impl Future<Output = Result<Self::Reader, LogError>> + Send;

    /// Joins a group: of all its consumers each partition has one. Reading begins at what the group
    /// has committed, or at the oldest record.
    fn consumer(
        &self,
        group: &str,
        topics: &[String],
    ) -> impl Future<Output = Result<Self::Consumer, LogError>> + Send;
}

/// Reads records.
pub trait Reader: Send {
    /// The next records, at least one: waits for it. Those of a partition are in order. May be
    /// dropped while it waits. After [`LogError::Corrupt`] and [`LogError::Expired`] it goes on
    /// behind what is lost.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Record>, LogError>> + Send;
}

/// Reads records as a member of a group.
pub trait Consumer: Send {
    /// The next records of the partitions this consumer has, at least one: waits for it. May be
    /// dropped while it waits. After [`LogError::Corrupt`] and [`LogError::Expired`] it goes on
    /// behind what is lost.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Record>, LogError>> + Send;

    /// Which partitions this consumer has, to be asked at any time, while it waits as well.
    fn assignment(&self) -> Arc<dyn Assignment>;

    /// Says that everything before these positions is done with. Partitions that this consumer has
    /// not any more are left out.
    fn commit(
        &mut self,
        positions: &[Position],
    ) -> impl Future<Output = Result<(), LogError>> + Send;
}
