//! The log needs no thread of the runtime: what else blocks in the process keeps nobody who reads
//! it waiting.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Consumer, Log, NewRecord, Position, Reader, StartAt};

#[test]
fn the_log_is_read_while_every_blocking_thread_of_the_runtime_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (release, held) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || held.recv());
    let used = async {
        let log = Embedded::open(dir.path(), &EmbeddedOptions::default()).expect("a log");
        let topic: Arc<str> = Arc::from("a");
        let new = NewRecord {
            topic: Arc::clone(&topic),
            key: None,
            value: Bytes::from_static(b"1"),
            headers: Vec::new(),
            timestamp_ms: 7,
            id: None,
        };
        log.append(vec![new]).await.expect("room");
        let mut reader = log.reader("a", StartAt::Time(7)).await.expect("a reader");
        assert_eq!(reader.next().await.expect("a record").len(), 1);
        let topics = ["a".to_owned()];
        let mut consumer = log.consumer("g", &topics).await.expect("a consumer");
        let records = consumer.next().await.expect("a record");
        let position = Position {
            topic,
            partition: records[0].partition,
            offset: 1,
        };
        consumer.commit(&[position]).await.expect("committed");
        let groups = log.groups().await.expect("groups");
        assert!(groups.iter().any(|group| group.committed == 1));
        log.close().await;
    };
    let used = runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), used).await });
    drop(release);
    assert!(used.is_ok(), "it waits for a thread of the runtime");
}
