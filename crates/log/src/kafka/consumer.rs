//! Consumers and readers: each is polled by a thread of its own, which puts records into a bounded channel.
//!
//! Where a partition is taken away, what was fetched of it and not handed out is dropped: whoever has it now gets it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{KafkaOptions, blocking, status};
use crate::{Consumer, Header, LogError, Position, Reader, Record, StartAt};

/// Records that are fetched and not handed out.
const FETCHED: usize = 10_000;
/// Records that are handed out at a time.
const BATCH: usize = 2_000;
/// How long one poll waits: a consumer that is dropped ends within it.
const POLL: Duration = Duration::from_millis(100);
/// The same while there is no room for what was fetched.
const HELD: Duration = Duration::from_millis(10);
/// How often trouble is told of.
const REPEAT: Duration = Duration::from_mins(1);
/// How often a reader looks for its topic while it is not there.
const SOON: Duration = Duration::from_millis(200);
/// How often a reader looks for new partitions of its topic.
const LOOK: Duration = Duration::from_secs(5);

/// How often, and how soon after each other, a commit is tried while the group rebalances: 30 s together.
const COMMIT_TRIES: u32 = 150;
const COMMIT_AGAIN: Duration = Duration::from_millis(200);

const DEFAULTS: [(&str, &str); 6] = [
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "earliest"),
    ("isolation.level", "read_committed"),
    ("fetch.wait.max.ms", "50"),
];

/// Partitions that are ours now, and since when: each assignment has a number of its own, so that what was fetched of a
/// partition before it went away and came back is not taken for what comes now.
#[derive(Default)]
struct Assigned(Mutex<Assignments>);

#[derive(Default)]
struct Assignments {
    latest: u64,
    since: HashMap<String, HashMap<i32, u64>>,
}

impl Assigned {
    fn lock(&self) -> MutexGuard<'_, Assignments> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, list: &TopicPartitionList, are_ours: bool) {
        let mut assigned = self.lock();
        assigned.latest += 1;
        let latest = assigned.latest;
        for element in list.elements() {
            let topic = assigned.since.entry(element.topic().to_owned());
            let topic = topic.or_default();
            if are_ours {
                topic.insert(element.partition(), latest);
            } else {
                topic.remove(&element.partition());
            }
        }
    }

    /// The number of the latest assignment.
    fn latest(&self) -> u64 {
        self.lock().latest
    }

    /// Leaves out records that are not ours (any more).
    fn retain(&self, records: &mut Vec<Fetched>) {
        let assigned = self.lock();
        records.retain(|fetched| {
            assigned.contains(&fetched.record.topic, fetched.record.partition, fetched.at)
        });
    }
}

impl Assignments {
    /// Whether a partition was ours at an assignment, and still is.
    fn contains(&self, topic: &str, partition: u32, at: u64) -> bool {
        let since = || {
            let partition = i32::try_from(partition).ok()?;
            self.since.get(topic)?.get(&partition)
        };
        since().is_some_and(|since| *since <= at)
    }
}

/// A record, and the number of the latest assignment when it was fetched.
struct Fetched {
    at: u64,
    record: Record,
}

struct Context {
    assigned: Arc<Assigned>,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            tracing::info!(partitions = list.count(), "partitions are taken away");
            self.assigned.change(list, false);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            tracing::info!(partitions = list.count(), "partitions are assigned");
            self.assigned.change(list, true);
        }
    }
}

/// A consumer that a thread polls.
struct Polled {
    options: KafkaOptions,
    consumer: Arc<BaseConsumer<Context>>,
    assigned: Arc<Assigned>,
    records: mpsc::Receiver<Result<Fetched, LogError>>,
    is_over: Arc<AtomicBool>,
    /// The assignment, by its number, of what was last handed out of each partition.
    handed_out: HashMap<(Arc<str>, u32), u64>,
}

