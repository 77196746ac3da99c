//! Shipping of a topic that was removed from the spool and has come back.

use std::sync::Arc;

use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Log, NewRecord, Reader, StartAt};
use dovecast_relay::ship::{ShipOptions, Shipper};

use crate::PATIENCE;

async fn append(spool: &Embedded, values: std::ops::Range<u32>) {
    let records = values.map(|value| NewRecord {
        topic: Arc::from("mail.x"),
        key: Some("joe".into()),
        value: value.to_string().into(),
        headers: Vec::new(),
        timestamp_ms: 0,
        id: None,
    });
    spool.append(records.collect()).await.expect("room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_removed_and_comes_back_is_shipped_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = EmbeddedOptions {
        retain_for_group: Some("kafka".to_owned()),
        ..EmbeddedOptions::default()
    };
    let spool = Embedded::open(&dir.path().join("spool"), &options).expect("a spool");
    let target = Embedded::open(&dir.path().join("target"), &EmbeddedOptions::default());
    let target = target.expect("a target");
    let shipper = Shipper::start(&spool, target.clone(), &ShipOptions::default());
    let reader = target.reader("mail.x", StartAt::Beginning).await;
    let mut reader = reader.expect("a reader");
    let mut arrived = 0;
    // Each time fewer than before, so that no offset is new.
    for (from, count) in [(0, 30), (30, 20), (50, 10)] {
        append(&spool, from..from + count).await;
        while arrived < from + count {
            let read = tokio::time::timeout(PATIENCE, reader.next()).await;
            for record in read.expect("shipped").expect("read") {
                assert_eq!(record.value, arrived.to_string());
                arrived += 1;
            }
        }
        // Refused until the shipper has noted what it has shipped.
        let removed = async {
            while spool.remove_topic("mail.x").await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        let removed = tokio::time::timeout(PATIENCE, removed).await;
        removed.expect("it is removed");
    }
    shipper.stop().await;
    assert_eq!(shipper.stats().shipped, 60);
}
