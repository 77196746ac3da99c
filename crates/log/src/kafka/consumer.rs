//! Members of a group.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::assigned::{Assigned, Context};
use super::gaps::Gaps;
use super::polling::Polled;
use super::source::{Fetched, Source};
use super::{Counters, KafkaOptions, REQUEST, blocking};
use crate::{AssignedPartition, Assignment, Consumer, LogError, Position, Record, TopicPartition};

/// How often, and how soon after each other, a commit is tried while the group rebalances: 30 s
/// together.
const COMMIT_TRIES: u32 = 150;
const COMMIT_AGAIN: Duration = Duration::from_millis(200);
/// Records that are fetched and not handed out take this much memory, at most.
const FETCHED_BYTES: usize = 16 * 1024 * 1024;

/// See [`Log::consumer`](crate::Log::consumer).
pub struct KafkaConsumer(Polled);

/// Topics that a group reads.
struct Topics {
    group: String,
    names: Vec<String>,
}

impl KafkaConsumer {
    pub(super) fn start(
        options: &KafkaOptions,
        counters: &Arc<Counters>,
        group: &str,
        topics: &[String],
    ) -> Result<Self, LogError> {
        let topics = Topics {
            group: group.to_owned(),
            names: topics.to_vec(),
        };
        Polled::start(options, counters, topics).map(Self)
    }
}

impl Source for Topics {
    fn group(&self) -> &str {
        &self.group
    }

    fn fetched_bytes(&self) -> usize {
        FETCHED_BYTES
    }

    fn begin(
        &mut self,
        consumer: &BaseConsumer<Context>,
        gaps: &mut Gaps,
    ) -> Result<(), KafkaError> {
        gaps.clear();
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        consumer.subscribe(&names)
    }

    /// What the group has committed: nothing of a partition of which nothing came before was
    /// committed since.
    fn find_begin(
        &mut self,
        consumer: &BaseConsumer<Context>,
        assigned: &Assigned,
        gaps: &mut Gaps,
    ) -> Result<(), KafkaError> {
        let number = |ours: &AssignedPartition| i32::try_from(ours.partition).unwrap_or(i32::MAX);
        let mut asked = TopicPartitionList::new();
        let unknown: Vec<_> = assigned
            .all()
            .into_iter()
            .filter(|ours| !gaps.knows(&ours.topic, ours.partition, ours.number))
            .collect();
        for ours in &unknown {
            asked.add_partition(&ours.topic, number(ours));
        }
        let committed = consumer.committed_offsets(asked, REQUEST)?;
        for ours in unknown {
            let found = committed.find_partition(&ours.topic, number(&ours));
            if let Some(Offset::Offset(next)) = found.map(|found| found.offset())
                && let Ok(next) = u64::try_from(next)
            {
                gaps.begin(&ours.topic, ours.partition, ours.number, next);
            }
        }
        Ok(())
    }
}

impl Consumer for KafkaConsumer {
    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        let is_ours = |assigned: &Assigned, fetched: &Fetched| {
            let of = fetched.item.partition();
            assigned.contains(&of.topic, of.partition, fetched.at)
        };
        self.0.next(is_ours).await
    }

    fn assignment(&self) -> Arc<dyn Assignment> {
        Arc::clone(&self.0.assigned) as Arc<dyn Assignment>
    }

    async fn commit(&mut self, positions: &[Position]) -> Result<(), LogError> {
        let mut tries = 1;
        loop {
            // Asked anew each time: a rebalance may have taken partitions away.
            let list = self.ours(positions)?;
            if list.count() == 0 {
                return Ok(());
            }
            let consumer = self.0.consumer.get();
            let options = self.0.options.clone();
            let committed = blocking(move || {
                Ok(match consumer.commit(&list, CommitMode::Sync) {
                    Err(error) if is_rebalancing(&error) => Err(error),
                    done => Ok(done.map_err(|error| options.io("commit to", &error))?),
                })
            });
            match committed.await? {
                Ok(()) => return Ok(()),
                Err(error) if tries == COMMIT_TRIES => {
                    return Err(self.0.options.io("commit to", &error));
                }
                Err(_) => tries += 1,
            }
            tokio::time::sleep(COMMIT_AGAIN).await;
        }
    }
}

impl KafkaConsumer {
    /// The positions whose partitions this consumer has.
    fn ours(&self, positions: &[Position]) -> Result<TopicPartitionList, LogError> {
        let mut list = TopicPartitionList::new();
        for position in positions {
            let of = TopicPartition {
                topic: Arc::clone(&position.topic),
                partition: position.partition,
            };
            let handed_out = self.0.handed_out.get(&of);
            // One that went away and came back is where whoever had it meanwhile has committed.
            let is_ours = handed_out.is_some_and(|at| {
                self.0
                    .assigned
                    .contains(&position.topic, position.partition, *at)
            });
            if !is_ours {
                continue;
            }
            let partition = i32::try_from(position.partition).unwrap_or(i32::MAX);
            let offset = i64::try_from(position.offset).unwrap_or(i64::MAX);
            list.add_partition_offset(&position.topic, partition, Offset::Offset(offset))
                .map_err(|error| self.0.options.io("commit to", &error))?;
        }
        Ok(list)
    }
}

/// Whether a commit came while the group gives its partitions out anew: it is right again in a
/// moment, or not ours any more.
fn is_rebalancing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::IllegalGeneration | Code::RebalanceInProgress | Code::UnknownMemberId)
    )
}
