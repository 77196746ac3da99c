//! Readers outside any group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::assigned::Context;
use super::gaps::Gaps;
use super::polling::Polled;
use super::source::Source;
use super::{Counters, KafkaOptions, status};
use crate::{Budget, LogError, Position, Reader, Record, StartAt};

/// How often a reader looks for its topic while it is not there.
const TOPIC_INTERVAL: Duration = Duration::from_millis(200);
/// How often a reader looks for new partitions of its topic.
const PARTITIONS_INTERVAL: Duration = Duration::from_secs(5);
/// Records that are fetched and not handed out take this much memory, at most; a dispatcher has
/// many readers.
const FETCHED_BYTES: usize = 4 * 1024 * 1024;
/// librdkafka wants a group where none is used.
pub(super) const GROUP: &str = "dovecast-reader";
/// The number of the assignment of partitions that no group assigns.
const ASSIGNMENT: u64 = 0;

/// See [`Log::reader`](crate::Log::reader).
pub struct KafkaReader(Polled);

impl KafkaReader {
    /// Asks the cluster, and waits for the answer: the place is fixed when this returns. Where it
    /// is away the place is found later.
    pub(super) fn start(
        options: &KafkaOptions,
        counters: &Arc<Counters>,
        topic: &str,
        start: StartAt,
    ) -> Result<Self, LogError> {
        let partitions = Partitions {
            topic: Arc::from(topic),
            start,
            known: BTreeSet::new(),
            looked: None,
        };
        Polled::start(options, counters, partitions).map(Self)
    }

    /// Reads one partition.
    pub(super) fn at(
        options: &KafkaOptions,
        counters: &Arc<Counters>,
        position: &Position,
    ) -> Result<Self, LogError> {
        Polled::start(options, counters, Start(position.clone())).map(Self)
    }
}

/// The partitions of a reader's topic.
struct Partitions {
    topic: Arc<str>,
    /// Where those begin that are not known yet.
    start: StartAt,
    known: BTreeSet<i32>,
    looked: Option<Instant>,
}

impl Source for Partitions {
    fn group(&self) -> &'static str {
        GROUP
    }

    fn budget(&self) -> Budget {
        Budget::new(FETCHED_BYTES)
    }

    fn begin(
        &mut self,
        consumer: &BaseConsumer<Context>,
        gaps: &mut Gaps,
    ) -> Result<(), KafkaError> {
        self.known.clear();
        self.looked = None;
        self.look(consumer, gaps);
        Ok(())
    }

    /// Assigns those that are new, if it is time to look.
    fn look(&mut self, consumer: &BaseConsumer<Context>, gaps: &mut Gaps) {
        let interval = if self.known.is_empty() {
            TOPIC_INTERVAL
        } else {
            PARTITIONS_INTERVAL
        };
        if self
            .looked
            .is_some_and(|looked| looked.elapsed() < interval)
        {
            return;
        }
        self.looked = Some(Instant::now());
        match self.assign_new(consumer, gaps) {
            // What is made from now on is read from its beginning.
            Ok(()) => self.start = StartAt::Beginning,
            Err(error) => {
                tracing::warn!(%error, topic = &*self.topic, "the partitions of a topic cannot be listed; this is retried");
            }
        }
    }
}

impl Partitions {
    fn assign_new(
        &mut self,
        consumer: &BaseConsumer<Context>,
        gaps: &mut Gaps,
    ) -> Result<(), KafkaError> {
        let ids = status::partitions(consumer, &self.topic)?;
        let mut list = TopicPartitionList::new();
        for id in ids.iter().filter(|id| !self.known.contains(id)) {
            let partition = u32::try_from(*id).unwrap_or(u32::MAX);
            let offset = match gaps.next(&self.topic, partition) {
                Some(next) => i64::try_from(next).unwrap_or(i64::MAX),
                None => status::offset(consumer, &self.topic, *id, self.start)?,
            };
            list.add_partition_offset(&self.topic, *id, Offset::Offset(offset))?;
            let next = u64::try_from(offset).unwrap_or(0);
            gaps.begin(&self.topic, partition, ASSIGNMENT, next);
        }
        if list.count() > 0 {
            consumer.incremental_assign(&list)?;
            self.known.extend(ids);
        }
        Ok(())
    }
}

/// One partition, from an offset on.
struct Start(Position);

impl Source for Start {
    fn group(&self) -> &'static str {
        GROUP
    }

    fn budget(&self) -> Budget {
        Budget::new(FETCHED_BYTES)
    }

    fn begin(
        &mut self,
        consumer: &BaseConsumer<Context>,
        gaps: &mut Gaps,
    ) -> Result<(), KafkaError> {
        let Position {
            topic,
            partition,
            offset,
        } = &self.0;
        let next = gaps.next(topic, *partition).unwrap_or(*offset);
        gaps.begin(topic, *partition, ASSIGNMENT, next);
        let number = i32::try_from(*partition).unwrap_or(i32::MAX);
        let next = i64::try_from(next).unwrap_or(i64::MAX);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, number, Offset::Offset(next))?;
        consumer.assign(&list)
    }
}

impl Reader for KafkaReader {
    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        self.0.next(|_, _| true).await
    }
}
