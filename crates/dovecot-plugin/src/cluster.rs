//! Kafka clusters as this process sees them: one producer for each, shared by all users and driver instances.
//!
//! The first record does not create the producer but sets a timer, so that the client has its answer before threads are
//! started. From then on records go straight into librdkafka's queue; what that queue does not take waits here, bounded,
//! if retries are configured. Delivery reports and log lines are fetched from Dovecot's event loop. Waiting happens only
//! in [`finish_all`], at process exit.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dovecast_dovecot_sys::host::{self, Level};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::options::GeneralSettings;
use crate::properties::{self, PropertyError};
use crate::reports::{LineLimit, Losses, Reports, ReportsContext};

/// Different clusters one process may publish to. More of them are a mistake in per-user settings, and each costs threads.
const MAX_CLUSTERS: usize = 16;
/// A producer that could not be created is tried again after this time.
const CREATE_AGAIN: Duration = Duration::from_mins(1);
/// So many records do not wait for the timer to create a producer: one command on a large mailbox makes all its events
/// before the timer comes, and doveadm has no event loop.
const CREATE_AT_WAITING: usize = 1000;
/// How often delivery reports are fetched: at first, and when nothing comes.
const SERVE_FIRST: Duration = Duration::from_millis(50);
const SERVE_SLOWEST: Duration = Duration::from_secs(1);
/// How often log lines are fetched while nothing is in flight; librdkafka keeps them until then.
const SERVE_IDLE: Duration = Duration::from_secs(30);
/// Events fetched in one go; the rest comes with the next turn of the event loop.
const EVENTS_PER_SERVE: usize = 256;

thread_local! {
    /// Only Dovecot's main thread has any.
    static CLUSTERS: RefCell<Vec<Rc<Cluster>>> = RefCell::default();
    /// When the process's timer runs off.
    static TIMER_DUE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// One record, ready to be published.
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: OwnedHeaders,
}

impl Record {
    fn bytes(&self) -> usize {
        self.topic.len() + self.key.len() + self.value.len() + 256
    }
}

/// Why there is no cluster for some settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error(transparent)]
    Property(#[from] PropertyError),
    #[error("this process publishes to {MAX_CLUSTERS} different clusters already (brokers `{0}`)")]
    TooMany(String),
}

/// A cluster and the producer that publishes to it.
pub(crate) struct Cluster {
    settings: GeneralSettings,
    config: ClientConfig,
    state: RefCell<State>,
}

struct State {
    producer: Option<BaseProducer<ReportsContext>>,
    reports: Arc<Reports>,
    lines: LineLimit,
    losses: Losses,
    /// Records that librdkafka has taken and not reported on yet.
    in_flight: u64,
    /// Records that librdkafka has not got yet, in order.
    waiting: VecDeque<Record>,
    waiting_bytes: usize,
    /// How many records and bytes may wait.
    bounds: (usize, usize),
    /// How often the first of `waiting` was refused, and when it is tried again.
    refusals: u32,
    retry_at: Option<Instant>,
    create_at: Option<Instant>,
    serve_interval: Duration,
}

/// The cluster for these settings; the same for the same settings.
pub(crate) fn for_settings(settings: &GeneralSettings) -> Result<Rc<Cluster>, ClusterError> {
    CLUSTERS.with_borrow_mut(|clusters| {
        if let Some(known) = clusters
            .iter()
            .find(|cluster| cluster.settings == *settings)
        {
            return Ok(Rc::clone(known));
        }
        let config = properties::client_config(settings)?;
        if clusters.len() >= MAX_CLUSTERS {
            return Err(ClusterError::TooMany(settings.brokers.clone()));
        }
        let cluster = Rc::new(Cluster::new(settings.clone(), config));
        clusters.push(Rc::clone(&cluster));
        Ok(cluster)
    })
}

/// Called by the timer: fetches reports, tries again what waits, sets the timer anew while there is anything to do.
pub(crate) fn serve_all() {
    TIMER_DUE.set(None);
    let next = all().iter().filter_map(|cluster| cluster.serve()).min();
    if let Some(delay) = next {
        set_timer(delay);
    }
}

