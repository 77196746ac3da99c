//! Records that Kafka never takes are dead letters, where there is a store for them.

use std::time::{SystemTime, UNIX_EPOCH};

use dovecast_dispatch::NotificationId;
use dovecast_dispatch::work::ledger::{DeadLetter, Happened, Ledger};
use dovecast_log::Record;
use dovecast_relay::ship::{KeepLost, Kept};
use dovecast_store::Store;

/// Keeps them in a store.
#[derive(Debug)]
pub(crate) struct Lost(Store);

impl Lost {
    pub(crate) fn new(store: &Store) -> Self {
        Self(store.clone())
    }
}

impl KeepLost for Lost {
    fn keep<'a>(&'a self, record: &'a Record, reason: &'a str) -> Kept<'a> {
        let letter = DeadLetter {
            endpoint: None,
            notification: NotificationId::of(record),
            body: record.value.clone(),
            reason: format!(
                "Kafka never takes this: {reason} (topic `{}`, key `{}`, {} bytes)",
                record.topic,
                String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()),
                record.value.len()
            ),
            time_ms: now_ms(),
            attempts: 0,
        };
        let happened = Happened {
            dead: vec![letter],
            ..Happened::default()
        };
        Box::pin(async move {
            let kept = self.0.record(happened).await;
            kept.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
        })
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
