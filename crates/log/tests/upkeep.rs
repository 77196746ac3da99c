//! Topics that are made and removed, and what is left of records that are removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Appended, Consumer, Log, LogError, NewRecord, Position, Reader, StartAt};

fn record(topic: &str, value: &str, id: Option<u128>) -> NewRecord {
    NewRecord {
        topic: Arc::from(topic),
        key: Some(Bytes::from_static(b"alice")),
        value: Bytes::copy_from_slice(value.as_bytes()),
        headers: Vec::new(),
        timestamp_ms: 1_700_000_000_000,
        id,
    }
}

fn open(dir: &Path, max_topics: usize) -> Embedded {
    let options = EmbeddedOptions {
        max_topics,
        ..EmbeddedOptions::default()
    };
    Embedded::open(dir, &options).expect("the log opens")
}

async fn append(log: &Embedded, topic: &str) -> Appended {
    let appended = log.append(vec![record(topic, "value", None)]).await;
    appended.expect("the log takes it")
}

async fn topics(log: &Embedded) -> Vec<String> {
    let topics = log.topics().await.expect("topics");
    topics.into_iter().map(|topic| topic.name).collect()
}

/// What the files of the log hold, as whoever gets the disk reads them.
fn holds(dir: &Path, text: &str) -> bool {
    let mut files = fs::read_dir(dir).expect("the directory");
    files.any(|file| {
        let bytes = fs::read(file.expect("a file").path()).expect("its bytes");
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_named_are_there_though_there_are_too_many() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path(), 2);
    for topic in ["junk1", "junk2", "dovecot"] {
        append(&log, topic).await;
    }
    let refused = append(&log, "dovecot").await;
    assert_eq!((refused.appended, refused.refused), (0, 1));
    log.create_topics(["dovecot", "hooks.outbox", "junk1"])
        .await
        .expect("they are made");
    assert_eq!(append(&log, "dovecot").await.appended, 1);
    assert_eq!(append(&log, "hooks.outbox").await.appended, 1);
    assert_eq!(append(&log, "junk3").await.refused, 1);
    log.close().await;
    drop(log);
    let log = open(dir.path(), 2);
    let expected = ["dovecot", "hooks.outbox", "junk1", "junk2"];
    assert_eq!(topics(&log).await, expected);
    let wrong = log.create_topics(["a b"]).await;
    assert!(matches!(wrong, Err(LogError::Invalid(_))), "{wrong:?}");
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_removed_makes_room_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path(), 2);
    append(&log, "kept").await;
    // More than one step removes.
    for number in 0..150 {
        let value = format!("secret of {number} in junk");
        log.append(vec![record("junk", &value, None)])
            .await
            .expect("the log takes it");
    }
    let mut consumer = log
        .consumer("readers", &["junk".to_owned()])
        .await
        .expect("a consumer");
    let read = consumer.next().await.expect("records");
    consumer
        .commit(&Position::behind(&read))
        .await
        .expect("a commit");
    assert!(log.remove_topic("junk").await.expect("removed"));
    assert!(!log.remove_topic("junk").await.expect("removed already"));
    assert_eq!(topics(&log).await, ["kept"]);
    let groups = log.groups().await.expect("groups");
    assert!(groups.iter().all(|group| group.topic != "junk"));
    assert_eq!(append(&log, "other").await.appended, 1);
    assert_eq!(append(&log, "junk").await.refused, 1);
    log.close().await;
    drop((log, consumer));
    assert!(!holds(dir.path(), "in junk"), "it is still on the disk");
    let log = open(dir.path(), 2);
    assert_eq!(topics(&log).await, ["kept", "other"]);
    let reader = log.reader("other", StartAt::Beginning).await;
    let read = reader.expect("a reader").next().await.expect("records");
    assert_eq!(read.len(), 1);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_kept_for_a_group_is_not_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = EmbeddedOptions {
        retain_for_group: Some("kafka".to_owned()),
        ..EmbeddedOptions::default()
    };
    let log = Embedded::open(dir.path(), &options).expect("the log opens");
    append(&log, "dovecot").await;
    let error = log.remove_topic("dovecot").await.expect_err("it is owed");
    assert_eq!(
        error.to_string(),
        "the topic `dovecot` has records that `kafka` has not got yet"
    );
    assert_eq!(topics(&log).await, ["dovecot"]);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_in_one_topic_keeps_nothing_out_of_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path(), 10);
    for topic in ["junk", "dovecot"] {
        for expected in [(1, 0), (0, 1)] {
            let appended = log.append(vec![record(topic, "value", Some(7))]).await;
            let appended = appended.expect("the log takes it");
            assert_eq!((appended.appended, appended.duplicates), expected);
        }
    }
    log.close().await;
    drop(log);
    let log = open(dir.path(), 10);
    let again = log.append(vec![record("junk", "value", Some(7))]).await;
    assert_eq!(again.expect("the log takes it").duplicates, 1);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_server_reads_the_files_of_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let mode = |file: &str| {
        let there = fs::metadata(dir.path().join(file)).expect("a file");
        there.permissions().mode() & 0o777
    };
    let log = open(dir.path(), 10);
    append(&log, "dovecot").await;
    for file in ["log.db", "log.db-wal", "log.db-shm"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    log.close().await;
    drop(log);
    // As an older version has made it.
    let wide = fs::Permissions::from_mode(0o644);
    fs::set_permissions(dir.path().join("log.db"), wide).expect("its own");
    let log = open(dir.path(), 10);
    assert_eq!(mode("log.db"), 0o600);
    log.close().await;
}
