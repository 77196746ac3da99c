//! Topics that are removed and made again, as those see them who read on all the while.

use std::sync::Arc;
use std::time::Duration;

use dovecast_log::embedded::{Embedded, EmbeddedConsumer, EmbeddedOptions, EmbeddedReader};
use dovecast_log::{Consumer, Log, LogError, NewRecord, Position, Reader, Record, StartAt};

/// How long something that has to come may take.
const ARRIVAL: Duration = Duration::from_mins(1);
const TOPIC: &str = "mail.x";

async fn append(log: &Embedded, values: std::ops::Range<u32>) {
    let records = values.map(|value| NewRecord {
        topic: Arc::from(TOPIC),
        key: Some("joe".into()),
        value: value.to_string().into(),
        headers: Vec::new(),
        timestamp_ms: 0,
        id: None,
    });
    log.append(records.collect()).await.expect("room");
}

/// Who reads on.
enum Reading {
    Reader(EmbeddedReader),
    Consumer(EmbeddedConsumer),
}

impl Reading {
    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        match self {
            Self::Reader(reader) => reader.next().await,
            Self::Consumer(consumer) => consumer.next().await,
        }
    }

    /// The values of the next records, so many.
    async fn values(&mut self, count: usize) -> Vec<u32> {
        let mut values = Vec::new();
        while values.len() < count {
            let next = tokio::time::timeout(ARRIVAL, self.next()).await;
            let next = next.expect("they come").expect("they can be read");
            values.extend(next.iter().map(|record| {
                let text = std::str::from_utf8(&record.value).expect("text");
                text.parse::<u32>().expect("a number")
            }));
        }
        values
    }
}

async fn all(log: &Embedded) -> Vec<(&'static str, Reading)> {
    let topics = [TOPIC.to_owned()];
    let consumer = log.consumer("named", &topics).await.expect("a consumer");
    let reader = |start| log.reader(TOPIC, start);
    vec![
        ("a consumer of it", Reading::Consumer(consumer)),
        (
            "a consumer of all topics",
            Reading::Consumer(log.consumer_of_all("all")),
        ),
        (
            "a reader from the beginning",
            Reading::Reader(reader(StartAt::Beginning).await.expect("a reader")),
        ),
        (
            "a reader from the last record",
            Reading::Reader(reader(StartAt::Last(1)).await.expect("a reader")),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_a_topic_that_is_made_again_gets_it_from_its_beginning() {
    // Fewer records than before, as many, and more.
    for again in [3, 10, 30] {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Embedded::open(dir.path(), &EmbeddedOptions::default()).expect("the log");
        append(&log, 0..10).await;
        let mut readings = all(&log).await;
        for (who, reading) in &mut readings {
            let count = if who.contains("last") { 1 } else { 10 };
            assert_eq!(reading.values(count).await.last(), Some(&9), "{who}");
        }
        assert!(log.remove_topic(TOPIC).await.expect("removed"));
        append(&log, 100..100 + again).await;
        for (who, reading) in &mut readings {
            let values = reading.values(again as usize).await;
            let expected: Vec<u32> = (100..100 + again).collect();
            assert_eq!(values, expected, "{who}, {again} records");
        }
        log.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_in_a_topic_that_was_removed_is_none_in_the_one_that_is_made_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Embedded::open(dir.path(), &EmbeddedOptions::default()).expect("the log");
    append(&log, 0..10).await;
    let topics = [TOPIC.to_owned()];
    let mut consumer = log.consumer("g", &topics).await.expect("a consumer");
    let read = consumer.next().await.expect("records");
    let assignment = consumer.assignment();
    let number = || assignment.number(TOPIC, read[0].partition);
    let before = number();
    assert!(log.remove_topic(TOPIC).await.expect("removed"));
    assert_eq!(number(), None);
    append(&log, 100..120).await;
    assert!(number().is_some() && number() != before);
    consumer
        .commit(&Position::behind(&read))
        .await
        .expect("it is left out");
    drop(consumer);
    let next = log.consumer("g", &topics).await.expect("a consumer");
    let values = Reading::Consumer(next).values(20).await;
    assert_eq!(values.first(), Some(&100));
    log.close().await;
}
