//! Topics that are deleted and made anew, of which the new one has a lower leader epoch than a
//! consumer has seen.

use anyhow::{Context, Result, ensure};
use dovecast_log::kafka::KafkaConsumer;
use dovecast_log::{Consumer, Log, NewRecord, Position, Reader, Record};
use dovecast_testkit::kafka::RealKafka;

use crate::{ARRIVAL, connect, record};

/// A topic that goes on, and is read by the same members.
const OTHER: &str = "other";

/// What becomes of a topic.
struct Anew {
    topic: &'static str,
    /// Records before it is deleted, and behind.
    before: u32,
    behind: u32,
}

/// Members of a group that had read all of a topic are started again, and have read nothing of it
/// when it is made anew; what was never written to nobody has committed.
const GROUPS: [Anew; 3] = [
    Anew {
        topic: "shorter",
        before: 20,
        behind: 10,
    },
    Anew {
        topic: "longer",
        before: 20,
        behind: 30,
    },
    Anew {
        topic: "never-committed",
        before: 0,
        behind: 10,
    },
];

/// A reader that is at the end of its topic when that is made anew.
const READ: Anew = Anew {
    topic: "read",
    before: 20,
    behind: 10,
};

pub(crate) async fn all(mut kafka: RealKafka) -> Result<()> {
    kafka.create_topic(OTHER, 1)?;
    for anew in GROUPS.iter().chain([&READ]) {
        kafka.create_topic(anew.topic, 1)?;
    }
    let log = connect(&kafka)?;
    for anew in GROUPS.iter().chain([&READ]) {
        log.append(of(anew.topic, 0..anew.before)).await?;
        let mut member = log.consumer(anew.topic, &topics(anew)).await?;
        read(&mut member, anew.topic, anew.before).await?;
    }
    // Each change of leaders makes the epoch greater.
    kafka.restart()?;
    let mut members = Vec::new();
    for anew in &GROUPS {
        members.push(log.consumer(anew.topic, &topics(anew)).await?);
    }
    let begin = Position {
        topic: READ.topic.into(),
        partition: 0,
        offset: 0,
    };
    let mut reader = log.reader_at(&begin).await?;
    log.append(of(OTHER, 0..1)).await?;
    for member in &mut members {
        // It has its partitions then.
        read(member, OTHER, 1).await?;
    }
    read_outside(&mut reader, READ.before).await?;
    for anew in GROUPS.iter().chain([&READ]) {
        kafka.delete_topic(anew.topic)?;
        kafka.create_topic(anew.topic, 1)?;
        log.append(of(anew.topic, 100..100 + anew.behind)).await?;
    }
    let mut silent = Vec::new();
    for (member, anew) in members.iter_mut().zip(&GROUPS) {
        match read(member, anew.topic, anew.behind).await {
            Ok(numbers) if numbers.iter().copied().eq(100..100 + anew.behind) => {}
            other => silent.push((anew.topic, other)),
        }
    }
    match read_outside(&mut reader, READ.behind).await {
        Ok(numbers) if numbers.iter().copied().eq(100..100 + READ.behind) => {}
        other => silent.push((READ.topic, other)),
    }
    ensure!(silent.is_empty(), "{silent:?}");
    Ok(())
}

fn topics(anew: &Anew) -> [String; 2] {
    [anew.topic, OTHER].map(str::to_owned)
}

fn of(topic: &str, numbers: std::ops::Range<u32>) -> Vec<NewRecord> {
    let of_topic = |number| NewRecord {
        topic: topic.into(),
        ..record(0, number)
    };
    numbers.map(of_topic).collect()
}

/// Reads and commits until so many records of a topic have come, and gives their numbers.
async fn read(member: &mut KafkaConsumer, topic: &str, records: u32) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    while numbers.len() < records as usize {
        let came = tokio::time::timeout(ARRIVAL, member.next())
            .await
            .with_context(|| format!("nothing comes, behind {numbers:?} of `{topic}`"))??;
        member.commit(&Position::behind(&came)).await?;
        let of_topic = came.iter().filter(|record| &*record.topic == topic);
        numbers.extend(of_topic.map(number).collect::<Result<Vec<_>>>()?);
    }
    Ok(numbers)
}

/// Reads outside a group until so many records have come.
async fn read_outside(reader: &mut impl Reader, records: u32) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    while numbers.len() < records as usize {
        let came = tokio::time::timeout(ARRIVAL, reader.next())
            .await
            .context("nothing comes")??;
        numbers.extend(came.iter().map(number).collect::<Result<Vec<_>>>()?);
    }
    Ok(numbers)
}

fn number(record: &Record) -> Result<u32> {
    Ok(String::from_utf8_lossy(&record.value).parse()?)
}
