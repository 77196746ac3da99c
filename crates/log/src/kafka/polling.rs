//! What consumers and readers have in common: a thread polls librdkafka and puts records into a
//! bounded channel.
//!
//! The channel is bounded in bytes; while it is full the partitions are paused, and polling goes
//! on, as the group asks for it. Where a partition is taken away, what was fetched of it and not
//! handed out is dropped: whoever has it now gets it. Records that were removed before they were
//! read are found by their offsets, see [`super::gaps`]. A consumer that has failed for good is
//! replaced by a new one, which goes on where that one was.

mod replacing;
mod silent;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::assigned::{Assigned, Context};
use super::ends::EndChecks;
use super::gaps::{Asking, Found, Gaps};
use super::renewal::Renewal;
use super::source::{Current, Fetched, Item, Source, create};
use super::{Counters, KafkaOptions, REQUEST};
use crate::{Budget, LineLimit, LogError, Record, TopicPartition};

/// Records that are fetched and not handed out, at most.
const FETCHED_RECORDS: usize = 10_000;
/// Records that are handed out at a time, at most, and when no more are added to them.
const BATCH_RECORDS: usize = 2_000;
const BATCH_BYTES: usize = 1024 * 1024;
/// How long one poll waits: a consumer that is dropped ends within it.
const POLL: Duration = Duration::from_millis(100);
/// How long one poll waits while there is no room for what was fetched.
const POLL_PAUSED: Duration = Duration::from_millis(10);
/// How long the cluster may take to say what the oldest offset of a partition is; meanwhile nothing
/// is polled.
const OLDEST_OFFSET: Duration = Duration::from_secs(3);

/// A consumer that a thread polls.
pub(super) struct Polled {
    pub(super) options: KafkaOptions,
    pub(super) consumer: Current,
    pub(super) assigned: Arc<Assigned>,
    records: mpsc::Receiver<Result<Fetched, LogError>>,
    /// What came behind the records that were handed out last.
    failed: Option<LogError>,
    is_over: Arc<AtomicBool>,
    /// The assignment, by its number, of what was last handed out of each partition.
    pub(super) handed_out: HashMap<TopicPartition, u64>,
}

impl Drop for Polled {
    fn drop(&mut self) {
        // The thread leaves the group and ends.
        self.is_over.store(true, Ordering::Release);
    }
}

impl Polled {
    pub(super) fn start(
        options: &KafkaOptions,
        counters: &Arc<Counters>,
        mut source: impl Source,
    ) -> Result<Self, LogError> {
        let assigned = Arc::<Assigned>::default();
        let mut gaps = Gaps::default();
        let consumer = create(options, source.group(), &assigned)
            .and_then(|made| source.begin(&made, &mut gaps).map(|()| Arc::new(made)))
            .map_err(|error| options.io("make a client of", &error))?;
        let current = Current::new(&consumer);
        let (sender, records) = mpsc::channel(FETCHED_RECORDS);
        let is_over = Arc::new(AtomicBool::new(false));
        let polling = Polling {
            options: options.clone(),
            counters: Arc::clone(counters),
            budget: source.budget(),
            source,
            current: current.clone(),
            consumer,
            assigned: Arc::clone(&assigned),
            gaps,
            asking: Asking::default(),
            sender,
            held: VecDeque::new(),
            is_paused: false,
            lines: LineLimit::default(),
            renewal: Renewal::new(Instant::now()),
            ends: EndChecks::new(Instant::now()),
            is_over: Arc::clone(&is_over),
        };
        let polled = Self {
            options: options.clone(),
            consumer: current,
            assigned,
            records,
            failed: None,
            is_over,
            handed_out: HashMap::new(),
        };
        std::thread::Builder::new()
            .name("kafka-consumer".to_owned())
            .spawn(move || polling.run())
            .map_err(|error| LogError::Io {
                doing: "start a consumer of",
                place: polled.options.brokers.clone(),
                reason: error.to_string(),
            })?;
        Ok(polled)
    }

