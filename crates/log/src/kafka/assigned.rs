//! Which partitions a member of a group has, and what librdkafka tells a consumer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, TopicPartitionList};

use super::library_log::{self, ClientErrors};
use crate::{AssignedPartition, Assignment};

/// Partitions that are ours now, and since when: each assignment has a number of its own, so that
/// what was fetched of a partition before it went away and came back is not taken for what comes
/// now.
#[derive(Default)]
pub(super) struct Assigned(Mutex<Assignments>);

#[derive(Default)]
struct Assignments {
    /// The number of the present consumer: one that was replaced may be told late that it has lost
    /// what the next one has by then.
    consumer: u64,
    latest: u64,
    since: HashMap<String, HashMap<i32, u64>>,
}

impl Assigned {
    fn lock(&self) -> MutexGuard<'_, Assignments> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a consumer was told counts while it is the present one.
    fn change(&self, consumer: u64, list: &TopicPartitionList, are_ours: bool) {
        let mut assigned = self.lock();
        if consumer != assigned.consumer {
            return;
        }
        assigned.latest += 1;
        let latest = assigned.latest;
        for element in list.elements() {
            let topic = assigned.since.entry(element.topic().to_owned());
            let topic = topic.or_default();
            if are_ours {
                topic.insert(element.partition(), latest);
            } else {
                topic.remove(&element.partition());
            }
        }
    }

    /// The number of the latest assignment; 0 before the first.
    pub(super) fn latest(&self) -> u64 {
        self.lock().latest
    }

    /// The number of the assignment in which a partition became ours.
    pub(super) fn since(&self, topic: &str, partition: u32) -> Option<u64> {
        self.lock().since(topic, partition)
    }

    /// Whether a partition was ours at an assignment, and still is.
    pub(super) fn contains(&self, topic: &str, partition: u32, at: u64) -> bool {
        self.since(topic, partition)
            .is_some_and(|since| since <= at)
    }

    /// The present consumer is replaced: nothing is ours any more.
    pub(super) fn clear(&self) {
        let mut assigned = self.lock();
        assigned.consumer += 1;
        // A reader has no assignments.
        if assigned.latest > 0 {
            assigned.latest += 1;
        }
        assigned.since.clear();
    }
}

impl Assignment for Assigned {
    fn all(&self) -> Vec<AssignedPartition> {
        let assigned = self.lock();
        let mut all = Vec::new();
        for (topic, partitions) in &assigned.since {
            let topic: Arc<str> = Arc::from(topic.as_str());
            for (partition, since) in partitions {
                if let Ok(partition) = u32::try_from(*partition) {
                    all.push(AssignedPartition {
                        topic: Arc::clone(&topic),
                        partition,
                        number: *since,
                    });
                }
            }
        }
        all
    }

    fn number(&self, topic: &str, partition: u32) -> Option<u64> {
        self.since(topic, partition)
    }
}

impl Assignments {
    fn since(&self, topic: &str, partition: u32) -> Option<u64> {
        let partition = i32::try_from(partition).ok()?;
        self.since.get(topic)?.get(&partition).copied()
    }
}

/// What librdkafka calls.
pub(super) struct Context {
    assigned: Arc<Assigned>,
    /// The number of the consumer.
    consumer: u64,
    errors: ClientErrors,
}

impl Context {
    pub(super) fn new(assigned: &Arc<Assigned>) -> Self {
        Self {
            assigned: Arc::clone(assigned),
            consumer: assigned.lock().consumer,
            errors: ClientErrors::default(),
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        library_log::line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.errors.note(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            tracing::info!(partitions = list.count(), "partitions were revoked");
            self.assigned.change(self.consumer, list, false);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            tracing::info!(partitions = list.count(), "partitions were assigned");
            self.assigned.change(self.consumer, list, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_that_was_replaced_takes_nothing_away() {
        let assigned = Arc::<Assigned>::default();
        let mut list = TopicPartitionList::new();
        list.add_partition("mail", 3);
        let first = Context::new(&assigned);
        assigned.change(first.consumer, &list, true);
        assert_eq!(assigned.since("mail", 3), Some(1));
        assigned.clear();
        assert_eq!(assigned.since("mail", 3), None);
        let second = Context::new(&assigned);
        assigned.change(second.consumer, &list, true);
        let since = assigned.since("mail", 3);
        assert!(since.is_some());
        assigned.change(first.consumer, &list, false);
        assert_eq!(assigned.since("mail", 3), since);
        assigned.change(second.consumer, &list, false);
        assert_eq!(assigned.since("mail", 3), None);
    }
}
