//! A Kafka cluster as this process sees it: one producer, shared by all users and driver instances.
//!
//! A record only joins a queue here; all that concerns librdkafka happens in Dovecot's event loop,
//! after the client has its answer: creating the producer, handing over what waits, fetching
//! delivery reports and log lines. A command on a large mailbox and doveadm, which has no event
//! loop, do it between their events; it never waits for anything. Waiting happens only in
//! [`Cluster::flush`], at process exit.
//!
//! The order of records is kept through every error: librdkafka gets the next batch when all of the
//! one before is delivered. With more in its hands it would repeat a refused request after one that
//! it has formed meanwhile.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dovecast_dovecot_sys::host::{self, Level};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};

use super::properties::{self, PropertyError};
use super::queue::Queue;
use super::reports::{Reports, ReportsContext};
use crate::losses::{LineLimit, Losses};
use crate::record::Record;
use crate::transport;
use dovecast_options::GeneralSettings;

/// A producer that could not be created is tried again after this time.
const CREATE_AGAIN: Duration = Duration::from_mins(1);
/// After so many records of one command librdkafka is looked after between two of them.
const RECORDS_PER_LOOK: usize = 500;
/// How often delivery reports are fetched: at first, and when nothing comes.
const SERVE_FIRST: Duration = Duration::from_millis(4);
const SERVE_SLOWEST: Duration = Duration::from_secs(1);
/// How often log lines are fetched while nothing is in flight; librdkafka keeps them until then.
const SERVE_IDLE: Duration = Duration::from_secs(30);
const QUEUE_FULL: &str =
    "Local: Queue full (queue.buffering.max.messages, queue.buffering.max.kbytes)";
/// Events fetched in one go; the rest comes with the next turn of the event loop.
const EVENTS_PER_SERVE: usize = 256;

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
    in_flight: usize,
    /// Records that librdkafka has not got yet.
    queue: Queue<Record>,
    /// What librdkafka gets at a time: so many records and bytes make one request to a partition.
    batch: (usize, usize),
    create_at: Option<Instant>,
    serve_interval: Duration,
}

impl Cluster {
    /// The cluster that `settings` name; nothing is started yet.
    pub(crate) fn new(settings: GeneralSettings) -> Result<Self, PropertyError> {
        let config = properties::client_config(&settings)?;
        let (records, bytes) = properties::queue_bounds(&config);
        let patience = settings
            .retry_poll_time
            .saturating_mul(settings.max_retries);
        let state = State {
            producer: None,
            reports: Arc::default(),
            lines: LineLimit::default(),
            losses: Losses::default(),
            in_flight: 0,
            queue: Queue::new(records, bytes, patience),
            batch: properties::batch_bounds(&config),
            create_at: None,
            serve_interval: SERVE_FIRST,
        };
        Ok(Self {
            settings,
            config,
            state: RefCell::new(state),
        })
    }

    /// Takes a record over, to be published from the event loop.
    pub(crate) fn send(&self, record: Record) {
        let state = &mut *self.state.borrow_mut();
        let bytes = record.bytes();
        if !state
            .queue
            .push(record, bytes, state.in_flight, Instant::now())
        {
            state.losses.add(1, QUEUE_FULL);
        }
        if state.queue.len().is_multiple_of(RECORDS_PER_LOOK) {
            // The event loop is far away: one command has made all these.
            self.advance(state);
        }
        state.serve_interval = SERVE_FIRST;
        let can_go_on = state.in_flight == 0 && state.create_at.is_none();
        transport::set_timer(if can_go_on {
            Duration::ZERO
        } else {
            SERVE_FIRST
        });
    }

    /// Does what there is to do; says when to do it again.
    pub(crate) fn serve(&self) -> Option<Duration> {
        let state = &mut *self.state.borrow_mut();
        self.advance(state);
        state.losses.tell(&self.settings.brokers);
        state.next_serve(self.settings.retry_poll_time)
    }

    /// Goes on as far as possible without waiting.
    fn advance(&self, state: &mut State) {
        self.create_if_due(state);
        state.fetch_reports();
        state.hand_over();
        let expired = state.queue.take_back(state.in_flight, Instant::now());
        state.losses.add(expired as u64, QUEUE_FULL);
    }

