//! The producer: hands records over, waits until all are delivered.
//!
//! Nothing expires: while the cluster is away, or does not take the records of a topic, an append
//! waits, and only what was not delivered is handed over again. A broker judges whole batches: what
//! was in one that is too large or invalid is handed over alone, and only a record that is refused
//! alone is left out, and counted. After a fatal error of the idempotent producer there is a new
//! one.
//!
//! Records of an append stay in order through every error: librdkafka gets what makes one request
//! to a partition, and more only when all of that is delivered. With more in its hands it would
//! send what it has formed meanwhile before what was refused and is handed over again.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use tokio::sync::Notify;

use super::library_log::{self, ClientErrors};
use super::window::Window;
use super::{Counters, KafkaOptions};
use crate::{Appended, LineLimit, LogError, NewRecord, Refusal, now_ms};

/// How long until a full queue is tried again.
const QUEUE_FULL: Duration = Duration::from_millis(2);
/// How long until what failed is handed over again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_SLOWEST: Duration = Duration::from_secs(5);

const DEFAULTS: [(&str, &str); 6] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("message.timeout.ms", "0"),
    // Longer than it takes to hand a window over, which is one request then.
    ("linger.ms", "5"),
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "131072"),
];

type Producer = ThreadedProducer<Context>;

/// The present producer, and how to make another one.
#[derive(Clone)]
pub(super) struct Producers {
    options: Arc<KafkaOptions>,
    current: Arc<Mutex<Arc<Producer>>>,
    counters: Arc<Counters>,
    window: Window,
}

/// Records that were handed over together.
struct Pending {
    left: AtomicUsize,
    /// By place; what is not there yet is delivered if it does not come.
    outcomes: Mutex<Vec<(usize, Outcome)>>,
    done: Notify,
}

/// What became of a record that was not delivered.
enum Outcome {
    /// The record will never be taken.
    Refused(KafkaError),
    /// Something in its batch will never be taken, perhaps itself.
    Alone(KafkaError),
    /// The record may be taken later.
    Retry(KafkaError),
}

#[derive(Default)]
struct Context(ClientErrors);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        library_log::line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // librdkafka goes on by itself; what it cannot do comes back as a delivery.
        self.0.note(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<(Arc<Pending>, usize)>;

    fn delivery(&self, result: &DeliveryResult<'_>, of: Box<(Arc<Pending>, usize)>) {
        let (pending, place) = *of;
        if let Err((error, _)) = result {
            let outcome = match error.rdkafka_error_code() {
                Some(
                    Code::MessageSizeTooLarge
                    | Code::InvalidMessage
                    | Code::InvalidMessageSize
                    | Code::InvalidRecord
                    | Code::InvalidDifferentRecord,
                ) => Outcome::Alone(error.clone()),
                _ => Outcome::Retry(error.clone()),
            };
            pending.note(place, outcome);
        }
        pending.finish(1);
    }
}

impl Pending {
    fn note(&self, place: usize, outcome: Outcome) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.push((place, outcome));
    }

    fn finish(&self, records: usize) {
        if self.left.fetch_sub(records, Ordering::AcqRel) == records {
            self.done.notify_one();
        }
    }
}

impl Producers {
    pub(super) fn new(options: &KafkaOptions, counters: &Arc<Counters>) -> Result<Self, LogError> {
        let window = Window::of(options);
        let options = Arc::new(options.clone());
        let producer = create(&options)?;
        Ok(Self {
            options,
            current: Arc::new(Mutex::new(Arc::new(producer))),
            counters: Arc::clone(counters),
            window,
        })
    }

    fn current(&self) -> Arc<Producer> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when all records are delivered or refused.
    pub(super) async fn append(&self, records: Vec<NewRecord>) -> Result<Appended, LogError> {
        let mut refusals = Vec::new();
        let lines = LineLimit::default();
        let mut first = 0;
        while let Some(left) = records.get(first..).filter(|left| !left.is_empty()) {
            let next = first + self.window.count(left);
            let refused = self.append_window(&records, first..next, &lines).await?;
            refusals.extend(refused);
            first = next;
        }
        refusals.sort_unstable_by_key(|refusal: &Refusal| refusal.place);
        Ok(Appended {
            appended: records.len() - refusals.len(),
            refused: refusals.len(),
            refusals,
            ..Appended::default()
        })
    }

