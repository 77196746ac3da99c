//! The embedded log as its users see it: what was acknowledged is there, once, in order, whatever
//! happens to the process, the file or the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dovecast_log::embedded::{Embedded, EmbeddedOptions, Mark};
use dovecast_log::{
    Appended, Consumer, Header, Log, LogError, NewRecord, Position, Reader, Record, Refusal,
    StartAt,
};

/// How long something that has to come may take.
const ARRIVAL: Duration = Duration::from_mins(2);

fn record(key: &str, number: u32) -> NewRecord {
    NewRecord {
        topic: Arc::from("events"),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: Bytes::from(format!("{key} {number}")),
        headers: vec![Header {
            name: Arc::from("dovecast-host"),
            value: Bytes::from_static(b"mail1"),
        }],
        timestamp_ms: 1_700_000_000_000 + i64::from(number),
        id: None,
    }
}

fn with_id(key: &str, number: u32) -> NewRecord {
    NewRecord {
        id: Some(u128::from(number)),
        ..record(key, number)
    }
}

fn open(dir: &Path) -> Embedded {
    Embedded::open(dir, &EmbeddedOptions::default()).expect("the log opens")
}

fn value(record: &Record) -> String {
    String::from_utf8(record.value.to_vec()).expect("text")
}

/// All records there are now, and what was found damaged.
async fn read_all(log: &Embedded, topic: &str) -> (Vec<Record>, Vec<LogError>) {
    let ends = log.positions(topic, StartAt::End).await.expect("positions");
    let mut next = log
        .positions(topic, StartAt::Beginning)
        .await
        .expect("positions");
    let mut reader = log
        .reader(topic, StartAt::Beginning)
        .await
        .expect("a reader");
    let (mut records, mut damage) = (Vec::new(), Vec::new());
    while next.iter().zip(&ends).any(|(next, end)| next < end) {
        let more = tokio::time::timeout(ARRIVAL, reader.next()).await;
        match more.expect("what is there comes") {
            Ok(more) => {
                for record in &more {
                    next[record.partition as usize] = record.offset + 1;
                }
                records.extend(more);
            }
            Err(error) => {
                if let LogError::Corrupt {
                    partition, offsets, ..
                } = &error
                {
                    next[*partition as usize] = offsets.end;
                }
                damage.push(error);
            }
        }
    }
    (records, damage)
}

/// That the records of each key are numbered without gaps or repetitions, in order; how many there
/// are.
fn check_in_order(records: &[Record]) -> usize {
    let mut next: BTreeMap<String, u32> = BTreeMap::new();
    for record in records {
        let text = value(record);
        let (key, number) = text.split_once(' ').expect("key and number");
        let expected = next.entry(key.to_owned()).or_default();
        assert_eq!(number, expected.to_string(), "of {key}");
        *expected += 1;
    }
    records.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_many_writers_are_there_once_and_in_order_after_a_reopen() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path());
    let mut tasks = Vec::new();
    for writer in 0..8 {
        let log = log.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..100 {
                let key = format!("user{writer}");
                let done = log.append(vec![record(&key, number)]).await;
                assert_eq!(done.map(|done| done.appended), Ok(1));
            }
        }));
    }
    for task in tasks {
        task.await.expect("a writer");
    }
    let (before, damage) = read_all(&log, "events").await;
    assert_eq!((check_in_order(&before), damage), (800, vec![]));
    log.close().await;
    assert_eq!(
        log.append(vec![record("late", 0)]).await,
        Err(LogError::Closed)
    );
    drop(log);
    let (after, _) = read_all(&open(dir.path()), "events").await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn what_was_appended_reads_back_byte_by_byte() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path());
    let header = |name: &str, value: &'static [u8]| Header {
        name: Arc::from(name),
        value: Bytes::from_static(value),
    };
    let new = NewRecord {
        topic: Arc::from("hooks.outbox"),
        key: None,
        value: Bytes::from_static(b"\0\xff"),
        headers: vec![
            header("dovecast-id", b"01900000-0000-7000-8000-000000000001"),
            header("DOVECAST-ID", b"01900000-0000-7000-8000-00000000000A"),
            header("", b""),
        ],
        timestamp_ms: -1,
        id: None,
    };
    log.append(vec![new.clone()]).await.expect("room");
    let (records, _) = read_all(&log, "hooks.outbox").await;
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}");
    };
    assert_eq!(
        (&record.key, &record.value, &record.headers),
        (&new.key, &new.value, &new.headers)
    );
    assert_eq!((record.offset, record.timestamp_ms), (0, -1));
}

