//! Records that Kafka refuses among those that it takes, and records that are found by their time.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, ensure};
use dovecast_log::{Log, NewRecord, Reader, StartAt};
use dovecast_testkit::kafka::RealKafka;

use crate::{ARRIVAL, START_MS, Seen, TOPIC, USERS, connect, record, round};

pub(crate) async fn and_times(kafka: RealKafka) -> Result<()> {
    let log = connect(&kafka)?;
    let mut records = round(0);
    records.insert(
        3,
        NewRecord {
            value: vec![b'x'; 3_000_000].into(),
            ..record(3, 9)
        },
    );
    records.extend(round(1000));
    let appended = log.append(records).await?;
    ensure!(
        (appended.appended, appended.refused) == (2 * USERS as usize, 1),
        "{appended:?}"
    );
    let start = StartAt::Time(*START_MS + 500);
    let positions = log.positions(TOPIC, start).await?;
    let ends = log.positions(TOPIC, StartAt::End).await?;
    let left: u64 = ends.iter().zip(&positions).map(|(end, at)| end - at).sum();
    ensure!(left == u64::from(USERS), "{positions:?} of {ends:?}");
    let mut reader = log.reader(TOPIC, start).await?;
    let mut seen = Seen::default();
    while seen.count() < USERS as usize {
        seen.take(&tokio::time::timeout(ARRIVAL, reader.next()).await??)?;
    }
    ensure!(
        seen.0.values().all(|numbers| *numbers == [1000]),
        "{:?}",
        seen.0
    );
    Ok(())
}

pub(crate) async fn small_batches(kafka: RealKafka) -> Result<()> {
    let topic = "small";
    kafka.create_topic_with(topic, 2, &[("max.message.bytes", "20000")])?;
    let log = connect(&kafka)?;
    let new = |number: u32, length| NewRecord {
        topic: Arc::from(topic),
        value: format!("{number} {}", "x".repeat(length)).into(),
        ..record(number % USERS, number)
    };
    let mut records: Vec<NewRecord> = (0..3000).map(|number| new(number, 300)).collect();
    records.insert(1500, new(3000, 50_000));
    let appended = log.append(records).await?;
    ensure!(
        (appended.appended, appended.refused) == (3000, 1),
        "{appended:?}"
    );
    let mut numbers = BTreeSet::new();
    let mut reader = log.reader(topic, StartAt::Beginning).await?;
    while numbers.len() < 3000 {
        for record in tokio::time::timeout(ARRIVAL, reader.next()).await?? {
            let text = String::from_utf8_lossy(&record.value).into_owned();
            let number: u32 = text.split(' ').next().unwrap_or_default().parse()?;
            ensure!(numbers.insert(number), "{number} is there twice");
        }
    }
    ensure!(
        !numbers.contains(&3000),
        "the one that is too large is there"
    );
    Ok(())
}
