//! What the cluster holds, and how far its groups are. Asks, and waits for the answer.

use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::{Offset, TopicPartitionList};

use super::assigned::Context;
use super::{KafkaOptions, REQUEST};
use crate::{GroupStatus, LogError, PartitionStatus, StartAt, TopicStatus};

fn asker(options: &KafkaOptions, group: &str) -> Result<BaseConsumer<Context>, LogError> {
    options
        .client_config(&[("group.id", group), ("enable.auto.commit", "false")])
        .create_with_context(Context::new(&Arc::default()))
        .map_err(|error| options.io("make a client of", &error))
}

pub(super) fn topics(options: &KafkaOptions) -> Result<Vec<TopicStatus>, LogError> {
    let consumer = asker(options, "dovecast-status")?;
    all_topics(options, &consumer)
}

fn all_topics(
    options: &KafkaOptions,
    consumer: &BaseConsumer<Context>,
) -> Result<Vec<TopicStatus>, LogError> {
    let error = |error| options.io("ask", &error);
    let metadata = consumer.fetch_metadata(None, REQUEST).map_err(error)?;
    let mut topics = Vec::new();
    // Kafka's own topics begin with two underlines.
    for topic in metadata
        .topics()
        .iter()
        .filter(|topic| !topic.name().starts_with("__"))
    {
        let mut partitions = Vec::new();
        for partition in topic.partitions() {
            let (begin, end) = consumer
                .fetch_watermarks(topic.name(), partition.id(), REQUEST)
                .map_err(error)?;
            partitions.push(PartitionStatus {
                begin: u64::try_from(begin).unwrap_or(0),
                end: u64::try_from(end).unwrap_or(0),
            });
        }
        topics.push(TopicStatus {
            name: topic.name().to_owned(),
            partitions,
        });
    }
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(topics)
}

/// See [`Log::positions`](crate::Log::positions).
pub(super) fn positions(
    options: &KafkaOptions,
    topic: &str,
    start: StartAt,
) -> Result<Vec<u64>, LogError> {
    let consumer = asker(options, "dovecast-status")?;
    let found = partitions(&consumer, topic).and_then(|mut ids| {
        ids.sort_unstable();
        let offsets = ids.iter().map(|id| offset(&consumer, topic, *id, start));
        offsets.collect::<KafkaResult<Vec<i64>>>()
    });
    let found = found.map_err(|error| options.io("ask", &error))?;
    let offsets = found.into_iter().map(u64::try_from);
    Ok(offsets.map(|offset| offset.unwrap_or(0)).collect())
}

/// See [`Log::progress`](crate::Log::progress). Partitions that have no leader now are left out.
pub(super) fn progress(
    options: &KafkaOptions,
    group: &str,
    topic: &str,
    numbers: &[u32],
) -> Result<Vec<GroupStatus>, LogError> {
    let error = |error| options.io("ask", &error);
    let member = asker(options, group)?;
    let there = with_leaders(&member, topic).map_err(error)?;
    let mut asked = TopicPartitionList::new();
    for id in numbers
        .iter()
        .filter_map(|number| i32::try_from(*number).ok())
    {
        if there.contains(&id) {
            asked.add_partition(topic, id);
        }
    }
    if asked.count() == 0 {
        return Ok(Vec::new());
    }
    let committed = member.committed_offsets(asked, REQUEST).map_err(error)?;
    let mut progress = Vec::new();
    for element in committed.elements() {
        let id = element.partition();
        let (begin, end) = member.fetch_watermarks(topic, id, REQUEST).map_err(error)?;
        let committed = match element.offset() {
            Offset::Offset(offset) => offset,
            _ => begin,
        };
        progress.push(GroupStatus {
            group: group.to_owned(),
            topic: topic.to_owned(),
            partition: u32::try_from(id).unwrap_or(0),
            committed: u64::try_from(committed).unwrap_or(0),
            end: u64::try_from(end).unwrap_or(0),
        });
    }
    Ok(progress)
}

/// The numbers of a topic's partitions that can be asked.
fn with_leaders(consumer: &BaseConsumer<Context>, topic: &str) -> KafkaResult<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions = found.map(MetadataTopic::partitions).unwrap_or_default();
    let has_leader = |partition: &&MetadataPartition| partition.leader() >= 0;
    let ids = partitions.iter().filter(has_leader);
    Ok(ids.map(MetadataPartition::id).collect())
}

/// The numbers of a topic's partitions; none where there is no such topic.
pub(super) fn partitions<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
) -> KafkaResult<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    // Only a topic that does not exist has none; anything else passes.
    if let Some(error) = found.and_then(MetadataTopic::error) {
        let code = RDKafkaErrorCode::from(error);
        if !matches!(
            code,
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic
        ) {
            return Err(KafkaError::MetadataFetch(code));
        }
    }
    let ids = |topic: &MetadataTopic| {
        let partitions = topic.partitions().iter();
        partitions.map(MetadataPartition::id).collect()
    };
    Ok(found.map(ids).unwrap_or_default())
}

/// The offset to begin at in one partition.
pub(super) fn offset<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    id: i32,
    start: StartAt,
) -> KafkaResult<i64> {
    let (low, high) = consumer.fetch_watermarks(topic, id, REQUEST)?;
    Ok(match start {
        StartAt::Beginning => low,
        StartAt::End => high,
        StartAt::Last(records) => {
            let records = i64::try_from(records).unwrap_or(i64::MAX);
            high.saturating_sub(records).max(low)
        }
        StartAt::Time(time_ms) => {
            let mut asked = TopicPartitionList::new();
            asked.add_partition_offset(topic, id, Offset::Offset(time_ms))?;
            let found = consumer.offsets_for_times(asked, REQUEST)?;
            match found
                .elements()
                .first()
                .map(rdkafka::topic_partition_list::TopicPartitionListElem::offset)
            {
                Some(Offset::Offset(offset)) => offset,
                _ => high,
            }
        }
    })
}

pub(super) fn groups(options: &KafkaOptions) -> Result<Vec<GroupStatus>, LogError> {
    let error = |error| options.io("ask", &error);
    let consumer = asker(options, "dovecast-status")?;
    let topics = all_topics(options, &consumer)?;
    let list = consumer.fetch_group_list(None, REQUEST).map_err(error)?;
    let mut names: Vec<String> = list
        .groups()
        .iter()
        .map(|group| group.name().to_owned())
        .collect();
    names.sort();
    let mut groups = Vec::new();
    for name in names {
        let mut asked = TopicPartitionList::new();
        for topic in &topics {
            for number in 0..topic.partitions.len() {
                let number = i32::try_from(number).unwrap_or(i32::MAX);
                asked.add_partition(&topic.name, number);
            }
        }
        let member = asker(options, &name)?;
        let committed = member.committed_offsets(asked, REQUEST).map_err(error)?;
        for element in committed.elements() {
            let Offset::Offset(offset) = element.offset() else {
                continue;
            };
            let number = usize::try_from(element.partition()).unwrap_or(usize::MAX);
            let topic = topics.iter().find(|topic| topic.name == element.topic());
            let end = topic.and_then(|topic| topic.partitions.get(number));
            groups.push(GroupStatus {
                group: name.clone(),
                topic: element.topic().to_owned(),
                partition: u32::try_from(element.partition()).unwrap_or(0),
                committed: u64::try_from(offset).unwrap_or(0),
                end: end.map_or(0, |partition| partition.end),
            });
        }
    }
    Ok(groups)
}