#[tokio::test]
async fn a_reader_is_woken_by_an_append_and_by_a_topic_that_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path());
    let mut reader = log.reader("events", StartAt::End).await.expect("a reader");
    let reading = tokio::spawn(async move {
        let mut records = Vec::new();
        // They may come together.
        while records.len() < 2 {
            records.extend(reader.next().await.expect("records"));
        }
        records
    });
    for number in 0..2 {
        log.append(vec![record("a", number)]).await.expect("room");
    }
    let records = tokio::time::timeout(ARRIVAL, reading).await;
    assert_eq!(check_in_order(&records.expect("woken").expect("read")), 2);
}

#[tokio::test]
async fn a_record_that_comes_again_is_dropped_and_after_a_reopen_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path());
    let both = vec![with_id("a", 0), with_id("a", 0), with_id("a", 1)];
    let expected = |appended, duplicates| {
        Ok(Appended {
            appended,
            duplicates,
            ..Appended::default()
        })
    };
    assert_eq!(log.append(both).await, expected(2, 1));
    assert_eq!(log.append(vec![with_id("a", 1)]).await, expected(0, 1));
    drop(log);
    // Dropped without a close: the lock is free when the writer is gone.
    let log = loop {
        match Embedded::open(dir.path(), &EmbeddedOptions::default()) {
            Err(LogError::Locked { .. }) => tokio::task::yield_now().await,
            opened => break opened.expect("the log opens"),
        }
    };
    let again = vec![with_id("a", 0), with_id("a", 2)];
    assert_eq!(log.append(again).await, expected(1, 1));
    assert_eq!(check_in_order(&read_all(&log, "events").await.0), 3);
}

#[tokio::test]
async fn each_log_has_an_identity_that_stays() {
    let (one, other) = (tempfile::tempdir(), tempfile::tempdir());
    let (one, other) = (one.expect("a directory"), other.expect("a directory"));
    let log = open(one.path());
    let identity = log.identity().await.expect("room");
    assert_eq!(log.identity().await, Ok(identity));
    log.close().await;
    drop(log);
    assert_eq!(open(one.path()).identity().await, Ok(identity));
    assert_ne!(open(other.path()).identity().await, Ok(identity));
}

#[tokio::test]
async fn marks_come_with_their_records() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path());
    let mark = |value| Mark {
        name: "spill/x".to_owned(),
        value,
    };
    log.append_marked(vec![record("a", 0)], mark(7))
        .await
        .expect("room");
    log.append_marked(vec![], mark(9)).await.expect("room");
    log.close().await;
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.marks().await, Ok(vec![mark(9)]));
    log.forget_mark("spill/x").await.expect("room");
    assert_eq!(log.marks().await, Ok(vec![]));
}

#[tokio::test]
async fn a_second_log_in_one_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let _log = open(dir.path());
    let second = Embedded::open(dir.path(), &EmbeddedOptions::default());
    assert!(matches!(second, Err(LogError::Locked { .. })), "{second:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = EmbeddedOptions {
        max_topics: 1,
        ..EmbeddedOptions::default()
    };
    let log = Embedded::open(dir.path(), &options).expect("the log opens");
    let to = |topic: &str| NewRecord {
        topic: Arc::from(topic),
        ..record("a", 0)
    };
    let error = log.append(vec![to("a/b")]).await.expect_err("no topic");
    assert!(
        error.to_string().starts_with("`a/b` is no topic"),
        "{error}"
    );
    log.append(vec![to("one")]).await.expect("room");
    // The others of an append are not lost with it.
    let both = log.append(vec![to("two"), to("one")]).await;
    let expected = Appended {
        appended: 1,
        refused: 1,
        refusals: vec![Refusal {
            place: 0,
            reason: "there are too many topics already".to_owned(),
        }],
        ..Appended::default()
    };
    assert_eq!(both, Ok(expected));
}

