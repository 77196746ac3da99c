//! Notifications that are appended one after the other, some hundred a second, beside what a case
//! does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use dovecast_log::kafka::KafkaLog;
use dovecast_log::{Header, Log as _, NewRecord};
use dovecast_testkit::clock;
use serde_json::json;
use uuid::Uuid;

use crate::cluster::{TOPIC, eventually};

/// At a time, and how soon after each other.
const BATCH: u32 = 8;
const PAUSE: Duration = Duration::from_millis(40);
/// More than partitions, so that each has its share.
pub(crate) const KEYS: u32 = 50;
/// An append waits for a Kafka that is away.
const PATIENCE: Duration = dovecast_testkit::PATIENCE;

/// A load; its messages are the numbers from 0 on.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    thread: JoinHandle<Result<()>>,
}

impl Load {
    /// Notifications of an account.
    pub(crate) fn start(log: KafkaLog, account: &str) -> Result<Self> {
        let account = account.to_owned();
        let make = move |number| vec![notification(&account, "", number)];
        Self::of(log, BATCH, make)
    }

    /// What is made of each number, of so many numbers at a time.
    pub(crate) fn of(
        log: KafkaLog,
        batch: u32,
        make: impl Fn(u32) -> Vec<NewRecord> + Send + 'static,
    ) -> Result<Self> {
        let is_over = Arc::<AtomicBool>::default();
        let sent = Arc::<AtomicU32>::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (over, count) = (Arc::clone(&is_over), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Acquire) {
                let first = count.load(Ordering::Acquire);
                let records = (first..first + batch).flat_map(&make);
                append(&runtime, &log, records.collect())?;
                count.fetch_add(batch, Ordering::AcqRel);
                std::thread::sleep(PAUSE);
            }
            Ok(())
        });
        Ok(Self {
            is_over,
            sent,
            thread,
        })
    }

    /// Waits until so many more were appended.
    pub(crate) fn goes_on(&self, more: u32) -> Result<()> {
        let before = self.sent.load(Ordering::Acquire);
        eventually(
            PATIENCE,
            || format!("{more} are appended"),
            || {
                ensure!(!self.thread.is_finished(), "the load has ended");
                Ok(self.sent.load(Ordering::Acquire) >= before + more)
            },
        )
    }

    /// Ends it; how many were appended.
    pub(crate) fn stop(self) -> Result<u32> {
        self.is_over.store(true, Ordering::Release);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the load has panicked"))??;
        Ok(self.sent.load(Ordering::Acquire))
    }
}

/// Appends all of them.
pub(crate) fn append(
    runtime: &tokio::runtime::Runtime,
    log: &KafkaLog,
    records: Vec<NewRecord>,
) -> Result<()> {
    let count = records.len();
    let appended = runtime.block_on(log.append(records))?;
    ensure!(appended.appended == count, "{appended:?} of {count}");
    Ok(())
}

/// One of an application `nodes`, with a name of its own.
pub(crate) fn notification(account: &str, level: &str, number: u32) -> NewRecord {
    let value = json!({
        "application": "nodes", "event_type": "graded", "level": level,
        "timestamp": "2026-11-20T10:00:00Z", "message": number, "account_id": account});
    NewRecord {
        topic: Arc::from(TOPIC),
        key: Some(format!("user{}", number % KEYS).into()),
        value: value.to_string().into(),
        headers: vec![Header {
            name: Arc::from("dovecast-id"),
            value: Uuid::now_v7().to_string().into(),
        }],
        timestamp_ms: clock::now_ms(),
        id: None,
    }
}