/// The polling thread's side.
struct Polling {
    options: KafkaOptions,
    consumer: Arc<BaseConsumer<Context>>,
    assigned: Arc<Assigned>,
    sender: mpsc::Sender<Result<Fetched, LogError>>,
    /// What there was no room for; the partitions are paused then, and polling goes on, as the group asks for it.
    held: VecDeque<Result<Fetched, LogError>>,
    is_paused: bool,
    told: Option<Instant>,
}

impl Polling {
    /// `false`: nobody listens any more.
    fn step(&mut self) -> bool {
        while let Some(fetched) = self.held.pop_front() {
            match self.sender.try_send(fetched) {
                Ok(()) => {}
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(fetched)) => {
                    self.held.push_front(fetched);
                    break;
                }
            }
        }
        self.pause(!self.held.is_empty());
        let wait = if self.is_paused { HELD } else { POLL };
        match self.consumer.poll(wait) {
            None => {}
            // Assignments change within `poll` only.
            Some(Ok(message)) => self.held.push_back(Ok(Fetched {
                at: self.assigned.latest(),
                record: record(&message),
            })),
            Some(Err(error)) if passes(&error) => self.tell(&error),
            Some(Err(error)) => self.held.push_back(Err(self.options.io("read", &error))),
        }
        !self.sender.is_closed()
    }

    /// All that is assigned now; what is assigned later is paused when something of it has come.
    fn pause(&mut self, is_full: bool) {
        if !is_full && !self.is_paused {
            return;
        }
        let changed = self.consumer.assignment().and_then(|list| {
            if is_full {
                self.consumer.pause(&list)
            } else {
                self.consumer.resume(&list)
            }
        });
        match changed {
            Ok(()) => self.is_paused = is_full,
            Err(error) => self.tell(&error),
        }
    }

    fn tell(&mut self, error: &KafkaError) {
        if self.told.is_none_or(|told| told.elapsed() >= REPEAT) {
            self.told = Some(Instant::now());
            tracing::warn!(%error, "kafka cannot be read now, it is tried again");
        }
    }
}

/// Whether librdkafka goes on by itself.
fn passes(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
        )
    )
}

impl Drop for Polled {
    fn drop(&mut self) {
        // The thread leaves the group and ends.
        self.is_over.store(true, Ordering::Release);
    }
}

impl Polled {
    fn start(
        options: &KafkaOptions,
        group: &str,
        begin: impl FnOnce(&BaseConsumer<Context>) -> Result<(), LogError>,
        mut look: impl FnMut(&BaseConsumer<Context>) + Send + 'static,
    ) -> Result<Self, LogError> {
        let assigned = Arc::<Assigned>::default();
        let context = Context {
            assigned: Arc::clone(&assigned),
        };
        let mut defaults = DEFAULTS.to_vec();
        defaults.push(("group.id", group));
        let consumer: BaseConsumer<Context> = options
            .client_config(&defaults)
            .create_with_context(context)
            .map_err(|error| options.io("connect to", &error))?;
        begin(&consumer)?;
        let consumer = Arc::new(consumer);
        let (sender, records) = mpsc::channel(FETCHED);
        let is_over = Arc::new(AtomicBool::new(false));
        let polled = Self {
            options: options.clone(),
            consumer: Arc::clone(&consumer),
            assigned: Arc::clone(&assigned),
            records,
            is_over: Arc::clone(&is_over),
            handed_out: HashMap::new(),
        };
        let mut polling = Polling {
            options: options.clone(),
            consumer,
            assigned,
            sender,
            held: VecDeque::new(),
            is_paused: false,
            told: None,
        };
        std::thread::Builder::new()
            .name("kafka-consumer".to_owned())
            .spawn(move || {
                while !is_over.load(Ordering::Acquire) {
                    look(&polling.consumer);
                    if !polling.step() {
                        break;
                    }
                }
            })
            .map_err(|error| LogError::Io {
                doing: "start a consumer of",
                place: polled.options.brokers.clone(),
                reason: error.to_string(),
            })?;
        Ok(polled)
    }