/// Called at process exit: every producer has its time to flush, then is destroyed. The waits of several producers
/// overlap.
pub(crate) fn finish_all() {
    host::clear_timer();
    let clusters = all();
    for cluster in &clusters {
        cluster.create_if_due(&mut cluster.state.borrow_mut());
    }
    let started = Instant::now();
    for cluster in &clusters {
        cluster.flush(started);
    }
    let destroying: Vec<_> = clusters
        .iter()
        .filter_map(|cluster| cluster.destroy())
        .collect();
    for (done, deadline) in destroying {
        // A thread that hangs, in a name look-up for example, is left behind: the process ends with it.
        let _ = done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
    CLUSTERS.with_borrow_mut(Vec::clear);
}

fn all() -> Vec<Rc<Cluster>> {
    CLUSTERS.with_borrow(Clone::clone)
}

/// Makes the timer run off after `delay`, or sooner if it is set sooner.
fn set_timer(delay: Duration) {
    let due = Instant::now() + delay;
    if TIMER_DUE.get().is_none_or(|set| due < set) {
        TIMER_DUE.set(Some(due));
        host::set_timer(delay);
    }
}

impl Cluster {
    fn new(settings: GeneralSettings, config: ClientConfig) -> Self {
        let state = State {
            producer: None,
            reports: Arc::default(),
            lines: LineLimit::default(),
            losses: Losses::default(),
            in_flight: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            bounds: properties::queue_bounds(&config),
            refusals: 0,
            retry_at: None,
            create_at: None,
            serve_interval: SERVE_FIRST,
        };
        Self {
            settings,
            config,
            state: RefCell::new(state),
        }
    }

    /// Publishes a record, without waiting for anything.
    pub(crate) fn send(&self, record: Record) {
        let state = &mut *self.state.borrow_mut();
        let delay = match state.producer {
            None if state.create_at.is_none() => Duration::ZERO,
            _ => SERVE_FIRST,
        };
        if state.producer.is_some() && state.waiting.is_empty() {
            if let Err((error, record)) = state.produce(record) {
                state.refused(&self.settings, &error, *record);
            }
        } else {
            state.wait(record);
            if state.producer.is_none() && state.waiting.len() >= CREATE_AT_WAITING {
                self.create_if_due(state);
                state.retry(&self.settings);
            }
        }
        state.serve_interval = SERVE_FIRST;
        set_timer(delay);
    }

    /// Does what there is to do; says when to do it again.
    fn serve(&self) -> Option<Duration> {
        let state = &mut *self.state.borrow_mut();
        self.create_if_due(state);
        state.fetch_reports();
        state.retry(&self.settings);
        state.losses.tell(&self.settings.brokers);
        state.next_serve()
    }

    /// Creates the producer if records wait for it and no attempt has failed just now.
    fn create_if_due(&self, state: &mut State) {
        let is_due = state.create_at.is_none_or(|at| Instant::now() >= at);
        if state.producer.is_some() || state.waiting.is_empty() || !is_due {
            return;
        }
        host::bound_thread_memory();
        state.reports = Arc::default();
        let context = ReportsContext(Arc::clone(&state.reports));
        match self.config.create_with_context(context) {
            Ok(producer) => {
                state.producer = Some(producer);
                state.create_at = None;
            }
            Err(error) => {
                let brokers = &self.settings.brokers;
                let files = properties::unreadable_files(&self.config);
                host::log(
                    Level::Error,
                    &format!(
                        "cannot create a producer for `{brokers}`, trying again in a minute: {error}{files}"
                    ),
                );
                state.create_at = Some(Instant::now() + CREATE_AGAIN);
            }
        }
    }

    /// Waits until everything is delivered, at most for the configured time since `started`.
    fn flush(&self, started: Instant) {
        let state = &mut *self.state.borrow_mut();
        let deadline = started + self.settings.flush_time;
        loop {
            state.fetch_reports();
            state.retry(&self.settings);
            let Some(producer) = &state.producer else {
                break;
            };
            if (state.in_flight == 0 && state.waiting.is_empty()) || Instant::now() >= deadline {
                break;
            }
            // Also tells librdkafka not to linger. Its error is the time-out of this one step.
            let _ = producer.flush(Duration::from_millis(1));
        }
        let lost = state.in_flight + state.waiting.len() as u64;
        state
            .losses
            .add(lost, "not delivered before the process ended");
        state.losses.tell_now(&self.settings.brokers);
    }

    /// Destroys the producer in a thread: librdkafka joins its own threads, and they may hang.
    fn destroy(&self) -> Option<(mpsc::Receiver<()>, Instant)> {
        let state = &mut *self.state.borrow_mut();
        let producer = state.producer.take()?;
        let (done, is_done) = mpsc::channel();
        let spawned = host::spawn_without_signals("dovecast-destroy", move || {
            drop(producer);
            let _ = done.send(());
        });
        // Without a thread the producer was dropped right here, with the closure.
        spawned
            .ok()
            .map(|_| (is_done, Instant::now() + self.settings.destroy_time))
    }
}

impl State {
    /// Hands a record to librdkafka; it comes back if it is refused.
    fn produce(&mut self, record: Record) -> Result<(), (KafkaError, Box<Record>)> {
        let Some(producer) = &self.producer else {
            return Err((KafkaError::Canceled, Box::new(record)));
        };
        let Record {
            topic,
            key,
            value,
            headers,
        } = record;
        let base = BaseRecord::to(&topic)
            .key(&key)
            .payload(&value)
            .headers(headers);
        match producer.send(base) {
            Ok(()) => {
                self.in_flight += 1;
                Ok(())
            }
            Err((error, base)) => {
                let headers = base.headers.unwrap_or_default();
                let record = Record {
                    topic,
                    key,
                    value,
                    headers,
                };
                Err((error, Box::new(record)))
            }
        }
    }

    /// A record was refused: a full queue is worth another try, anything else is final.
    fn refused(&mut self, settings: &GeneralSettings, error: &KafkaError, record: Record) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
            self.losses.add(1, &error.to_string());
            return;
        }
        // Records leave the queue when their reports are fetched.
        self.fetch_reports();
        match self.produce(record) {
            Ok(()) => {}
            Err((_, record)) if settings.max_retries > 0 => {
                self.refusals = 0;
                self.retry_at = Some(Instant::now() + settings.retry_poll_time);
                self.wait(*record);
            }
            Err((error, _)) => self.losses.add(1, &error.to_string()),
        }
    }

    fn wait(&mut self, record: Record) {
        let bytes = record.bytes();
        if self.waiting.len() >= self.bounds.0 || self.waiting_bytes + bytes > self.bounds.1 {
            self.losses.add(1, "too many events wait to be queued");
            return;
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(record);
    }

    /// Hands over what waits, as far as librdkafka takes it and its time has come.
    fn retry(&mut self, settings: &GeneralSettings) {
        if self.producer.is_none() || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.retry_at = None;
        while let Some(record) = self.waiting.pop_front() {
            let bytes = record.bytes();
            self.waiting_bytes -= bytes;
            let Err((error, record)) = self.produce(record) else {
                self.refusals = 0;
                continue;
            };
            let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            if is_full && self.refusals < settings.max_retries {
                self.refusals += 1;
                self.retry_at = Some(Instant::now() + settings.retry_poll_time);
                self.waiting_bytes += bytes;
                self.waiting.push_front(*record);
                return;
            }
            self.refusals = 0;
            self.losses.add(1, &error.to_string());
        }
    }

    /// Fetches delivery reports and log lines.
    fn fetch_reports(&mut self) {
        let Some(producer) = &self.producer else {
            return;
        };
        for _ in 0..EVENTS_PER_SERVE {
            let before = self.reports.callbacks();
            producer.poll(Duration::ZERO);
            if self.reports.callbacks() == before {
                break;
            }
        }
        let news = self.reports.take();
        self.lines.log(news.lines, news.lines_dropped);
        let failed: u64 = news.failed.values().sum();
        if failed + news.delivered > 0 {
            self.serve_interval = SERVE_FIRST;
        }
        self.in_flight = self.in_flight.saturating_sub(news.delivered + failed);
        for (reason, events) in &news.failed {
            self.losses.add(*events, reason);
        }
        if let Some(reason) = news.fatal {
            self.give_up_producer(&reason);
        }
    }

    /// After a fatal error (only idempotent producers have them) the next record gets a new producer.
    fn give_up_producer(&mut self, reason: &str) {
        host::log(
            Level::Error,
            &format!("the producer failed for good, starting another one in a minute: {reason}"),
        );
        self.losses.add(std::mem::take(&mut self.in_flight), reason);
        self.create_at = Some(Instant::now() + CREATE_AGAIN);
        let producer = self.producer.take();
        if let Err(error) = host::spawn_without_signals("dovecast-destroy", move || drop(producer))
        {
            host::log(Level::Error, &format!("cannot start a thread: {error}"));
        }
    }

    fn next_serve(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.producer.is_none() {
            let create_at = self.create_at.filter(|_| !self.waiting.is_empty())?;
            return Some(create_at.saturating_duration_since(now));
        }
        if self.in_flight == 0 && self.waiting.is_empty() {
            return Some(SERVE_IDLE);
        }
        let interval = self.serve_interval;
        self.serve_interval = (interval * 2).min(SERVE_SLOWEST);
        let retry_in = self
            .retry_at
            .map_or(interval, |at| at.saturating_duration_since(now));
        Some(interval.min(retry_in))
    }
}
