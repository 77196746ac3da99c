//! Offsets whose records compaction has taken away: nothing is missing there that anybody could
//! have read, so nobody is told that records were removed unread.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dovecast_log::kafka::KafkaLog;
use dovecast_log::{Consumer, Log, LogError, NewRecord, Position, Reader, Record};
use dovecast_testkit::kafka::RealKafka;

use crate::{ARRIVAL, START_MS, connect, record};

const TOPIC: &str = "compacted";
const LAST: u32 = 40;
/// How often it is looked whether Kafka has compacted the topic.
const POLL: Duration = Duration::from_millis(200);

/// Whether the record of this number is the only one of its key, and so stays.
fn is_unique(number: u64) -> bool {
    number % 4 == 3
}

/// Each is of its own second, and so of its own segment: all but the last one are compacted.
async fn append(log: &KafkaLog, numbers: RangeInclusive<u32>) -> Result<()> {
    for number in numbers {
        let key = if is_unique(number.into()) {
            format!("key{number}")
        } else {
            "again".to_owned()
        };
        let record = NewRecord {
            topic: TOPIC.into(),
            key: Some(key.into()),
            timestamp_ms: *START_MS - 3_600_000 + i64::from(number) * 1_000,
            ..record(0, number)
        };
        let appended = log.append(vec![record]).await?;
        ensure!(appended.refused == 0, "{appended:?}");
    }
    Ok(())
}

/// Notes what came, and says whether the last record is among it.
fn note(read: &mut BTreeSet<u64>, came: Result<Vec<Record>, LogError>) -> Result<bool> {
    read.extend(came?.iter().map(|record| record.offset));
    Ok(read.contains(&u64::from(LAST)))
}

/// Reads up to the last record: the offsets that came.
async fn read_from(log: &KafkaLog, offset: u64) -> Result<BTreeSet<u64>> {
    let at = Position {
        topic: TOPIC.into(),
        partition: 0,
        offset,
    };
    let mut reader = log.reader_at(&at).await?;
    let mut read = BTreeSet::new();
    while !note(
        &mut read,
        tokio::time::timeout(ARRIVAL, reader.next()).await?,
    )? {}
    Ok(read)
}

pub(crate) async fn is_nothing_removed(kafka: RealKafka) -> Result<()> {
    let settings = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("segment.ms", "100"),
        ("message.timestamp.type", "CreateTime"),
    ];
    kafka.create_topic_with(TOPIC, 1, &settings)?;
    let log = connect(&kafka)?;
    append(&log, 0..=0).await?;
    let topics = [TOPIC.to_owned()];
    let mut member = log.consumer("readers", &topics).await?;
    let first = tokio::time::timeout(ARRIVAL, member.next()).await??;
    member.commit(&Position::behind(&first)).await?;
    drop(member);
    append(&log, 1..=LAST).await?;

    let deadline = Instant::now() + ARRIVAL;
    let left = loop {
        let left = read_from(&log, 0).await?;
        if !left.contains(&1) && !left.contains(&4) {
            break left;
        }
        ensure!(Instant::now() < deadline, "nothing was compacted: {left:?}");
        tokio::time::sleep(POLL).await;
    };
    let unique: BTreeSet<u64> = (0..u64::from(LAST)).filter(|n| is_unique(*n)).collect();
    ensure!(left.is_superset(&unique), "{left:?}");

    // The offset that comes next has no record any more: for a reader, and for a group.
    let read = read_from(&log, 1).await?;
    ensure!(read.is_superset(&unique), "{read:?}");
    let mut member = log.consumer("readers", &topics).await?;
    let mut read = BTreeSet::new();
    while !note(
        &mut read,
        tokio::time::timeout(ARRIVAL, member.next())
            .await
            .context("nothing comes")?,
    )? {}
    ensure!(
        read.is_superset(&unique) && !read.contains(&0),
        "{read:?} were read by the group"
    );
    Ok(())
}