async fn next(consumer: &mut impl Consumer) -> Vec<Record> {
    let next = tokio::time::timeout(ARRIVAL, consumer.next()).await;
    next.expect("in time").expect("records")
}

fn behind(record: &Record) -> Position {
    Position {
        topic: Arc::clone(&record.topic),
        partition: record.partition,
        offset: record.offset + 1,
    }
}

#[tokio::test]
async fn a_group_goes_on_where_it_has_committed() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path());
    for number in 0..3 {
        log.append(vec![record("a", number)]).await.expect("room");
    }
    let topics = ["events".to_owned()];
    let mut consumer = log.consumer("g", &topics).await.expect("a consumer");
    let read = next(&mut consumer).await;
    assert_eq!(check_in_order(&read), 3);
    consumer
        .commit(&[behind(&read[1])])
        .await
        .expect("committed");
    drop(consumer);
    log.close().await;
    drop(log);
    let log = open(dir.path());
    let groups = log.groups().await.expect("groups");
    assert_eq!((groups[0].committed, groups[0].end), (2, 3));
    let mut consumer = log.consumer("g", &topics).await.expect("a consumer");
    assert_eq!(
        next(&mut consumer)
            .await
            .iter()
            .map(value)
            .collect::<Vec<_>>(),
        ["a 2"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_a_group_share_the_partitions_and_take_over_from_who_leaves() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path());
    let all: Vec<_> = (0..40)
        .map(|user| record(&format!("user{user}"), 0))
        .collect();
    log.append(all).await.expect("room");
    let topics = ["events".to_owned()];
    let mut one = log.consumer("g", &topics).await.expect("a consumer");
    let mut two = log.consumer("g", &topics).await.expect("a consumer");
    let mut seen = Vec::new();
    for consumer in [&mut one, &mut two] {
        for _ in 0..2 {
            let records = next(consumer).await;
            let last = records.last().expect("records");
            consumer.commit(&[behind(last)]).await.expect("committed");
            seen.extend(records);
        }
    }
    seen.sort_by_key(value);
    seen.dedup();
    assert_eq!(check_in_order(&seen), 40);
    drop(one);
    let more: Vec<_> = (0..40)
        .map(|user| record(&format!("user{user}"), 1))
        .collect();
    log.append(more).await.expect("room");
    let mut taken = 0;
    while taken < 40 {
        taken += next(&mut two).await.len();
    }
    assert_eq!(taken, 40, "each is seen once");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_the_oldest_and_never_what_a_group_is_kept_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = EmbeddedOptions {
        partitions: 1,
        retention_bytes: Some(3_000),
        retain_for_group: Some("kafka".to_owned()),
        ..EmbeddedOptions::default()
    };
    let log = Embedded::open(dir.path(), &options).expect("the log opens");
    for number in 0..200 {
        log.append(vec![record("a", number)]).await.expect("room");
    }
    let mut consumer = log.consumer_of_all("kafka");
    let first = next(&mut consumer).await;
    consumer
        .commit(&[behind(&first[99])])
        .await
        .expect("committed");
    // Retention comes by after some seconds.
    let begin = async {
        loop {
            let topics = log.topics().await.expect("topics");
            let partition = topics[0].partitions[0];
            if partition.begin >= 100 {
                return partition;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let status = tokio::time::timeout(ARRIVAL, begin).await;
    let status = status.expect("retention");
    assert_eq!((status.begin, status.end), (100, 200));
    log.close().await;
    drop((log, consumer));
    let log = Embedded::open(dir.path(), &options).expect("the log opens");
    let (records, damage) = read_all(&log, "events").await;
    assert_eq!((records.len(), records[0].offset), (100, 100));
    assert_eq!(damage, []);
}

#[tokio::test]
async fn a_clock_that_is_set_back_changes_nothing_of_the_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path());
    for number in 0..10_u32 {
        let earlier = NewRecord {
            timestamp_ms: 1_000_000 - i64::from(number) * 1000,
            ..record("a", number)
        };
        log.append(vec![earlier]).await.expect("room");
    }
    assert_eq!(check_in_order(&read_all(&log, "events").await.0), 10);
}
