//! The dispatcher as others know it: what it is told, how it is started and stopped, what it
//! counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dovecast_log::Log;
use dovecast_notification::EventAccount;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::budget::Budget;
use crate::clock::Clock;
use crate::endpoint::Directory;
use crate::evaluator::{Evaluator, EvaluatorLimits};
use crate::ledger::Ledger;
use crate::life::{self, Parts};
use crate::readers::Readers;
use crate::stats::{Counters, Stats};

/// How long a stop waits for attempts that are under way.
pub(crate) const STOP: Duration = Duration::from_secs(5);

/// What the records of a topic are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Notifications of hooks-backend.
    Outbox,
    /// Events of the plugin.
    Events(EventAccount),
}

/// What is dispatched, and how much at a time.
#[derive(Clone, Debug)]
pub struct DispatchOptions {
    /// The consumer group.
    pub group: String,
    /// By topic.
    pub sources: BTreeMap<String, Source>,
    /// Deliveries that may be under way or wait at a time.
    pub in_flight: u64,
    /// Bytes of notifications that may be in memory at a time; besides, what the log hands out at a
    /// time, once for each reader.
    pub in_flight_bytes: u64,
    /// Readers of the log that may be open at a time to catch up.
    pub readers: usize,
    /// How long an attempt may hang before it is ended from outside: longer than any driver should
    /// take by itself.
    pub longest_attempt: Duration,
    /// Costly conditions at a time.
    pub conditions: EvaluatorLimits,
    /// The time of day.
    pub clock: Clock,
}

/// Running workers.
pub struct Dispatcher {
    counters: Arc<Counters>,
    readers: Arc<Readers>,
    evaluator: Arc<Evaluator>,
    budget: Arc<Budget>,
    stopping: watch::Sender<bool>,
    ended: AbortHandle,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Dispatcher {
    /// Begins where the group has committed. Has to be called within a tokio runtime.
    pub fn start<L: Log + Clone, S: Ledger>(
        log: L,
        ledger: S,
        directory: Arc<Directory>,
        options: DispatchOptions,
    ) -> Self {
        let counters = Arc::<Counters>::default();
        let readers = Arc::new(Readers::new(options.readers));
        let evaluator = Arc::new(Evaluator::new(options.conditions));
        let budget = Arc::new(Budget::new(options.in_flight_bytes));
        let parts = Parts {
            log,
            ledger,
            directory,
            options,
            counters: Arc::clone(&counters),
            readers: Arc::clone(&readers),
            evaluator: Arc::clone(&evaluator),
            budget: Arc::clone(&budget),
        };
        let stopping = watch::Sender::new(false);
        let task = tokio::spawn(life::run(parts, stopping.subscribe()));
        Self {
            counters,
            readers,
            evaluator,
            budget,
            stopping,
            ended: task.abort_handle(),
            task: tokio::sync::Mutex::new(Some(task)),
        }
    }

    /// Waits until it has ended, which it does not before it is stopped unless something is wrong.
    pub async fn ended(&self) {
        while !self.ended.is_finished() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        Stats {
            readers: u64::try_from(self.readers.open()).unwrap_or(u64::MAX),
            conditions_waiting: u64::try_from(self.evaluator.waiting()).unwrap_or(u64::MAX),
            in_flight_bytes: self.budget.used(),
            ..self.counters.stats()
        }
    }

    /// Whoever asks whether a filter matches has it found out where the dispatcher does, and waits
    /// for the same turns.
    pub fn evaluator(&self) -> Arc<Evaluator> {
        Arc::clone(&self.evaluator)
    }

    /// Reads no more; attempts that are under way may end, within some seconds.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        let Some(mut task) = self.task.lock().await.take() else {
            return;
        };
        if tokio::time::timeout(3 * STOP, &mut task).await.is_err() {
            // What is not committed is read again.
            task.abort();
        }
    }
}
