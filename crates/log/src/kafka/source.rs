//! What a polling thread reads, and the consumer with which it does.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;

use super::KafkaOptions;
use super::assigned::{Assigned, Context};
use super::gaps::Gaps;
use crate::{Budget, Held, Record, TopicPartition};

/// librdkafka's property for what it fetches ahead of our own channel, and one fetch; the default
/// here, in KiB. Its own is 64 MB.
pub(super) const AHEAD: &str = "queued.max.messages.kbytes";
pub(super) const AHEAD_KBYTES: usize = 4096;

const DEFAULTS: [(&str, &str); 8] = [
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "earliest"),
    ("isolation.level", "read_committed"),
    ("fetch.wait.max.ms", "50"),
    // Its pause when there is enough of what it fetches ahead is a second, by default.
    ("fetch.queue.backoff.ms", "20"),
    // A topic that was deleted and made anew is seen by the next look at all topics; by default
    // that is every five minutes.
    ("topic.metadata.refresh.interval.ms", "20000"),
];

/// What a consumer reads, and where it begins.
pub(super) trait Source: Send + 'static {
    /// Name of the consumer's group.
    fn group(&self) -> &str;

    /// The memory that fetched records take, at most, before they are handed out.
    fn budget(&self) -> Budget;

    /// Makes a new consumer read. One that replaces another goes on at what `gaps` knows to be
    /// next.
    fn begin(
        &mut self,
        consumer: &BaseConsumer<Context>,
        gaps: &mut Gaps,
    ) -> Result<(), KafkaError>;

    /// Is called before each poll.
    fn look(&mut self, _: &BaseConsumer<Context>, _: &mut Gaps) {}

    /// Finds out where partitions begin of which nothing has come yet, or the first record has.
    fn find_begin(
        &mut self,
        _: &BaseConsumer<Context>,
        _: &Assigned,
        _: &mut Gaps,
    ) -> Result<(), KafkaError> {
        Ok(())
    }
}

/// Something of a partition, and the number of the latest assignment when it was fetched.
pub(super) struct Fetched {
    pub(super) at: u64,
    pub(super) item: Item,
    pub(super) _held: Held,
}

pub(super) enum Item {
    Record(Record),
    Expired {
        of: TopicPartition,
        offsets: Range<u64>,
    },
}

impl Item {
    /// The partition that it is of.
    pub(super) fn partition(&self) -> TopicPartition {
        match self {
            Self::Record(record) => TopicPartition {
                topic: Arc::clone(&record.topic),
                partition: record.partition,
            },
            Self::Expired { of, .. } => of.clone(),
        }
    }
}

/// The present consumer of a thread that replaces it when it has failed for good.
#[derive(Clone)]
pub(super) struct Current(Arc<Mutex<Arc<BaseConsumer<Context>>>>);

impl Current {
    pub(super) fn new(consumer: &Arc<BaseConsumer<Context>>) -> Self {
        Self(Arc::new(Mutex::new(Arc::clone(consumer))))
    }

    pub(super) fn get(&self) -> Arc<BaseConsumer<Context>> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, consumer: &Arc<BaseConsumer<Context>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(consumer);
    }
}

/// A consumer that does not read yet.
pub(super) fn create(
    options: &KafkaOptions,
    group: &str,
    assigned: &Arc<Assigned>,
) -> Result<BaseConsumer<Context>, KafkaError> {
    let ahead = AHEAD_KBYTES.to_string();
    let mut defaults = DEFAULTS.to_vec();
    defaults.extend([("group.id", group), (AHEAD, &*ahead)]);
    options
        .client_config(&defaults)
        .create_with_context(Context::new(assigned))
}
