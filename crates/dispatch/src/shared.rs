//! What all parts of the dispatcher share: the log, the ledger, the lanes, and what is counted and
//! bounded over all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use dovecast_log::{LineLimit, Log, LogError, Record};
use dovecast_notification::{EndpointId, Notification};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::alive::Alive;
use crate::bounds::KnownBounds;
use crate::budget::Budget;
use crate::buried::Buried;
use crate::endpoint::{Directory, Endpoint};
use crate::evaluator::Evaluator;
use crate::hanging::Hanging;
use crate::host::Hosts;
use crate::lane::Lane;
use crate::ledger::{Happened, Ledger, LedgerError, Millis};
use crate::locks::{Held, Lock};
use crate::missed::AllMissed;
use crate::options::{DispatchOptions, Unread};
use crate::panics::{PANIC_REST, Panicked, Panics, answered, caught};
use crate::partitions::Partitions;
use crate::read_up::ReadUp;
use crate::readers::Readers;
use crate::recorder::Recorder;
use crate::reports::Reports;
use crate::room::Room;
use crate::stats::{Counters, count};
use crate::taken_up::TakenUp;

/// How long until the log or the ledger is asked again after an error.
const ERROR_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How long a stop waits for what is being claimed.
const CLAIM_ENDS: Duration = Duration::from_secs(2);

/// What outlasts a life of the dispatcher.
pub(crate) struct Parts<L, S> {
    pub(crate) log: L,
    pub(crate) ledger: S,
    pub(crate) directory: Arc<Directory>,
    pub(crate) options: DispatchOptions,
    pub(crate) counters: Arc<Counters>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) evaluator: Arc<Evaluator>,
    pub(crate) budget: Arc<Budget>,
}

