//! The partitions of consumers of the embedded log while others join and leave their group, and
//! what the group has committed of each.

use std::sync::Arc;

use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Consumer, Log, NewRecord, Position};

fn record() -> NewRecord {
    NewRecord {
        topic: Arc::from("events"),
        key: None,
        value: "1".into(),
        headers: Vec::new(),
        timestamp_ms: 0,
        id: None,
    }
}

#[tokio::test]
async fn a_partition_that_comes_back_has_another_number() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Embedded::open(dir.path(), &EmbeddedOptions::default()).expect("a log");
    log.append(vec![record()]).await.expect("room");
    let topics = ["events".to_owned()];
    let one = log.consumer("g", &topics).await.expect("a consumer");
    let assignment = one.assignment();
    let before = assignment.all();
    let last = before.last().expect("a partition").clone();
    let number = || assignment.number(&last.topic, last.partition);
    assert_eq!(number(), Some(last.number));
    let other = log.consumer("g", &topics).await.expect("a consumer");
    let shared = assignment.all().len() + other.assignment().all().len();
    assert!(shared == before.len() && number().is_none(), "{before:?}");
    assert_eq!(assignment.number("another", 0), None);
    drop(other);
    assert!(number() > Some(last.number));
    assert_eq!(assignment.all().len(), before.len());
    drop(one);
    assert!(number().is_none() && assignment.all().is_empty());
}

#[tokio::test]
async fn what_a_group_has_committed_is_known_of_each_partition() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Embedded::open(dir.path(), &EmbeddedOptions::default()).expect("a log");
    log.append(vec![record()]).await.expect("room");
    let topics = ["events".to_owned()];
    let mut consumer = log.consumer("g", &topics).await.expect("a consumer");
    let read = Position::behind(&consumer.next().await.expect("the record"));
    consumer.commit(&read).await.expect("committed");
    let asked = [read[0].partition, u32::MAX];
    for (group, topic, expected) in [
        ("g", "events", Some((1, 1))),
        ("h", "events", Some((0, 1))),
        ("g", "none", None),
    ] {
        let progress = log.progress(group, topic, &asked).await.expect("an answer");
        let progress = progress.iter().map(|of| {
            assert_eq!(
                (&*of.group, &*of.topic, of.partition),
                (group, topic, asked[0])
            );
            (of.committed, of.end)
        });
        assert_eq!(progress.collect::<Vec<_>>(), Vec::from_iter(expected));
    }
}
