//! The workers: from the log to the endpoints.
//!
//! | room | does |
//! | --- | --- |
//! | `feed` | reads the log, matches, offers deliveries to lanes, commits |
//! | `offer` | has lanes take deliveries, or what they cannot take written down as owed |
//! | `matching`, `evaluator` | which endpoints a notification is for; conditions that cost much are evaluated on threads of their own |
//! | `lane`, `worker` | one lane per endpoint, and the workers that have its deliveries made, as fast as `pace` and `breaker` allow |
//! | `host`, `hanging` | what endpoints of one host have in common; how many attempts may hang, and how much memory they may hold |
//! | `lanes` | looks after all lanes now and then |
//! | `life`, `panics` | what is begun anew after a fault, and how |
//! | `outcome` | how a delivery goes on after an attempt |
//! | `clock` | the time of day, and what waits whatever it says |
//! | `locks` | locks of which a thread holds one at a time |
//! | `behind` | the ranges of the log that a lane owes |
//! | `catch_up`, `range_reader`, `readers`, `bounds` | ranges that endpoints owe are read again, with so many readers at a time |
//! | `budget` | bounds the bytes of what is in memory |
//! | `retrier` | fetches owed deliveries that are due |
//! | `take_up` | claims ranges that nobody delivers, and delivers them |
//! | `trace` | lets a person follow one notification |
//! | `recorder` | writes down what has happened, many things at a time, and says what may be committed |
//!
//! The log is the queue: a delivery that succeeds leaves nothing behind but its attempt. What was
//! read is committed when each of its deliveries is done or durably owed; whoever dies before reads
//! it again, and receivers know it by its `webhook-id`.

mod behind;
mod bounds;
mod breaker;
mod budget;
mod catch_up;
mod clock;
mod endpoint;
mod evaluator;
mod feed;
mod hanging;
mod host;
mod item;
mod lane;
mod lanes;
pub mod ledger;
mod life;
mod locks;
mod matching;
mod offer;
mod outcome;
mod pace;
mod panics;
mod range_reader;
mod readers;
mod recorder;
mod retrier;
pub mod schedule;
mod stats;
mod take_up;
mod told;
mod trace;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use dovecast_log::{Log, LogError, Record};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

pub use clock::Clock;
pub use endpoint::{Directory, Endpoint};
pub use evaluator::{Evaluator, EvaluatorLimits};
pub use stats::Stats;
pub use worker::webhook_id;

use bounds::KnownBounds;
use budget::Budget;
use dovecast_notification::EventAccount;
use dovecast_notification::{BadNotification, EndpointId, Notification};
use hanging::Hanging;
use host::Hosts;
use item::Room;
use lane::Lane;
use ledger::{Happened, Ledger, Millis};
use life::Parts;
use locks::{Held, Lock};
use panics::{Panicked, Panics, answered};
use readers::Readers;
use recorder::Recorder;
use stats::Counters;
use take_up::TakenUp;
use told::Told;

/// How long a stop waits for attempts that are under way.
const STOP: Duration = Duration::from_secs(5);

/// For how long it holds that we live.
const ALIVE: Duration = Duration::from_secs(5);

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