/// What all parts of the dispatcher share in one of its lives.
pub(crate) struct Shared<L, S> {
    pub(crate) log: L,
    pub(crate) ledger: S,
    /// Name of the log, where dispatchers that share the ledger have each their own.
    pub(crate) log_name: Arc<str>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) options: DispatchOptions,
    pub(crate) lanes: Lock<HashMap<EndpointId, Arc<Lane>>>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) evaluator: Arc<Evaluator>,
    pub(crate) reports: Reports,
    pub(crate) bounds: KnownBounds,
    pub(crate) budget: Arc<Budget>,
    pub(crate) missed: AllMissed,
    pub(crate) buried: Buried,
    pub(crate) taken_up: TakenUp,
    pub(crate) partitions: Partitions,
    pub(crate) read_up: ReadUp,
    /// Held while anything is claimed: what has ended claims nothing.
    claims: tokio::sync::RwLock<()>,
    /// About a log that cannot be read.
    log_lines: LineLimit,
    /// About a ledger that does not answer.
    ledger_lines: LineLimit,
    /// About ranges that the log does not have.
    pub(crate) missing_lines: LineLimit,
    /// Deliveries that may be in flight.
    pub(crate) room: Arc<Room>,
    pub(crate) hanging: Hanging,
    /// Deliveries that workers have in hand, those of ranges included, which take no place.
    pub(crate) under_way: AtomicUsize,
    /// About attempts that are cut off.
    pub(crate) cut_off_lines: LineLimit,
    pub(crate) hosts: Hosts,
    pub(crate) panics: Panics,
    /// Lanes that have fallen behind, each once until its ranges are read.
    pub(crate) fallen_behind: mpsc::UnboundedSender<Arc<Lane>>,
    pub(crate) alive: Alive,
    /// Until when no range is taken up, because the log could not be read.
    pub(crate) unreadable_until: Lock<Option<Instant>>,
    pub(crate) is_stopping: AtomicBool,
    /// Whether attempts that are still under way are waited for no more.
    pub(crate) is_over: AtomicBool,
}

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// What is shared in one life, and where lanes say that they have fallen behind.
    pub(crate) fn new(parts: &Parts<L, S>) -> (Self, mpsc::UnboundedReceiver<Arc<Lane>>) {
        let (fallen_behind, lanes) = mpsc::unbounded_channel();
        let shared = Self {
            log: parts.log.clone(),
            ledger: parts.ledger.clone(),
            log_name: parts.ledger.log(),
            directory: Arc::clone(&parts.directory),
            options: parts.options.clone(),
            lanes: Lock::new("lanes", HashMap::new()),
            recorder: Arc::new(Recorder::new(&parts.options.clock)),
            counters: Arc::clone(&parts.counters),
            readers: Arc::clone(&parts.readers),
            evaluator: Arc::clone(&parts.evaluator),
            reports: Reports::default(),
            bounds: KnownBounds::default(),
            budget: Arc::clone(&parts.budget),
            missed: AllMissed::default(),
            buried: Buried::default(),
            taken_up: TakenUp::default(),
            partitions: Partitions::default(),
            read_up: ReadUp::default(),
            claims: tokio::sync::RwLock::default(),
            log_lines: LineLimit::default(),
            ledger_lines: LineLimit::default(),
            missing_lines: LineLimit::default(),
            room: Room::new(parts.options.in_flight, &parts.counters),
            hanging: Hanging::new(parts.budget.total(), &parts.counters),
            under_way: AtomicUsize::new(0),
            cut_off_lines: LineLimit::default(),
            hosts: Hosts::default(),
            panics: Panics::default(),
            fallen_behind,
            alive: Alive::default(),
            unreadable_until: Lock::new("unreadable", None),
            is_stopping: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        };
        (shared, lanes)
    }

    /// The notification that a record is. What the configuration does not name is not read as
    /// anything: it may be of another kind than it looks like.
    pub(crate) fn read(&self, record: &Record) -> Result<Notification, Unread> {
        let source = self.options.sources.get(&*record.topic);
        Ok(source.ok_or(Unread::NotDispatched)?.read(record)?)
    }

    pub(crate) fn is_dispatched(&self, topic: &str) -> bool {
        self.options.sources.contains_key(topic)
    }

    /// Topics that are dispatched.
    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        let topics = self.options.sources.keys();
        topics.map(|topic| Arc::from(topic.as_str())).collect()
    }

    pub(crate) fn lanes(&self) -> Held<MutexGuard<'_, HashMap<EndpointId, Arc<Lane>>>> {
        self.lanes.lock()
    }

    /// The lane of an endpoint, with what the endpoint is now.
    pub(crate) fn lane(&self, endpoint: &Arc<Endpoint>) -> Arc<Lane> {
        if let Some(lane) = self.known_lane(endpoint.id) {
            return lane;
        }
        let share = self.room.share(&endpoint.account);
        let new = || Arc::new(Lane::new(Arc::clone(endpoint), share));
        Arc::clone(self.lanes().entry(endpoint.id).or_insert_with(new))
    }

    /// The lane of an endpoint, if it has one.
    pub(crate) fn known_lane(&self, id: EndpointId) -> Option<Arc<Lane>> {
        self.lanes().get(&id).cloned()
    }

    /// Whether any attempt is under way, or waits.
    pub(crate) fn is_busy(&self) -> bool {
        self.room.in_flight() > 0
            || self.under_way.load(Ordering::Acquire) > 0
            || self.counters.hanging.load(Ordering::Acquire) > 0
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// The time of day, for what others read.
    pub(crate) fn now_ms(&self) -> Millis {
        self.options.clock.now_ms()
    }

    /// Whether ranges can be read here, as far as is known.
    pub(crate) fn can_read(&self) -> bool {
        let until = *self.unreadable_until.lock();
        until.is_none_or(|until| Instant::now() > until)
    }

    /// Takes up no range for so long: the log cannot be read.
    pub(crate) fn cannot_read(&self, rest: Duration) {
        *self.unreadable_until.lock() = Some(Instant::now() + rest);
    }

    /// Counts and logs the panic of a part.
    pub(crate) fn panicked(&self, part: &'static str, panicked: &Panicked) {
        self.panics.note(&self.counters.panics, part, panicked);
    }

    /// Asks the ledger, where a panic is an error like others.
    pub(crate) async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        answered(call, |panicked| {
            self.panicked("store", panicked);
        })
        .await
    }

    /// Claims something of the ledger, unless this life has ended: it would not be delivered.
    pub(crate) async fn claim<T>(
        &self,
        call: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let _under_way = self.claims.read().await;
        if self.is_over.load(Ordering::Acquire) {
            return Err(LedgerError {
                doing: "claim anything",
                place: "the ledger",
                reason: "the dispatcher has ended".to_owned(),
            });
        }
        self.ask(call).await
    }

    /// Claims nothing from now on, and gives back what was claimed.
    pub(crate) async fn leave(&self) -> Result<(), LedgerError> {
        self.is_over.store(true, Ordering::Release);
        // What is being claimed is claimed before, unless that hangs.
        let _none = tokio::time::timeout(CLAIM_ENDS, self.claims.write()).await;
        self.ask(async { self.ledger.leave().await }).await
    }

    pub(crate) async fn record(&self, happened: &[Happened]) -> Result<(), LedgerError> {
        self.ask(async { self.ledger.record(happened).await }).await
    }

    /// Counts and logs an error of the ledger, and waits until it may be asked again.
    pub(crate) async fn ledger_failed(&self, error: &LedgerError) {
        count(&self.counters.ledger_errors, 1);
        if self.ledger_lines.take() {
            tracing::warn!(%error, "the store cannot be used; what was asked of it is retried");
        }
        tokio::time::sleep(ERROR_RETRY_INTERVAL).await;
    }

    /// Logs an error of the log, and waits before it is read again.
    pub(crate) async fn log_failed(&self, error: &LogError) {
        if self.log_lines.take() {
            tracing::warn!(%error, "the log cannot be read, reading it is retried");
        }
        tokio::time::sleep(ERROR_RETRY_INTERVAL).await;
    }

    /// Runs a part that keeps nothing for itself, and begins it anew when it panics.
    pub(crate) async fn keep_up<F: Future<Output = ()>>(
        self: Arc<Self>,
        part: &'static str,
        run: impl Fn(Arc<Self>) -> F,
    ) {
        while let Err(panicked) = caught(run(Arc::clone(&self))).await {
            self.panicked(part, &panicked);
            tokio::time::sleep(PANIC_REST).await;
        }
    }
}
