//! The times of what is shipped: a log removes records by them, and an old backlog has to be read
//! there first.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dovecast_event::UnixMillis;
use dovecast_log::embedded::{Embedded, EmbeddedOptions, Mark};
use dovecast_log::{
    Appended, GroupStatus, Header, Log, LogError, NewRecord, Position, Reader, Record, StartAt,
    TopicStatus, now_ms,
};
use dovecast_relay::ship::{ShipOptions, Shipper};

use crate::PATIENCE;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const RECORDS: usize = 10;

/// A target that may keep its answers to itself, as one that is cut off does, and notes from which
/// times on it is read.
#[derive(Clone)]
struct Target {
    log: Embedded,
    answers: bool,
    asked: Arc<Mutex<Vec<i64>>>,
}

impl Log for Target {
    type Reader = <Embedded as Log>::Reader;
    type Consumer = <Embedded as Log>::Consumer;

    async fn append(&self, records: Vec<NewRecord>) -> Result<Appended, LogError> {
        let appended = self.log.append(records).await;
        if !self.answers {
            std::future::pending::<()>().await;
        }
        appended
    }

    async fn topics(&self) -> Result<Vec<TopicStatus>, LogError> {
        self.log.topics().await
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>, LogError> {
        self.log.groups().await
    }

    async fn positions(&self, topic: &str, start: StartAt) -> Result<Vec<u64>, LogError> {
        self.log.positions(topic, start).await
    }

    async fn reader(&self, topic: &str, start: StartAt) -> Result<Self::Reader, LogError> {
        if let StartAt::Time(time_ms) = start {
            self.asked.lock().expect("no panic").push(time_ms);
        }
        self.log.reader(topic, start).await
    }

    async fn reader_at(&self, position: &Position) -> Result<Self::Reader, LogError> {
        self.log.reader_at(position).await
    }

    async fn consumer(&self, group: &str, topics: &[String]) -> Result<Self::Consumer, LogError> {
        self.log.consumer(group, topics).await
    }
}

/// A record with an id.
fn record(number: usize, timestamp_ms: i64) -> NewRecord {
    let id = Header {
        name: Arc::from("dovecast-id"),
        value: Bytes::from(format!("id {number}")),
    };
    NewRecord {
        topic: Arc::from("t"),
        key: Some(Bytes::from_static(b"a")),
        value: Bytes::from(number.to_string()),
        headers: vec![id],
        timestamp_ms,
        id: None,
    }
}

async fn read(log: &Embedded, count: usize) -> Vec<Record> {
    let mut reader = log.reader("t", StartAt::Beginning).await.expect("a reader");
    let mut records = Vec::new();
    while records.len() < count {
        let read = tokio::time::timeout(PATIENCE, reader.next()).await;
        records.extend(read.expect("it comes").expect("it is read"));
    }
    records
}

async fn committed(spool: &Embedded) {
    let committed = async {
        loop {
            let groups = spool.groups().await.expect("groups");
            if groups.iter().all(|group| group.committed == group.end) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, committed)
        .await
        .expect("committed");
}

/// A spool, and the log that it is shipped to.
fn spool_and_target(dir: &Path, answers: bool) -> (Embedded, Target) {
    let options = EmbeddedOptions {
        retain_for_group: Some("kafka".to_owned()),
        ..EmbeddedOptions::default()
    };
    let spool = Embedded::open(&dir.join("spool"), &options).expect("a spool");
    let log = Embedded::open(&dir.join("target"), &EmbeddedOptions::default());
    let target = Target {
        log: log.expect("a target"),
        answers,
        asked: Arc::default(),
    };
    (spool, target)
}

#[tokio::test]
async fn an_old_backlog_has_the_time_of_shipping_and_its_own_time_in_a_header_and_is_shipped_once()
{
    let dir = tempfile::tempdir().expect("a directory");
    let (spool, mut target) = spool_and_target(dir.path(), true);
    let begin = now_ms();
    let old = |number| record(number, begin - 10 * DAY_MS);
    spool.append(vec![old(0)]).await.expect("room");
    let shipper = Shipper::start(&spool, target.clone(), &ShipOptions::default());
    read(&target.log, 1).await;
    committed(&spool).await;
    // What comes now comes to a target that does not answer any more, and the shipper is killed.
    spool.append(vec![old(1)]).await.expect("room");
    read(&target.log, 2).await;
    committed(&spool).await;
    shipper.stop().await;
    target.answers = false;
    let shipper = Shipper::start(&spool, target.clone(), &ShipOptions::default());
    spool
        .append((2..RECORDS).map(old).collect())
        .await
        .expect("room");
    read(&target.log, RECORDS).await;
    drop(shipper);

    target.answers = true;
    let shipper = Shipper::start(&spool, target.clone(), &ShipOptions::default());
    committed(&spool).await;
    assert_eq!(shipper.stats().known, RECORDS as u64 - 2);
    shipper.stop().await;
    let records = read(&target.log, RECORDS).await;
    assert_eq!(records.len(), RECORDS, "some are there twice");
    let mut own = Vec::new();
    let time_ms = u64::try_from(begin - 10 * DAY_MS).expect("after 1970");
    UnixMillis(time_ms).write_rfc3339(&mut own);
    for record in &records {
        assert!(record.timestamp_ms >= begin, "{record:?}");
        assert_eq!(record.header("dovecast-time"), Some(&own[..]));
    }
    let asked = target.asked.lock().expect("no panic").clone();
    assert!(
        !asked.is_empty() && asked.iter().all(|time_ms| *time_ms > begin - DAY_MS),
        "what was shipped today was looked for from {asked:?} on, and this began at {begin}"
    );
}

/// A shipper that was killed when its clock was ahead, one that is killed with the right clock, and
/// the next one.
#[tokio::test]
async fn what_is_shipped_after_the_clock_was_ahead_is_found_in_the_target() {
    let dir = tempfile::tempdir().expect("a directory");
    let (spool, mut target) = spool_and_target(dir.path(), false);
    let ahead = Mark {
        name: "shipped t".to_owned(),
        value: u64::try_from(now_ms() + DAY_MS / 24).expect("after 1970"),
    };
    let records = (0..RECORDS).map(|number| record(number, now_ms()));
    spool
        .append_marked(records.collect(), ahead)
        .await
        .expect("room");
    let shipper = Shipper::start(&spool, target.clone(), &ShipOptions::default());
    read(&target.log, RECORDS).await;
    drop(shipper);

    target.answers = true;
    let shipper = Shipper::start(&spool, target.clone(), &ShipOptions::default());
    committed(&spool).await;
    assert_eq!(shipper.stats().known, RECORDS as u64);
    shipper.stop().await;
    let records = read(&target.log, RECORDS).await;
    assert_eq!(records.len(), RECORDS, "some are there twice");
}