    /// The next records that are wanted.
    pub(super) async fn next(
        &mut self,
        is_wanted: impl Fn(&Assigned, &Fetched) -> bool,
    ) -> Result<Vec<Record>, LogError> {
        loop {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let mut records = Vec::new();
            let mut bytes = 0;
            let mut received = self.records.recv().await;
            if received.is_none() {
                return Err(LogError::Closed);
            }
            while let Some(fetched) = received.take() {
                match fetched {
                    Ok(fetched) if is_wanted(&self.assigned, &fetched) => {
                        if let Some(record) = self.hand_out(fetched) {
                            bytes += record.memory_bytes();
                            records.push(record);
                        }
                    }
                    Ok(_) => {}
                    Err(error) => self.failed = Some(error),
                }
                if self.failed.is_none() && records.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
                    received = self.records.try_recv().ok();
                }
            }
            if !records.is_empty() {
                return Ok(records);
            }
        }
    }

    /// A record; what is none is returned as an error, behind the records before it.
    fn hand_out(&mut self, Fetched { at, item, .. }: Fetched) -> Option<Record> {
        self.handed_out.insert(item.partition(), at);
        match item {
            Item::Record(record) => Some(record),
            Item::Expired { of, offsets } => {
                self.failed = Some(LogError::Expired {
                    topic: of.topic.to_string(),
                    partition: of.partition,
                    offsets,
                });
                None
            }
        }
    }
}

/// The polling thread's side.
struct Polling<S> {
    options: KafkaOptions,
    counters: Arc<Counters>,
    budget: Budget,
    source: S,
    current: Current,
    consumer: Arc<BaseConsumer<Context>>,
    assigned: Arc<Assigned>,
    gaps: Gaps,
    asking: Asking,
    sender: mpsc::Sender<Result<Fetched, LogError>>,
    /// What there was no room for.
    held: VecDeque<Result<Fetched, LogError>>,
    is_paused: bool,
    lines: LineLimit,
    renewal: Renewal,
    ends: EndChecks,
    is_over: Arc<AtomicBool>,
}

impl<S: Source> Polling<S> {
    fn run(mut self) {
        while self.goes_on() {
            self.source.look(&self.consumer, &mut self.gaps);
            self.hand_over();
            self.pause();
            self.poll();
            self.ask_about_gaps();
            self.look_for_silent_partitions();
        }
    }

