//! The dispatcher as others know it: how it is started and stopped, and what it counts.

use std::sync::Arc;
use std::time::Duration;

use dovecast_log::Log;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::budget::Budget;
use crate::endpoint::Directory;
use crate::evaluator::Evaluator;
use crate::ledger::Ledger;
use crate::life;
use crate::options::{DispatchOptions, STOP_PATIENCE};
use crate::readers::Readers;
use crate::shared::Parts;
use crate::stats::{Counters, Stats};

/// A dispatcher that runs, until it is stopped.
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

    /// Evaluator of conditions, the dispatcher's own: questions whether a filter matches wait there
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
        if tokio::time::timeout(3 * STOP_PATIENCE, &mut task)
            .await
            .is_err()
        {
            // What is not committed is read again.
            task.abort();
        }
    }
}