    /// The next records that `choose` leaves.
    async fn next(
        &mut self,
        choose: impl Fn(&Assigned, &mut Vec<Fetched>),
    ) -> Result<Vec<Record>, LogError> {
        loop {
            let mut batch = match self.records.recv().await {
                None => return Err(LogError::Closed),
                Some(Err(error)) => return Err(error),
                Some(Ok(fetched)) => vec![fetched],
            };
            let mut failed = None;
            while batch.len() < BATCH
                && failed.is_none()
                && let Ok(fetched) = self.records.try_recv()
            {
                match fetched {
                    Ok(fetched) => batch.push(fetched),
                    // It is told again, or over.
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                tracing::warn!(%error, "kafka");
            }
            choose(&self.assigned, &mut batch);
            for fetched in &batch {
                let place = (Arc::clone(&fetched.record.topic), fetched.record.partition);
                self.handed_out.insert(place, fetched.at);
            }
            if !batch.is_empty() {
                return Ok(batch.into_iter().map(|fetched| fetched.record).collect());
            }
        }
    }
}

/// See [`Log::consumer`](crate::Log::consumer).
pub struct KafkaConsumer(Polled);

impl KafkaConsumer {
    pub(super) fn start(
        options: &KafkaOptions,
        group: &str,
        topics: &[String],
    ) -> Result<Self, LogError> {
        let subscribe = |consumer: &BaseConsumer<Context>| {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            consumer
                .subscribe(&topics)
                .map_err(|error| options.io("subscribe to topics of", &error))
        };
        Polled::start(options, group, subscribe, |_| {}).map(Self)
    }
}

impl Consumer for KafkaConsumer {
    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        self.0.next(Assigned::retain).await
    }

    async fn commit(&mut self, positions: &[Position]) -> Result<(), LogError> {
        let mut tries = 1;
        loop {
            // Asked anew each time: a rebalance may have taken partitions away.
            let list = self.ours(positions)?;
            if list.count() == 0 {
                return Ok(());
            }
            let consumer = Arc::clone(&self.0.consumer);
            let options = self.0.options.clone();
            let committed = blocking(move || {
                Ok(match consumer.commit(&list, CommitMode::Sync) {
                    Err(error) if is_rebalancing(&error) => Err(error),
                    done => Ok(done.map_err(|error| options.io("commit to", &error))?),
                })
            });
            match committed.await? {
                Ok(()) => return Ok(()),
                Err(error) if tries == COMMIT_TRIES => {
                    return Err(self.0.options.io("commit to", &error));
                }
                Err(_) => tries += 1,
            }
            tokio::time::sleep(COMMIT_AGAIN).await;
        }
    }
}

impl KafkaConsumer {
    /// Those of the positions whose partitions this consumer has.
    fn ours(&self, positions: &[Position]) -> Result<TopicPartitionList, LogError> {
        let mut list = TopicPartitionList::new();
        let assigned = self.0.assigned.lock();
        for position in positions {
            let place = (Arc::clone(&position.topic), position.partition);
            let handed_out = self.0.handed_out.get(&place);
            // One that went away and came back is where whoever had it meanwhile has committed.
            let is_ours = handed_out
                .is_some_and(|at| assigned.contains(&position.topic, position.partition, *at));
            if !is_ours {
                continue;
            }
            let partition = i32::try_from(position.partition).unwrap_or(i32::MAX);
            let offset = i64::try_from(position.offset).unwrap_or(i64::MAX);
            list.add_partition_offset(&position.topic, partition, Offset::Offset(offset))
                .map_err(|error| self.0.options.io("commit to", &error))?;
        }
        Ok(list)
    }
}

/// Whether a commit came while the group gives its partitions out anew: it is right again in a moment, or not ours any more.
fn is_rebalancing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::IllegalGeneration | Code::RebalanceInProgress | Code::UnknownMemberId)
    )
}

/// See [`Log::reader`](crate::Log::reader).
pub struct KafkaReader(Polled);