/// What all workers know.
struct Shared<L, S> {
    log: L,
    ledger: S,
    directory: Arc<Directory>,
    options: DispatchOptions,
    lanes: Lock<HashMap<EndpointId, Arc<Lane>>>,
    recorder: Arc<Recorder>,
    counters: Arc<Counters>,
    readers: Arc<Readers>,
    evaluator: Arc<Evaluator>,
    reports: matching::Reports,
    bounds: KnownBounds,
    budget: Arc<Budget>,
    taken_up: TakenUp,
    /// When it was last told of ranges that the log does not have.
    missing_told: Told,
    /// Owed deliveries that are claimed by us.
    claimed: Arc<AtomicUsize>,
    /// Deliveries that may be in flight.
    room: Arc<Room>,
    hanging: Hanging,
    /// Deliveries that workers have in hand, those of ranges included, which take no place.
    under_way: AtomicUsize,
    /// When it was last said that attempts are cut off.
    cut_off_told: Told,
    hosts: Hosts,
    panics: Panics,
    /// Until when the others take us for alive, as we have last said.
    alive_until: Lock<Option<Instant>>,
    /// How often we have begun to live: what was claimed in another life others may have claimed
    /// since.
    lives: AtomicU64,
    /// Until when no range is taken up, because the log could not be read.
    unreadable_until: Lock<Option<Instant>>,
    is_stopping: AtomicBool,
    /// What is still under way is waited for no more.
    is_over: AtomicBool,
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

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    fn new(parts: &Parts<L, S>) -> Self {
        Self {
            log: parts.log.clone(),
            ledger: parts.ledger.clone(),
            directory: Arc::clone(&parts.directory),
            options: parts.options.clone(),
            lanes: Lock::new("lanes", HashMap::new()),
            recorder: Arc::new(Recorder::new(&parts.options.clock)),
            counters: Arc::clone(&parts.counters),
            readers: Arc::clone(&parts.readers),
            evaluator: Arc::clone(&parts.evaluator),
            reports: matching::Reports::default(),
            bounds: KnownBounds::default(),
            budget: Arc::clone(&parts.budget),
            taken_up: TakenUp::default(),
            missing_told: Told::default(),
            claimed: Arc::default(),
            room: Room::new(parts.options.in_flight, &parts.counters),
            hanging: Hanging::new(parts.budget.total(), &parts.counters),
            under_way: AtomicUsize::new(0),
            cut_off_told: Told::default(),
            hosts: Hosts::default(),
            panics: Panics::default(),
            alive_until: Lock::new("alive", None),
            lives: AtomicU64::new(0),
            unreadable_until: Lock::new("unreadable", None),
            is_stopping: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }

    fn read(&self, record: &Record) -> Result<Notification, BadNotification> {
        match self.options.sources.get(&*record.topic) {
            Some(Source::Events(account)) => Notification::from_event(record, account),
            Some(Source::Outbox) | None => Notification::from_outbox(record),
        }
    }

    fn lanes(&self) -> Held<MutexGuard<'_, HashMap<EndpointId, Arc<Lane>>>> {
        self.lanes.lock()
    }

    /// The lane of an endpoint, with what the endpoint is now.
    fn lane(&self, endpoint: &Arc<Endpoint>) -> Arc<Lane> {
        let mut lanes = self.lanes();
        let lane = lanes
            .entry(endpoint.id)
            .or_insert_with(|| Arc::new(Lane::new(Arc::clone(endpoint))));
        Arc::clone(lane)
    }

    /// Whether any attempt is under way, or waits.
    fn is_busy(&self) -> bool {
        self.room.in_flight() > 0
            || self.under_way.load(Ordering::Acquire) > 0
            || self.counters.hanging.load(Ordering::Acquire) > 0
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Says that we live, and shall for a while.
    async fn beat(&self) -> Result<(), LogError> {
        // From before it is said: others may know it from then on.
        let now = Instant::now();
        let now_ms = self.now_ms();
        let until_ms = now_ms + ms(ALIVE);
        self.ask(async { self.ledger.beat(now_ms, until_ms).await })
            .await?;
        let before = self.alive_until.lock().replace(now + ALIVE);
        if before.is_none_or(|before| before < now) {
            self.lives.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// The time of day, for what others read.
    fn now_ms(&self) -> Millis {
        self.options.clock.now_ms()
    }

    /// Whether what we have claimed is still ours; else others may be at it.
    fn is_alive(&self) -> bool {
        let until = *self.alive_until.lock();
        until.is_some_and(|until| Instant::now() <= until)
    }

    /// Whether ranges can be read here, as far as is known.
    fn can_read(&self) -> bool {
        let until = *self.unreadable_until.lock();
        until.is_none_or(|until| Instant::now() > until)
    }

    /// No range is taken up for so long.
    fn cannot_read(&self, rest: Duration) {
        *self.unreadable_until.lock() = Some(Instant::now() + rest);
    }

    /// A part has panicked.
    fn panicked(&self, part: &'static str, panicked: &Panicked) {
        self.panics.note(&self.counters.panics, part, panicked);
    }

    /// Asks the ledger, where a panic is an error like others.
    async fn ask<T>(&self, call: impl Future<Output = Result<T, LogError>>) -> Result<T, LogError> {
        answered("the store", call, |panicked| {
            self.panicked("store", panicked);
        })
        .await
    }

    async fn record(&self, happened: Happened) -> Result<(), LogError> {
        self.ask(async { self.ledger.record(happened).await }).await
    }

    /// Nothing that was claimed is ours any more.
    async fn leave(&self) -> Result<(), LogError> {
        self.ask(async { self.ledger.leave().await }).await
    }

    /// Tells of trouble with the ledger, and waits before it is tried again.
    async fn ledger_failed(&self, told: &mut Option<Instant>, error: &LogError) {
        stats::count(&self.counters.ledger_errors, 1);
        if told.is_none_or(|told| told.elapsed() >= Duration::from_mins(1)) {
            *told = Some(Instant::now());
            tracing::warn!(%error, "deliveries cannot be kept, it is tried again");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn ms(duration: Duration) -> Millis {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
