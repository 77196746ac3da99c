//! Appends that come together are one commit, and nobody waits for those that do not come.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Log, NewRecord};

/// How long something that has to come may take.
const ARRIVAL: Duration = Duration::from_mins(2);
/// How long appends that were announced are waited for.
const LIMIT: Duration = Duration::from_millis(500);
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_hours(1);

fn open() -> (tempfile::TempDir, Embedded) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Embedded::open(dir.path(), &EmbeddedOptions::default()).expect("the log opens");
    (dir, log)
}

fn record() -> Vec<NewRecord> {
    vec![NewRecord {
        topic: Arc::from("events"),
        key: None,
        value: Bytes::from_static(b"x"),
        headers: Vec::new(),
        timestamp_ms: 0,
        id: None,
    }]
}

async fn append(log: &Embedded) {
    let appended = tokio::time::timeout(ARRIVAL, log.append(record())).await;
    let appended = appended.expect("nobody is waited for");
    assert_eq!(appended.expect("it is appended").appended, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_come_together_are_one_commit() {
    let (_dir, log) = open();
    let together = Arc::new(log.together(FOR_EVER));
    let mut appends = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (log, together) = (log.clone(), Arc::clone(&together));
        appends.spawn(async move { log.append_together(record(), together).await });
    }
    // Who has nothing to append drops it.
    let idle = Arc::clone(&together);
    drop(together);
    drop(idle);
    for appended in appends.join_all().await {
        assert_eq!(appended.expect("it is appended").appended, 1);
    }
    assert_eq!(log.stats().commits, 1);
}

#[tokio::test]
async fn who_comes_late_is_not_waited_for() {
    let (_dir, log) = open();
    let late = log.together(Duration::from_millis(1));
    append(&log).await;
    drop(late);
    let older = log.together(FOR_EVER);
    drop(log.together(FOR_EVER));
    append(&log).await;
    drop(older);
    append(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_meanwhile_does_not_put_a_commit_off() {
    let (_dir, log) = open();
    let announcing = log.clone();
    let announcer = tokio::spawn(async move {
        let mut latest = announcing.together(LIMIT);
        loop {
            // Before the time of the one before it is over; that one is given up only then.
            drop(std::mem::replace(&mut latest, announcing.together(LIMIT)));
            tokio::task::yield_now().await;
        }
    });
    append(&log).await;
    announcer.abort();
}

#[tokio::test]
async fn a_log_is_closed_though_appends_were_announced() {
    let (_dir, log) = open();
    let together = Arc::new(log.together(FOR_EVER));
    let appending = log.append_together(record(), Arc::clone(&together));
    let closed = tokio::time::timeout(ARRIVAL, async { tokio::join!(appending, log.close()) });
    let (appended, ()) = closed.await.expect("it closes");
    assert_eq!(appended.expect("it is appended").appended, 1);
}

#[tokio::test]
async fn appends_that_wait_for_the_commit_under_way_are_the_next_one() {
    const APPENDS: usize = 64;
    let (_dir, log) = open();
    for round in 1..=3 {
        // On one thread, so that all are in the queue before the first is answered.
        let mut appends = tokio::task::JoinSet::new();
        for _ in 0..APPENDS {
            let log = log.clone();
            appends.spawn(async move { append(&log).await });
        }
        appends.join_all().await;
        let stats = log.stats();
        assert_eq!(
            stats.appended,
            u64::try_from(round * APPENDS).expect("a number")
        );
        // The first of a round may have one of its own, and a writer that is fast a few.
        let most = u64::try_from(round * APPENDS / 2).expect("a number");
        assert!(stats.commits <= most, "{stats:?}");
    }
}
