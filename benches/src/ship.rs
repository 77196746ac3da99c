//! From a spool to Kafka: the shipper beside librdkafka's own producer with the same records,
//! properties and broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::kafka::{KafkaLog, KafkaOptions};
use dovecast_log::{Header, Log, NewRecord};
use dovecast_relay::ship::{ShipOptions, Shipper};
use dovecast_testkit::clock;
use dovecast_testkit::kafka::RealKafka;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::figures::{print_head, print_row};
use crate::subject::World;

/// Records of one append to the spool.
const BATCH: usize = 1000;
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) fn run(world: &World) -> Result<()> {
    let kafka = match RealKafka::start()? {
        Ok(kafka) => kafka,
        Err(unavailable) => {
            println!(
                "\n*** no real Kafka can be had, the table of shipping is left out: {unavailable}\n"
            );
            return Ok(());
        }
    };
    print_head(
        "From a spool to a real Kafka, 300 bytes of value and five headers",
        &[
            "round",
            "librdkafka alone, records/s",
            "shipper, records/s",
            "ratio",
        ],
    );
    let records = 100 * BATCH;
    for round in 1..=world.rounds(3) {
        let topics = [format!("alone-{round}"), format!("shipped-{round}")];
        for topic in &topics {
            kafka.create_topic(topic, 3)?;
        }
        let alone = alone(&kafka, &topics[0], records)?;
        let shipped = shipped(&kafka, &topics[1], records)?;
        print_row(&[
            round.to_string(),
            format!("{alone:.0}"),
            format!("{shipped:.0}"),
            format!("{:.2}", shipped / alone),
        ]);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn rate(records: usize, took: Duration) -> f64 {
    records as f64 / took.as_secs_f64()
}

fn record(topic: &str, number: usize) -> NewRecord {
    let header = |name: &str, value: &'static [u8]| Header {
        name: Arc::from(name),
        value: Bytes::from_static(value),
    };
    NewRecord {
        topic: Arc::from(topic),
        key: Some(Bytes::from(format!("user{}", number % 1000))),
        value: Bytes::from(format!("{number:>300}")),
        headers: vec![
            header("dovecast-id", b"01900000-0000-7000-8000-000000000001"),
            header("dovecast-time", b"2026-11-20T21:35:28.120Z"),
            header("dovecast-host", b"mail1"),
            header("dovecast-txn", b"01900000-0000-7000-8000-000000000002"),
            header("dovecast-txn-seq", b"0"),
        ],
        timestamp_ms: clock::now_ms(),
        id: None,
    }
}

/// As fast as librdkafka goes: one thread hands over, it does the rest.
fn alone(kafka: &RealKafka, topic: &str, records: usize) -> Result<f64> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap_plaintext())
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "1")
        .set("queue.buffering.max.messages", "200000")
        .create()?;
    let all: Vec<NewRecord> = (0..records).map(|number| record(topic, number)).collect();
    let started = Instant::now();
    for record in &all {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for header in &record.headers {
            headers = headers.insert(rdkafka::message::Header {
                key: &header.name,
                value: Some(&header.value[..]),
            });
        }
        let mut message = BaseRecord::to(topic)
            .key(record.key.as_deref().unwrap_or_default())
            .payload(&record.value[..])
            .headers(headers);
        while let Err((error, again)) = producer.send(message) {
            ensure!(
                matches!(
                    error,
                    KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
                ),
                "librdkafka: {error}"
            );
            message = again;
            producer.poll(Duration::from_millis(1));
        }
    }
    producer.flush(PATIENCE)?;
    Ok(rate(records, started.elapsed()))
}

/// A full spool is shipped, from the start of the shipper to its last commit.
fn shipped(kafka: &RealKafka, topic: &str, records: usize) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir()?;
    runtime.block_on(async {
        let spool = Embedded::open(dir.path(), &EmbeddedOptions::default())?;
        for begin in (0..records).step_by(BATCH) {
            let batch = (begin..begin + BATCH).map(|number| record(topic, number));
            spool.append(batch.collect()).await?;
        }
        let target = KafkaLog::connect(&KafkaOptions {
            brokers: kafka.bootstrap_plaintext(),
            properties: Vec::new(),
        })?;
        let started = Instant::now();
        let shipper = Shipper::start(&spool, target, &ShipOptions::default());
        let all = async {
            while shipper.stats().shipped < records as u64 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, all).await;
        done.context("not all records are shipped")?;
        let took = started.elapsed();
        shipper.stop().await;
        spool.close().await;
        Ok(rate(records, took))
    })
}
