//! Records that Kafka never takes are dead letters, where there is a store for them.

use dovecast_dispatch::ledger::{DeadLetter, Happened, Ledger, RecordPlace};
use dovecast_notification::NotificationId;
use dovecast_relay::ship::{KeepLost, Kept, Lost as Refused, NotKept};
use dovecast_store::{Store, StoreError};

/// Keeps them in a store.
#[derive(Debug)]
pub(crate) struct Lost(Store);

impl Lost {
    pub(crate) fn new(store: &Store) -> Self {
        Self(store.clone())
    }
}

impl KeepLost for Lost {
    fn keep<'a>(&'a self, lost: &'a [Refused<'a>], time_ms: i64) -> Kept<'a> {
        let dead = lost.iter().map(|lost| letter(lost, time_ms));
        let happened: Vec<_> = dead.map(Happened::Dead).collect();
        Box::pin(async move {
            let Err(error) = self.0.record(&happened).await else {
                return Ok(());
            };
            let reason = format!("{:#}", anyhow::Error::from(error));
            Err(match self.0.check_writable().await {
                // Other writes go through: it is these.
                Ok(()) | Err(StoreError::CannotRecord) => NotKept::Failed(reason),
                Err(error) if error.is_unavailable() => NotKept::Unavailable(reason),
                Err(_) => NotKept::Failed(reason),
            })
        })
    }
}

fn letter(Refused { record, reason }: &Refused<'_>, time_ms: i64) -> DeadLetter {
    DeadLetter {
        note: String::new(),
        together: None,
        endpoint: None,
        record: Some(RecordPlace::of(record)),
        notification: NotificationId::of(record),
        content: record.value.clone(),
        reason: format!(
            "Kafka refuses this record for good: {reason} (topic `{}`, key `{}`, {} bytes)",
            record.topic,
            String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()),
            record.value.len()
        ),
        time_ms,
        attempts: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use dovecast_log::Record;
    use dovecast_store::{DatabasePlace, StoreOptions};

    use super::*;

    #[tokio::test]
    async fn a_try_that_is_repeated_leaves_one_dead_letter_and_a_store_that_is_away_says_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = StoreOptions::new(DatabasePlace::Sqlite(dir.path().join("store.db")));
        let store = Store::open(&options).await.expect("a store");
        let record = |offset| Record {
            topic: Arc::from("t"),
            partition: 0,
            offset,
            key: None,
            value: Bytes::from_static(b"too large"),
            headers: Vec::new(),
            timestamp_ms: 0,
        };
        let records = [record(0), record(1)];
        let reason = "too large";
        let lost = records.each_ref().map(|record| Refused { record, reason });
        let letters = Lost::new(&store);
        for _ in 0..2 {
            assert_eq!(letters.keep(&lost, 1_000).await, Ok(()));
        }
        let kept = store.dead_letters(None, 10).await.expect("a store");
        assert_eq!(kept.letters.len(), records.len());
        store.close().await;
        let done = letters.keep(&lost, 1_000).await;
        assert!(matches!(done, Err(NotKept::Unavailable(_))), "{done:?}");
    }
}
