//! A log that is copied because it is damaged, while others read it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use super::*;

/// What is read while the log is copied comes from the damaged file; that is put aside then.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_while_the_log_is_saved_hides_nothing_that_comes_later() {
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path(), 2_000).await;
    let path = dir.path().join("log.db");
    let mut bytes = fs::read(&path).expect("the file");
    let middle = bytes.len() / 4096 / 2 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&path, bytes).expect("the file");
    let log = Embedded::open(dir.path(), &options()).expect("the log opens");
    let is_over = Arc::new(AtomicBool::new(false));
    let mut others = JoinSet::new();
    for _ in 0..4 {
        let (log, is_over) = (log.clone(), Arc::clone(&is_over));
        others.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                // The file is away for a moment, where it is put aside.
                drop(log.groups().await);
            }
        });
    }
    read_all(&log).await;
    let put_aside = async {
        while !is_put_aside(dir.path()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let put_aside = tokio::time::timeout(Duration::from_mins(2), put_aside).await;
    assert!(put_aside.is_ok(), "the damage was not met");
    let (before, _) = read_all(&log).await;
    is_over.store(true, Ordering::Relaxed);
    others.join_all().await;
    for number in 0..20 {
        let new = NewRecord {
            id: None,
            ..record(number)
        };
        log.append(vec![new]).await.expect("room");
    }
    let (after, damage) = read_all(&log).await;
    assert_eq!(after.len(), before.len() + 20, "{damage:?}");
}
