//! Records that the target never takes: named, kept, and no reason to hold back others.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{
    Appended, GroupStatus, Log, LogError, NewRecord, Position, Refusal, StartAt, TopicStatus,
};
use dovecast_relay::ship::{KeepLost, Kept, Lost, NotKept, ShipOptions, Shipper};

use crate::PATIENCE;

/// Takes no values longer than this.
const LONGEST: usize = 4;

#[derive(Clone)]
struct Small(Embedded);

impl Log for Small {
    type Reader = <Embedded as Log>::Reader;
    type Consumer = <Embedded as Log>::Consumer;

    async fn append(&self, records: Vec<NewRecord>) -> Result<Appended, LogError> {
        let mut refusals = Vec::new();
        let mut taken = Vec::new();
        for (place, record) in records.into_iter().enumerate() {
            if record.value.len() > LONGEST {
                let reason = "too large".to_owned();
                refusals.push(Refusal { place, reason });
            } else {
                taken.push(record);
            }
        }
        let appended = self.0.append(taken).await?;
        Ok(Appended {
            refused: refusals.len(),
            refusals,
            ..appended
        })
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

/// Keeps values and reasons, but not at once.
#[derive(Debug, Default)]
struct Letters {
    failures: AtomicU32,
    kept: Mutex<Vec<(Bytes, String)>>,
}

impl KeepLost for Letters {
    fn keep<'a>(&'a self, lost: &'a [Lost<'a>], _: i64) -> Kept<'a> {
        Box::pin(async move {
            match self.failures.fetch_add(1, Ordering::Relaxed) {
                0 => return Err(NotKept::Unavailable("away".to_owned())),
                1 => return Err(NotKept::Failed("full".to_owned())),
                _ => {}
            }
            let mut kept = self.kept.lock().expect("no panic");
            let new = lost
                .iter()
                .map(|lost| (lost.record.value.clone(), lost.reason.to_owned()));
            kept.extend(new);
            Ok(())
        })
    }
}

#[tokio::test]
async fn what_is_never_taken_is_kept_and_the_rest_is_shipped() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = Embedded::open(&dir.path().join("spool"), &EmbeddedOptions::default());
    let spool = spool.expect("a spool");
    let target = Embedded::open(&dir.path().join("target"), &EmbeddedOptions::default());
    let target = target.expect("a target");
    let record = |value: &'static str| NewRecord {
        topic: Arc::from("t"),
        key: Some(Bytes::from_static(b"a")),
        value: Bytes::from_static(value.as_bytes()),
        headers: Vec::new(),
        timestamp_ms: 0,
        id: None,
    };
    let values = ["one", "two", "too large", "four", "larger still"];
    let records = values.map(record).to_vec();
    spool.append(records).await.expect("room");
    let letters = Arc::<Letters>::default();
    let options = ShipOptions::default();
    let keep = Arc::clone(&letters) as Arc<dyn KeepLost>;
    let shipper = Shipper::start_keeping(&spool, Small(target.clone()), &options, Some(keep));
    let all_are = async {
        while shipper.stats().shipped < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_are)
        .await
        .expect("shipped");
    let stats = shipper.stats();
    assert_eq!((stats.shipped, stats.refused, stats.kept), (3, 2, 2));
    let kept = letters.kept.lock().expect("no panic").clone();
    let expected = ["too large", "larger still"];
    assert_eq!(
        kept,
        expected.map(|value| (Bytes::from_static(value.as_bytes()), "too large".to_owned()))
    );
    shipper.stop().await;
}