impl KafkaReader {
    /// Asks the cluster, and waits for the answer: the place is fixed when this returns. Where it is away the place is found
    /// later.
    pub(super) fn start(
        options: &KafkaOptions,
        topic: &str,
        start: StartAt,
    ) -> Result<Self, LogError> {
        let partitions = Arc::new(Mutex::new(Partitions {
            topic: topic.to_owned(),
            start,
            known: BTreeSet::new(),
            looked: None,
        }));
        let first = Arc::clone(&partitions);
        let look = |partitions: &Mutex<Partitions>, consumer: &BaseConsumer<Context>| {
            let mut partitions = partitions.lock().unwrap_or_else(PoisonError::into_inner);
            partitions.look(consumer);
        };
        let begin = move |consumer: &BaseConsumer<Context>| {
            look(&first, consumer);
            Ok(())
        };
        let again = move |consumer: &BaseConsumer<Context>| look(&partitions, consumer);
        Polled::start(options, "dovecast-reader", begin, again).map(Self)
    }
}

/// The partitions of a reader's topic.
struct Partitions {
    topic: String,
    /// Where those begin that are not known yet.
    start: StartAt,
    known: BTreeSet<i32>,
    looked: Option<Instant>,
}

impl Partitions {
    /// Assigns those that are new, if it is time to look.
    fn look(&mut self, consumer: &BaseConsumer<Context>) {
        // Until the topic is there it is looked for soon again.
        let interval = if self.known.is_empty() { SOON } else { LOOK };
        if self
            .looked
            .is_some_and(|looked| looked.elapsed() < interval)
        {
            return;
        }
        self.looked = Some(Instant::now());
        match self.assign_new(consumer) {
            // What is made from now on is read from its beginning.
            Ok(()) => self.start = StartAt::Beginning,
            Err(error) => {
                tracing::warn!(%error, topic = self.topic, "a topic cannot be looked for");
            }
        }
    }

    fn assign_new(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), KafkaError> {
        let ids = status::partitions(consumer, &self.topic)?;
        let mut list = TopicPartitionList::new();
        for id in ids.iter().filter(|id| !self.known.contains(id)) {
            let offset = status::offset(consumer, (&self.topic, *id), self.start)?;
            list.add_partition_offset(&self.topic, *id, Offset::Offset(offset))?;
        }
        if list.count() > 0 {
            consumer.incremental_assign(&list)?;
            self.known.extend(ids);
        }
        Ok(())
    }
}

impl KafkaReader {
    /// Reads one partition.
    pub(super) fn at(options: &KafkaOptions, position: &Position) -> Result<Self, LogError> {
        let failed = |error: KafkaError| options.io("read", &error);
        let mut list = TopicPartitionList::new();
        let partition = i32::try_from(position.partition).unwrap_or(i32::MAX);
        let offset = i64::try_from(position.offset).unwrap_or(i64::MAX);
        list.add_partition_offset(&position.topic, partition, Offset::Offset(offset))
            .map_err(failed)?;
        let assign = |consumer: &BaseConsumer<Context>| consumer.assign(&list).map_err(failed);
        Polled::start(options, "dovecast-reader", assign, |_| {}).map(Self)
    }
}

impl Reader for KafkaReader {
    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        self.0.next(|_, _| {}).await
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    // rdkafka panics on a name that is not UTF-8.
    let headers = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| headers(message)));
    let headers = headers.unwrap_or_else(|_| {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        tracing::warn!(
            topic,
            partition,
            offset,
            "a record has headers whose names are not UTF-8, it is read without them"
        );
        Vec::new()
    });
    Record {
        topic: Arc::from(message.topic()),
        partition: u32::try_from(message.partition()).unwrap_or(0),
        offset: u64::try_from(message.offset()).unwrap_or(0),
        key: message.key().map(Bytes::copy_from_slice),
        value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        headers,
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
    }
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let header = |header: rdkafka::message::Header<'_, &[u8]>| Header {
        name: Arc::from(header.key),
        value: Bytes::copy_from_slice(header.value.unwrap_or_default()),
    };
    let headers = message.headers();
    headers
        .map(|headers| headers.iter().map(header).collect())
        .unwrap_or_default()
}
