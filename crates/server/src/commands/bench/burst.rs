//! Some notifications that are sent at once, and what became of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::webhook_id;
use dovecast_event::header_name;
use dovecast_log::NewRecord;
use dovecast_notification::{EndpointId, NotificationId};
use futures_util::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::sink::Sink;
use crate::access::Access;
use crate::control::json;
use crate::headers::header;

/// Records of one append ...
const BATCH: usize = 100;
/// ... and appends under way at a time.
const APPENDS: usize = 4;

/// Notifications to be sent.
pub(super) struct Burst {
    batches: Vec<Vec<NewRecord>>,
    /// By what the sink knows them, in the same order.
    webhook_ids: Vec<Vec<String>>,
}

/// What became of them.
pub(super) struct Figures {
    pub(super) sent: usize,
    /// From the first that was sent to the last that came.
    pub(super) took: Duration,
    /// From sending to coming, of each that came; in order.
    pub(super) latencies: Vec<Duration>,
    /// Came once more.
    pub(super) duplicates: usize,
}

impl Burst {
    pub(super) fn new(made: &json::Benchmark, topic: &str, count: u32) -> Result<Self> {
        let now = jiff::Timestamp::now();
        let value = serde_json::to_vec(&serde_json::json!({
            "application": made.application,
            "event_type": made.event_type,
            "level": made.level,
            "account_id": made.account_id,
            "timestamp": format!("{now:.3}"),
            "message": "Hello world!",
        }))
        .context("cannot write the notification")?;
        let (topic, value): (Arc<str>, Bytes) = (topic.into(), value.into());
        let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        let record = |id: &Uuid| NewRecord {
            topic: Arc::clone(&topic),
            // Of many senders: all partitions get some.
            key: Some(Bytes::copy_from_slice(id.as_bytes())),
            value: value.clone(),
            headers: vec![header(
                header_name::ID,
                id.hyphenated().to_string().as_bytes(),
            )],
            timestamp_ms: now.as_millisecond(),
            id: Some(id.as_u128()),
        };
        let endpoint = EndpointId(made.endpoint);
        let known = |id: &Uuid| webhook_id(NotificationId(*id), endpoint);
        let batches = ids.chunks(BATCH);
        Ok(Self {
            batches: batches
                .clone()
                .map(|ids| ids.iter().map(record).collect())
                .collect(),
            webhook_ids: batches.map(|ids| ids.iter().map(known).collect()).collect(),
        })
    }

    /// Sends them, and waits until all have come, or nothing has come for `patience`.
    pub(super) async fn run(
        self,
        access: &Access,
        sink: &Sink,
        patience: Duration,
    ) -> Result<Figures> {
        let before = sink.webhooks().len();
        let wanted = before + self.webhook_ids.iter().map(Vec::len).sum::<usize>();
        let started = Instant::now();
        let sending = stream::iter(self.batches)
            .map(async |batch| {
                let sent = Instant::now();
                let appended = access.append(batch).await?;
                ensure!(
                    appended.refused == 0,
                    "the log refuses {} notifications",
                    appended.refused
                );
                Ok(sent)
            })
            .buffered(APPENDS)
            .try_collect::<Vec<Instant>>();
        let coming = async {
            while sink.webhooks().len() < wanted {
                if tokio::time::timeout(patience, sink.news()).await.is_err() {
                    break;
                }
            }
        };
        let (sent, ()) = tokio::join!(sending, coming);
        let sent = sent.context("cannot send notifications")?;
        let webhooks = sink.webhooks();
        let mut figures = Figures {
            sent: wanted - before,
            took: Duration::ZERO,
            latencies: Vec::with_capacity(wanted - before),
            duplicates: 0,
        };
        for (sent, ids) in sent.into_iter().zip(&self.webhook_ids) {
            for arrival in ids.iter().filter_map(|id| webhooks.get(id)) {
                let latency = arrival.first.saturating_duration_since(sent);
                figures.latencies.push(latency);
                figures.duplicates += arrival.times - 1;
                let took = arrival.first.saturating_duration_since(started);
                figures.took = figures.took.max(took);
            }
        }
        figures.latencies.sort_unstable();
        Ok(figures)
    }
}

impl Figures {
    /// Latency that so many percent of the notifications had at most.
    pub(super) fn latency(&self, percent: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let place = (last * percent).div_ceil(100);
        self.latencies.get(place).copied().unwrap_or_default()
    }
}
