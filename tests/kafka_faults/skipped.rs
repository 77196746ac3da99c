//! Records that Kafka has removed before they were read.

use anyhow::{Context, Result, ensure};
use dovecast_log::kafka::KafkaLog;
use dovecast_log::{Consumer, Log, LogError, Position, Reader, StartAt};
use dovecast_testkit::mock_broker::MockBroker;

use crate::{ARRIVAL, connect, numbers, record};

/// The mock cluster keeps 5 MiB of a partition.
const RECORD_BYTES: usize = 900_000;
const RECORDS: u64 = 15;

/// A topic of one partition in which the oldest of some records are not any more; gives the offset
/// of the oldest that is.
pub(crate) async fn fill(broker: &MockBroker, log: &KafkaLog, topic: &str) -> Result<u64> {
    broker.create_topic(topic, 1)?;
    append(log, topic, 0..RECORDS).await?;
    oldest(log, topic).await
}

async fn append(log: &KafkaLog, topic: &str, numbers: std::ops::Range<u64>) -> Result<()> {
    for number in numbers {
        log.append(vec![record(topic, number, RECORD_BYTES)])
            .await?;
    }
    Ok(())
}

async fn oldest(log: &KafkaLog, topic: &str) -> Result<u64> {
    let topics = log.topics().await?;
    let found = topics.iter().find(|found| found.name == topic);
    let partition = found.and_then(|topic| topic.partitions.first());
    let begin = partition.context("no partition")?.begin;
    ensure!(begin > 2, "the oldest record is at {begin}");
    Ok(begin)
}

fn expired(read: Result<Vec<dovecast_log::Record>, LogError>) -> Result<std::ops::Range<u64>> {
    match read {
        Err(LogError::Expired { offsets, .. }) => Ok(offsets),
        Err(error) => Err(error.into()),
        Ok(records) => anyhow::bail!("records {:?} came first", numbers(&records)),
    }
}

pub(crate) async fn by_a_reader(broker: &MockBroker) -> Result<()> {
    let topic = "removed";
    let log = connect(broker, &[])?;
    let oldest = fill(broker, &log, topic).await?;
    let at = Position {
        topic: topic.into(),
        partition: 0,
        offset: 1,
    };
    let mut reader = log.reader_at(&at).await?;
    let offsets = expired(tokio::time::timeout(ARRIVAL, reader.next()).await?)?;
    ensure!(offsets == (1..oldest), "{offsets:?} of 1 to {oldest}");
    // One that begins at what there is misses nothing.
    for mut reader in [reader, log.reader(topic, StartAt::Beginning).await?] {
        let mut read = Vec::new();
        while read.len() < usize::try_from(RECORDS - oldest)? {
            read.extend(numbers(
                &tokio::time::timeout(ARRIVAL, reader.next()).await??,
            ));
        }
        ensure!(read == (oldest..RECORDS).collect::<Vec<_>>(), "{read:?}");
    }
    Ok(())
}

pub(crate) async fn by_a_group(broker: &MockBroker) -> Result<()> {
    let topic = "unread";
    broker.create_topic(topic, 1)?;
    let log = connect(broker, &[("session.timeout.ms", "6000")])?;
    append(&log, topic, 0..1).await?;
    let topics = [topic.to_owned()];
    let mut member = log.consumer("readers", &topics).await?;
    let first = tokio::time::timeout(ARRIVAL, member.next()).await??;
    ensure!(numbers(&first) == [0], "{:?}", numbers(&first));
    member.commit(&Position::behind(&first)).await?;
    drop(member);
    append(&log, topic, 1..RECORDS).await?;
    let oldest = oldest(&log, topic).await?;
    let mut member = log.consumer("readers", &topics).await?;
    let offsets = expired(tokio::time::timeout(ARRIVAL, member.next()).await?)?;
    ensure!(offsets == (1..oldest), "{offsets:?} of 1 to {oldest}");
    let mut read = Vec::new();
    while read.len() < usize::try_from(RECORDS - oldest)? {
        read.extend(numbers(
            &tokio::time::timeout(ARRIVAL, member.next()).await??,
        ));
    }
    ensure!(read == (oldest..RECORDS).collect::<Vec<_>>(), "{read:?}");
    Ok(())
}
