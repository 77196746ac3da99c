//! Offsets without a record: those that transactions leave, and those of records that were removed.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_log::{Log, LogError, Position, Reader};
use dovecast_testkit::kafka::RealKafka;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::{ARRIVAL, connect};

const TOPIC: &str = "transactions";
const TRANSACTIONS: u32 = 40;

/// Every fourth transaction is given up; each leaves a marker, so every second offset has no
/// record.
fn produce(brokers: &str) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", "test")
        .create()?;
    producer.init_transactions(ARRIVAL)?;
    for number in 0..TRANSACTIONS {
        producer.begin_transaction()?;
        let value = number.to_string();
        producer
            .send(BaseRecord::to(TOPIC).key("user").payload(&value))
            .map_err(|(error, _)| error)?;
        if number % 4 == 3 {
            producer.flush(ARRIVAL)?;
            producer.abort_transaction(ARRIVAL)?;
        } else {
            producer.commit_transaction(ARRIVAL)?;
        }
    }
    Ok(())
}

async fn delete_before(brokers: &str, offset: i64) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, 0, Offset::Offset(offset))?;
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    admin.delete_records(&list, &options).await?;
    Ok(())
}

/// Reads from an offset on until the last record has come: which numbers, and which offsets were
/// removed.
async fn read(
    log: &dovecast_log::kafka::KafkaLog,
    offset: u64,
) -> Result<(BTreeSet<u32>, Vec<(u64, u64)>)> {
    let at = Position {
        topic: TOPIC.into(),
        partition: 0,
        offset,
    };
    let mut reader = log.reader_at(&at).await?;
    let (mut numbers, mut removed) = (BTreeSet::new(), Vec::new());
    while numbers.last() != Some(&(TRANSACTIONS - 2)) {
        match tokio::time::timeout(ARRIVAL, reader.next())
            .await
            .context("nothing comes")?
        {
            Ok(records) => {
                for record in records {
                    numbers.insert(String::from_utf8_lossy(&record.value).parse()?);
                }
            }
            Err(LogError::Expired { offsets, .. }) => {
                removed.push((offsets.start, offsets.end));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((numbers, removed))
}

pub(crate) async fn told_apart_from_transactions(kafka: RealKafka) -> Result<()> {
    kafka.create_topic(TOPIC, 1)?;
    let brokers = kafka.bootstrap_plaintext();
    let producing = brokers.clone();
    tokio::task::spawn_blocking(move || produce(&producing)).await??;
    let log = connect(&kafka)?;
    let committed =
        |from: u32| -> BTreeSet<u32> { (from..TRANSACTIONS).filter(|n| n % 4 != 3).collect() };
    let (numbers, removed) = read(&log, 0).await?;
    ensure!(numbers == committed(0), "{numbers:?}");
    ensure!(removed.is_empty(), "{removed:?} were said to be removed");

    // Each transaction has two offsets.
    delete_before(&brokers, 20).await?;
    let (numbers, removed) = read(&log, 4).await?;
    ensure!(numbers == committed(10), "{numbers:?}");
    ensure!(
        removed == [(4, 20)],
        "{removed:?} were said to be removed, 4..20 were"
    );
    Ok(())
}

pub(crate) async fn settings(kafka: RealKafka) -> Result<()> {
    let own = [
        ("max.message.bytes", "20000"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    kafka.create_topic_with("own", 1, &own)?;
    let log = connect(&kafka)?;
    let names = ["own", "none", crate::TOPIC].map(str::to_owned);
    let described = log.topic_settings(&names).await?;
    ensure!(
        described.missing.iter().eq(["none"]) && described.refused.is_empty(),
        "{described:?}"
    );
    let found = described.found;
    ensure!(
        found.keys().eq(["events", "own"]),
        "{:?}",
        found.keys().collect::<Vec<_>>()
    );
    let get = |topic: &str, name| found[topic].get(name).map(str::to_owned);
    ensure!(get("own", "message.timestamp.type").as_deref() == Some("LogAppendTime"));
    ensure!(get("events", "message.timestamp.type").as_deref() == Some("CreateTime"));
    let max = |topic| log.limits().max_bytes(topic);
    ensure!(max("own") < 20_000 && max("own") > 15_000, "{}", max("own"));
    ensure!(max("events") > 990_000, "{}", max("events"));
    // What fits is taken, and what does not is not, as exactly as that can be said.
    let record = |length: usize| dovecast_log::NewRecord {
        topic: "own".into(),
        value: "x".repeat(length).into(),
        key: None,
        ..crate::record(0, 0)
    };
    let fits = log.append(vec![record(max("own"))]).await?;
    ensure!((fits.appended, fits.refused) == (1, 0), "{fits:?}");
    let too_large = log.append(vec![record(20_001)]).await?;
    ensure!(
        (too_large.appended, too_large.refused) == (0, 1),
        "{too_large:?}"
    );
    Ok(())
}