    /// Returns when the records of a window are delivered or refused.
    async fn append_window(
        &self,
        records: &[NewRecord],
        window: Range<usize>,
        lines: &LineLimit,
    ) -> Result<Vec<Refusal>, LogError> {
        let mut todo: Vec<usize> = window.collect();
        let mut refusals = Vec::new();
        let mut delay = RETRY_FIRST;
        // The time that records have, unless Kafka does not take that: by a clock that is wrong.
        let mut time_ms = None;
        loop {
            let mut again = Vec::new();
            let mut failed = None;
            let mut alone = Vec::new();
            for (place, outcome) in self.deliver(records, &todo, time_ms).await? {
                match outcome {
                    Outcome::Refused(error) => refusals.push(refusal(place, &error)),
                    Outcome::Alone(_) => alone.push(place),
                    Outcome::Retry(error) => {
                        failed = Some(error);
                        again.push(place);
                    }
                }
            }
            alone.sort_unstable();
            let mut alone = alone.into_iter();
            for place in alone.by_ref() {
                match self.deliver(records, &[place], time_ms).await?.pop() {
                    None => {}
                    Some((_, Outcome::Refused(error) | Outcome::Alone(error))) => {
                        refusals.push(refusal(place, &error));
                    }
                    Some((_, Outcome::Retry(error))) => {
                        failed = Some(error);
                        again.push(place);
                        break;
                    }
                }
            }
            // What comes behind the one that has failed does not overtake it.
            again.extend(alone);
            let Some(error) = failed else {
                return Ok(refusals);
            };
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            if lines.take() {
                let topic = again.first().map(|place| &*records[*place].topic);
                tracing::warn!(%error, topic, records = again.len(), "kafka does not store records; they are kept and retried");
            }
            if error.rdkafka_error_code() == Some(Code::InvalidTimestamp) {
                time_ms = Some(now_ms());
            }
            again.sort_unstable();
            todo = again;
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_SLOWEST);
        }
    }

    /// Hands records over, and waits for what becomes of them; gives those that were not delivered.
    async fn deliver(
        &self,
        records: &[NewRecord],
        places: &[usize],
        time_ms: Option<i64>,
    ) -> Result<Vec<(usize, Outcome)>, LogError> {
        let producer = self.current();
        let pending = Arc::new(Pending {
            // One more, so that it does not end before all are handed over.
            left: AtomicUsize::new(places.len() + 1),
            outcomes: Mutex::default(),
            done: Notify::new(),
        });
        for (at, place) in places.iter().enumerate() {
            let record = (&records[*place], time_ms);
            let handed = hand_over(&producer, record, &pending, *place).await;
            if let Err(error) = handed {
                // What comes behind it does not overtake it.
                let left = &places[at..];
                for place in left {
                    pending.note(*place, Outcome::Retry(error.clone()));
                }
                pending.finish(left.len());
                break;
            }
        }
        pending.finish(1);
        while pending.left.load(Ordering::Acquire) > 0 {
            pending.done.notified().await;
        }
        if fatal(&producer).is_some() {
            self.replace(&producer)?;
        }
        let mut outcomes = pending
            .outcomes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *outcomes))
    }

    /// Unless somebody else has done so already.
    fn replace(&self, broken: &Arc<Producer>) -> Result<(), LogError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, broken) {
            let reason = fatal(broken).unwrap_or_default();
            tracing::error!(reason, "the producer has failed for good; it is replaced");
            let old = std::mem::replace(&mut *current, Arc::new(create(&self.options)?));
            self.counters.renewed.fetch_add(1, Ordering::Relaxed);
            // Its end may take a while.
            std::thread::spawn(move || drop(old));
        }
        Ok(())
    }
}

fn refusal(place: usize, error: &KafkaError) -> Refusal {
    Refusal {
        place,
        reason: error.to_string(),
    }
}

fn create(options: &KafkaOptions) -> Result<Producer, LogError> {
    options
        .client_config(&DEFAULTS)
        .create_with_context(Context::default())
        .map_err(|error| options.io("make a client of", &error))
}

/// Why a producer has failed for good, if it has.
fn fatal(producer: &Producer) -> Option<String> {
    use rdkafka::producer::Producer as _;
    let (_, reason) = producer.client().fatal_error()?;
    Some(reason)
}

/// Hands a record over, unless it is refused right here; an error may be another one later.
async fn hand_over(
    producer: &Producer,
    (record, time_ms): (&NewRecord, Option<i64>),
    pending: &Arc<Pending>,
    place: usize,
) -> Result<(), KafkaError> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for header in &record.headers {
        headers = headers.insert(Header {
            key: &header.name,
            value: Some(&header.value[..]),
        });
    }
    let opaque = Box::new((Arc::clone(pending), place));
    let mut message = BaseRecord::with_opaque_to(&record.topic, opaque)
        .payload(&record.value[..])
        .timestamp(time_ms.unwrap_or(record.timestamp_ms))
        .headers(headers);
    if let Some(key) = &record.key {
        message = message.key(&key[..]);
    }
    loop {
        let error = match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(Code::QueueFull), again)) => {
                message = again;
                tokio::time::sleep(QUEUE_FULL).await;
                continue;
            }
            Err((error, _)) => error,
        };
        // Here it is this record alone that is judged.
        return match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge | Code::InvalidTopic) => {
                pending.note(place, Outcome::Refused(error));
                pending.finish(1);
                Ok(())
            }
            _ => Err(error),
        };
    }
}