    /// The process ends: a producer that is not there yet begins to connect while others flush.
    pub(crate) fn begin_flush(&self) {
        self.create_if_due(&mut self.state.borrow_mut());
    }

    /// Creates the producer if records wait for it and no attempt has failed just now.
    fn create_if_due(&self, state: &mut State) {
        let is_due = state.create_at.is_none_or(|at| Instant::now() >= at);
        if state.producer.is_some() || state.queue.is_empty() || !is_due {
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
    pub(crate) fn flush(&self, started: Instant) {
        let state = &mut *self.state.borrow_mut();
        let deadline = started + self.settings.flush_time;
        loop {
            self.advance(state);
            let Some(producer) = &state.producer else {
                break;
            };
            if (state.in_flight == 0 && state.queue.is_empty()) || Instant::now() >= deadline {
                break;
            }
            // Also tells librdkafka not to linger. Its error is the time-out of this one step.
            let _ = producer.flush(Duration::from_millis(1));
        }
        let lost = state.in_flight + state.queue.len();
        state
            .losses
            .add(lost as u64, "not delivered before the process ended");
        state.losses.tell_now(&self.settings.brokers);
    }

    /// Destroys the producer in a thread: librdkafka joins its own threads, and they may hang.
    pub(crate) fn destroy(&self) -> Option<(mpsc::Receiver<()>, Instant)> {
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
    /// Gives librdkafka the next batch, once it is through with the one before.
    fn hand_over(&mut self) {
        let Some(producer) = &self.producer else {
            return;
        };
        if self.in_flight > 0 {
            return;
        }
        let mut bytes = 0;
        let (batch_records, batch_bytes) = self.batch;
        while self.in_flight < batch_records {
            let Some(record) = self.queue.pop() else {
                break;
            };
            bytes += record.request_bytes();
            let is_full = self.in_flight > 0 && bytes > batch_bytes;
            let refusal = if is_full {
                None
            } else {
                producer.send(record.to_kafka()).err()
            };
            match refusal {
                None if !is_full => self.in_flight += 1,
                Some((error, _)) if self.in_flight == 0 || !is_queue_full(&error) => {
                    self.losses.add(1, &error.to_string());
                }
                // The batch is complete, or librdkafka's own queue is smaller than a batch.
                _ => {
                    let size = record.bytes();
                    self.queue.put_back(record, size);
                    break;
                }
            }
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
        let reported = usize::try_from(failed + news.delivered).unwrap_or(usize::MAX);
        if reported > 0 {
            self.serve_interval = SERVE_FIRST;
        }
        self.in_flight = self.in_flight.saturating_sub(reported);
        for (reason, events) in &news.failed {
            self.losses.add(*events, reason);
        }
        if let Some(reason) = news.fatal {
            self.give_up_producer(&reason);
        }
    }

    /// After a fatal error (only idempotent producers have them) the next record gets a new
    /// producer.
    fn give_up_producer(&mut self, reason: &str) {
        host::log(
            Level::Error,
            &format!("the producer failed for good, starting another one in a minute: {reason}"),
        );
        let lost = std::mem::take(&mut self.in_flight);
        self.losses.add(lost as u64, reason);
        self.create_at = Some(Instant::now() + CREATE_AGAIN);
        let producer = self.producer.take();
        if let Err(error) = host::spawn_without_signals("dovecast-destroy", move || drop(producer))
        {
            host::log(Level::Error, &format!("cannot start a thread: {error}"));
        }
    }

    fn next_serve(&mut self, retry_poll_time: Duration) -> Option<Duration> {
        let now = Instant::now();
        if self.producer.is_none() {
            let create_at = self.create_at.filter(|_| !self.queue.is_empty())?;
            return Some(create_at.saturating_duration_since(now));
        }
        if self.in_flight == 0 && self.queue.is_empty() {
            return Some(SERVE_IDLE);
        }
        let interval = self.serve_interval;
        self.serve_interval = (interval * 2).min(SERVE_SLOWEST);
        let is_overfull = self.queue.is_overfull();
        Some(if is_overfull {
            interval.min(retry_poll_time)
        } else {
            interval
        })
    }
}

fn is_queue_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}
