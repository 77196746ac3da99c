//! Consumers that read topics as a group: a member of it for each topic.
//!
//! Partitions are given out so that members have about as many of them, whatever topics they are
//! of: a node that joins might have all its partitions of a topic in which little is written. Of
//! members that each read one topic all have about as many partitions of that.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::assigned::{Assigned, Context};
use super::gaps::Gaps;
use super::polling::Polled;
use super::source::{AHEAD, AHEAD_KBYTES, Fetched, Source};
use super::{Counters, KafkaOptions, REQUEST, blocking};
use crate::{
    AssignedPartition, Assignment, Budget, Consumer, LogError, Position, Record, TopicPartition,
};

/// How often, and how soon after each other, a commit is tried while the group rebalances: 30 s
/// together.
const COMMIT_TRIES: u32 = 150;
const COMMIT_AGAIN: Duration = Duration::from_millis(200);
/// Records that are fetched and not handed out take this much memory, at most, those of all members
/// together.
const FETCHED_BYTES: usize = 16 * 1024 * 1024;
/// Most members of a consumer, each with threads and connections of its own; more topics share
/// them.
const MEMBERS: usize = 8;
/// librdkafka's property that gives a member a name, which no other one may have.
const INSTANCE: &str = "group.instance.id";

/// See [`Log::consumer`](crate::Log::consumer).
pub struct KafkaConsumer {
    members: Vec<Member>,
    assigned: Arc<AllAssigned>,
}

/// A member of the group.
struct Member(Polled);

/// What all members have.
struct AllAssigned(Vec<Arc<Assigned>>);

/// Topics that a member reads.
struct Topics {
    group: String,
    names: Vec<String>,
    budget: Budget,
}

impl KafkaConsumer {
    pub(super) fn start(
        options: &KafkaOptions,
        counters: &Arc<Counters>,
        group: &str,
        topics: &[String],
    ) -> Result<Self, LogError> {
        // A topic that is named twice is one.
        let mut topics = topics.to_vec();
        topics.sort_unstable();
        topics.dedup();
        let count = topics.len().clamp(1, MEMBERS);
        let budget = Budget::new(FETCHED_BYTES);
        let mut members = Vec::new();
        for number in 0..count {
            let names: Vec<String> = topics.iter().skip(number).step_by(count).cloned().collect();
            let options = options.of_member(count, &names);
            let topics = Topics {
                group: group.to_owned(),
                names,
                budget: budget.clone(),
            };
            members.push(Member(Polled::start(&options, counters, topics)?));
        }
        let assigned = members.iter().map(|member| Arc::clone(&member.0.assigned));
        Ok(Self {
            assigned: Arc::new(AllAssigned(assigned.collect())),
            members,
        })
    }
}

impl KafkaOptions {
    /// Options of one of several members, which reads these topics: a name that the operator has
    /// given is that of the node, and a member has its topic behind it.
    fn of_member(&self, count: usize, topics: &[String]) -> Self {
        let mut options = self.clone();
        let Some(topic) = topics.first().filter(|_| count > 1) else {
            return options;
        };
        let properties = options.properties.iter_mut();
        for (_, value) in properties.filter(|(name, _)| name == INSTANCE) {
            *value = format!("{value}-{topic}");
        }
        if !self.has_property(AHEAD) {
            let ahead = (AHEAD_KBYTES / count).to_string();
            options.properties.push((AHEAD.to_owned(), ahead));
        }
        options
    }
}

impl Assignment for AllAssigned {
    fn all(&self) -> Vec<AssignedPartition> {
        self.0.iter().flat_map(|assigned| assigned.all()).collect()
    }

    fn number(&self, topic: &str, partition: u32) -> Option<u64> {
        let mut all = self.0.iter();
        all.find_map(|assigned| assigned.number(topic, partition))
    }
}

impl Source for Topics {
    fn group(&self) -> &str {
        &self.group
    }

    fn budget(&self) -> Budget {
        self.budget.clone()
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
        // Who is asked first is another one each time, so that none waits for others that always
        // have something.
        self.members.rotate_left(1);
        match &mut self.members[..] {
            [only] => only.next().await,
            all => {
                let asked = all.iter_mut().map(|member| Box::pin(member.next()));
                select_all(asked).await.0
            }
        }
    }

    fn assignment(&self) -> Arc<dyn Assignment> {
        Arc::clone(&self.assigned) as Arc<dyn Assignment>
    }

    async fn commit(&mut self, positions: &[Position]) -> Result<(), LogError> {
        // One that waits for its part of the cluster holds up no other.
        let commits = self.members.iter().map(|member| member.commit(positions));
        join_all(commits).await.into_iter().collect()
    }
}

impl Member {
    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        let is_ours = |assigned: &Assigned, fetched: &Fetched| {
            let of = fetched.item.partition();
            assigned.contains(&of.topic, of.partition, fetched.at)
        };
        self.0.next(is_ours).await
    }

    /// Commits those whose partitions this member has.
    async fn commit(&self, positions: &[Position]) -> Result<(), LogError> {
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

    /// The positions whose partitions this member has.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_members_has_a_name_of_its_own_and_a_share_of_the_memory() {
        let owned = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let options = KafkaOptions {
            brokers: String::new(),
            properties: vec![owned("client.id", "a"), owned(INSTANCE, "node1")],
        };
        let topics = ["mail".to_owned()];
        assert_eq!(options.of_member(1, &topics).properties, options.properties);
        let expected = [
            owned("client.id", "a"),
            owned(INSTANCE, "node1-mail"),
            owned(AHEAD, "2048"),
        ];
        assert_eq!(options.of_member(2, &topics).properties, expected);
        let mut own = options;
        own.properties.push(owned(AHEAD, "1"));
        let found = own.of_member(2, &topics).properties;
        assert_eq!(found.last(), own.properties.last());
    }
}
