//! Shipping from the spool to another log, where that log takes some topics and not others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{
    Appended, GroupStatus, Log, LogError, NewRecord, Position, Reader, StartAt, TopicStatus,
};
use dovecast_relay::ship::{ShipOptions, Shipper};

use crate::PATIENCE;

/// A log that never has done with records of the topic `bad`, as Kafka has not with those of a
/// topic that nobody may write to.
#[derive(Clone)]
struct Picky(Embedded);

impl Log for Picky {
    type Reader = <Embedded as Log>::Reader;
    type Consumer = <Embedded as Log>::Consumer;

    async fn append(&self, records: Vec<NewRecord>) -> Result<Appended, LogError> {
        if records.iter().any(|record| &*record.topic == "bad") {
            std::future::pending::<()>().await;
        }
        self.0.append(records).await
    }

    async fn topics(&self) -> Result<Vec<TopicStatus>, LogError> {
        self.0.topics().await
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>, LogError> {
        self.0.groups().await
    }

    async fn positions(&self, topic: &str, start: StartAt) -> Result<Vec<u64>, LogError> {
        self.0.positions(topic, start).await
    }

    async fn reader(&self, topic: &str, start: StartAt) -> Result<Self::Reader, LogError> {
        self.0.reader(topic, start).await
    }

    async fn reader_at(&self, position: &Position) -> Result<Self::Reader, LogError> {
        self.0.reader_at(position).await
    }

    async fn consumer(&self, group: &str, topics: &[String]) -> Result<Self::Consumer, LogError> {
        self.0.consumer(group, topics).await
    }
}

#[tokio::test]
async fn a_topic_that_is_not_taken_holds_back_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = EmbeddedOptions {
        retain_for_group: Some("kafka".to_owned()),
        ..EmbeddedOptions::default()
    };
    let spool = Embedded::open(&dir.path().join("spool"), &options).expect("a spool");
    let target = Embedded::open(&dir.path().join("target"), &EmbeddedOptions::default());
    let target = target.expect("a target");
    let record = |topic: &str, number: u32| NewRecord {
        topic: Arc::from(topic),
        key: Some(Bytes::from_static(b"a")),
        value: Bytes::from(number.to_string()),
        headers: Vec::new(),
        timestamp_ms: 0,
        id: None,
    };
    for number in 0..10 {
        let both = vec![record("bad", number), record("good", number)];
        spool.append(both).await.expect("room");
    }
    let shipper = Shipper::start(&spool, Picky(target.clone()), &ShipOptions::default());
    let mut reader = target
        .reader("good", StartAt::Beginning)
        .await
        .expect("a reader");
    let mut arrived = 0;
    while arrived < 10 {
        let read = tokio::time::timeout(PATIENCE, reader.next()).await;
        arrived += read.expect("shipped").expect("read").len();
    }
    // What is not shipped is owed, though nothing of it was ever committed.
    let lag = tokio::time::timeout(PATIENCE, async {
        loop {
            let groups = spool.groups().await.expect("groups");
            let lag = |topic: &str| -> u64 {
                let of_it = groups.iter().filter(|group| group.topic == topic);
                of_it.map(|group| group.end - group.committed).sum()
            };
            if lag("good") == 0 {
                return lag("bad");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert_eq!(lag.await.expect("committed"), 10);
    drop(shipper);
}
