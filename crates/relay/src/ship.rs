//! Ships the spool of a relay to another log, Kafka: in order, and each record until it is there.
//!
//! Each topic for itself, so that one that Kafka does not take holds back no other, see `topic.rs`.
//! The spool's group commits its position only behind what has been appended: after a crash none is
//! left out, and what the target has already is looked up in it, see `known.rs`.

mod known;
mod lost;
mod retry;
mod since;
mod topic;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dovecast_log::embedded::Embedded;
use dovecast_log::{Budget, LineLimit, Log, LogError};
use tokio::sync::{Mutex, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use topic::Work;

pub use lost::{KeepLost, Kept, Lost, NotKept};

/// Memory that records of all topics take while they are read ahead and appended. A topic has one
/// read of the spool besides, so that one that Kafka does not take holds back no other.
const READ_BYTES: usize = 32 * 1024 * 1024;
/// How long a stop waits for the append that is under way.
const STOP: Duration = Duration::from_secs(5);

/// How often it is looked for new topics.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How a spool is shipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipOptions {
    /// The consumer group of the spool that does it.
    pub group: String,
    /// Records that are read while an append is under way.
    pub read_ahead: usize,
}

impl Default for ShipOptions {
    fn default() -> Self {
        Self {
            group: "kafka".to_owned(),
            read_ahead: 20_000,
        }
    }
}

/// What a shipper has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShipStats {
    /// Records that the target has.
    pub shipped: u64,
    /// Records that the target never takes; they are lost, or dead letters.
    pub refused: u64,
    /// Refused records that were kept as dead letters.
    pub kept: u64,
    /// Appends that failed and were tried again.
    pub errors: u64,
    /// Damaged places of the spool that were passed over.
    pub damaged: u64,
    /// Memory of records that were read from the spool and that the target does not have yet, now.
    pub held_bytes: u64,
    /// Records that the target had already, from before a crash, and that were left out.
    pub known: u64,
}

#[derive(Default)]
struct Counters {
    shipped: AtomicU64,
    refused: AtomicU64,
    kept: AtomicU64,
    errors: AtomicU64,
    damaged: AtomicU64,
    known: AtomicU64,
    /// Lines that say that dead letters cannot be kept, of all topics.
    unkept_lines: LineLimit,
}

/// A running shipper.
pub struct Shipper {
    counters: Arc<Counters>,
    budget: Budget,
    stopping: watch::Sender<bool>,
    ended: AbortHandle,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Shipper {
    /// Begins where the group has committed. Has to be called within a tokio runtime. What the
    /// target never takes is lost.
    pub fn start<L: Log + Clone>(spool: &Embedded, target: L, options: &ShipOptions) -> Self {
        Self::start_keeping(spool, target, options, None)
    }

    /// Like [`Shipper::start`], with something that keeps what the target never takes.
    pub fn start_keeping<L: Log + Clone>(
        spool: &Embedded,
        target: L,
        options: &ShipOptions,
        letters: Option<Arc<dyn KeepLost>>,
    ) -> Self {
        let counters = Arc::<Counters>::default();
        let budget = Budget::new(READ_BYTES);
        let stopping = watch::Sender::new(false);
        let all = All {
            spool: spool.clone(),
            target,
            options: options.clone(),
            counters: Arc::clone(&counters),
            letters,
            budget: budget.clone(),
        };
        let task = tokio::spawn(all.run(stopping.subscribe()));
        Self {
            counters,
            budget,
            stopping,
            ended: task.abort_handle(),
            task: Mutex::new(Some(task)),
        }
    }

    /// Waits until it has ended, which it does not before it is stopped unless something is wrong.
    pub async fn ended(&self) {
        while !self.ended.is_finished() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> ShipStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ShipStats {
            shipped: load(&self.counters.shipped),
            refused: load(&self.counters.refused),
            kept: load(&self.counters.kept),
            errors: load(&self.counters.errors),
            damaged: load(&self.counters.damaged),
            known: load(&self.counters.known),
            held_bytes: self.budget.held() as u64,
        }
    }

    /// Ships no more; what is under way may end, within some seconds.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        let Some(mut task) = self.task.lock().await.take() else {
            return;
        };
        if tokio::time::timeout(STOP, &mut task).await.is_err() {
            // Shipped again after the next start.
            task.abort();
        }
    }
}

/// All topics of a spool.
struct All<L> {
    spool: Embedded,
    target: L,
    options: ShipOptions,
    counters: Arc<Counters>,
    letters: Option<Arc<dyn KeepLost>>,
    budget: Budget,
}

impl<L: Log + Clone> All<L> {
    async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut known = BTreeSet::new();
        let mut topics = JoinSet::new();
        while !*stopping.borrow_and_update() {
            match self.spool.topics().await {
                Ok(found) => {
                    for topic in found.into_iter().map(|topic| topic.name) {
                        if known.insert(topic.clone()) {
                            let work = Work::new(&self, topic);
                            topics.spawn(work.run(stopping.clone()));
                        }
                    }
                }
                Err(LogError::Closed) => break,
                Err(error) => {
                    tracing::error!(%error, "the topics of the spool cannot be listed; this is retried");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                changed = stopping.changed() => if changed.is_err() {
                    break;
                },
                Some(ended) = topics.join_next() => if !*stopping.borrow() {
                    // Without it its topic would be shipped no more, and nobody would know.
                    tracing::error!(error = ended.err().map(tracing::field::display), "a task that ships the spool has ended");
                    return;
                }
            }
        }
        while topics.join_next().await.is_some() {}
    }
}