    /// Whether anybody still listens.
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Acquire) && !self.sender.is_closed()
    }

    fn hand_over(&mut self) {
        while let Some(fetched) = self.held.pop_front() {
            if let Err(TrySendError::Full(fetched)) = self.sender.try_send(fetched) {
                self.held.push_front(fetched);
                return;
            }
        }
    }

    fn poll(&mut self) {
        let wait = if self.is_paused { POLL_PAUSED } else { POLL };
        let consumer = Arc::clone(&self.consumer);
        let mut fatal = None;
        match consumer.poll(wait) {
            None => {}
            Some(Ok(message)) => self.take(&message),
            Some(Err(error)) if consumer.client().fatal_error().is_some() => fatal = Some(error),
            Some(Err(error)) if passes(&error) => self.log(&error),
            Some(Err(error)) => self.held.push_back(Err(self.options.io("read", &error))),
        }
        // Its end may take a while, and is not for this thread.
        drop(consumer);
        if let Some(error) = fatal {
            self.renew(&error);
        }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let record = super::records::record(message);
        // Assignments change within `poll` only.
        let at = self.assigned.latest();
        if let Some(since) = self.since(&record.topic, record.partition) {
            self.follow(&record, since);
        }
        self.hold(at, record.memory_bytes(), Item::Record(record));
    }

    /// The assignment in which a partition became ours; readers have none.
    fn since(&self, topic: &str, partition: u32) -> Option<u64> {
        match self.assigned.latest() {
            0 => Some(0),
            _ => self.assigned.since(topic, partition),
        }
    }

    fn hold(&mut self, at: u64, bytes: usize, item: Item) {
        self.held.push_back(Ok(Fetched {
            at,
            item,
            _held: self.budget.hold(bytes),
        }));
    }

    /// Looks whether a record is the next of its partition, before it is handed over.
    fn follow(&mut self, record: &Record, since: u64) {
        let (topic, partition) = (&record.topic, record.partition);
        if !self.gaps.knows(topic, partition, since) {
            let found = self
                .source
                .find_begin(&self.consumer, &self.assigned, &mut self.gaps);
            if let Err(error) = found {
                tracing::warn!(
                    %error, group = self.source.group(),
                    "kafka does not answer what a group has committed; records that were removed before they were read are not noticed"
                );
            }
        }
        match self.gaps.note(topic, partition, since, record.offset) {
            Found::Next => {}
            Found::Back { expected } => tracing::warn!(
                topic = &**topic,
                partition,
                expected,
                found = record.offset,
                "a partition goes back: it was truncated, restored or made anew; it is read again from there"
            ),
            Found::Gap => {
                let now = Instant::now();
                if self.asking.may(now) && self.gaps.is_due(topic, partition, now) {
                    self.ask(topic, partition);
                }
            }
        }
    }

    /// Asks about all gaps that are due, until one is not answered: meanwhile nothing is polled.
    fn ask_about_gaps(&mut self) {
        for of in self.gaps.due(Instant::now()) {
            if !self.asking.may(Instant::now()) {
                return;
            }
            self.ask(&of.topic, of.partition);
        }
    }

    /// Asks for the oldest offset of a partition: what is missing before that was removed.
    fn ask(&mut self, topic: &Arc<str>, partition: u32) {
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let asked = self
            .consumer
            .fetch_watermarks(topic, number, OLDEST_OFFSET.min(REQUEST));
        let is_answered = asked.as_ref().err().is_none_or(is_an_answer);
        self.asking.noted(is_answered, Instant::now());
        let oldest = match asked {
            Ok((low, _)) => u64::try_from(low).ok(),
            Err(error) => {
                self.log(&error);
                None
            }
        };
        let at = self.assigned.latest();
        for offsets in self.gaps.answered(topic, partition, oldest, Instant::now()) {
            tracing::error!(
                topic = &**topic,
                partition,
                from = offsets.start,
                to = offsets.end,
                "records were removed from the log before they were read"
            );
            let of = TopicPartition {
                topic: Arc::clone(topic),
                partition,
            };
            let expired = Item::Expired { of, offsets };
            self.hold(at, 0, expired);
        }
    }

    /// All that is assigned now; what is assigned later is paused when something of it has come.
    /// What librdkafka has fetched of paused partitions it fetches again, so reading goes on only
    /// when there is room for much of it.
    fn pause(&mut self) {
        let has_room = self.held.is_empty()
            && if self.is_paused {
                self.budget.is_half_free() && self.sender.capacity() >= FETCHED_RECORDS / 2
            } else {
                !self.budget.is_spent()
            };
        if has_room && !self.is_paused {
            return;
        }
        let changed = self.consumer.assignment().and_then(|list| {
            if has_room {
                self.consumer.resume(&list)
            } else {
                self.consumer.pause(&list)
            }
        });
        match changed {
            Ok(()) => self.is_paused = !has_room,
            Err(error) => self.log(&error),
        }
    }

    fn log(&mut self, error: &KafkaError) {
        if self.lines.take() {
            tracing::warn!(%error, "kafka cannot be read; the read is retried");
        }
    }
}

/// Whether librdkafka goes on by itself.
pub(super) fn passes(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::PollExceeded
                | Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
        )
    )
}

/// Whether the cluster has answered, though with an error.
fn is_an_answer(error: &KafkaError) -> bool {
    !matches!(
        error.rdkafka_error_code(),
        Some(
            Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::AllBrokersDown
                | Code::BrokerTransportFailure
        )
    )
}
