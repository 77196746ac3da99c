//! A producer: hands one record to librdkafka, and reports what became of it. One that has failed
//! for good is replaced.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dovecast_log::kafka::library_log::{self, ClientErrors};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

type Producer = ThreadedProducer<Context>;

/// Attempts that ask at the same time whether the cluster has a topic: each takes one of the
/// threads that everything else waits on, too, for as long as the cluster does not answer.
const ASKED_AT_ONCE: usize = 4;
/// Longest wait for a place among them.
const ASKING_PATIENCE: Duration = Duration::from_secs(1);

/// A record on its way.
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: &'a [u8],
    pub(super) headers: OwnedHeaders,
}

/// Where a record is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// Why a record is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotStored {
    pub(super) code: Code,
    /// Whether librdkafka has judged it before it went into a batch.
    pub(super) is_alone: bool,
}

/// Who waits for a record's report. The room that it takes is given back when librdkafka has done
/// with it, even if nobody waits any more.
pub(super) struct Waiting {
    report: oneshot::Sender<Result<Stored, Code>>,
    _room: Option<Arc<OwnedSemaphorePermit>>,
}

/// What librdkafka tells a producer.
#[derive(Default)]
pub(super) struct Context {
    errors: ClientErrors,
    trouble: Arc<Trouble>,
}

/// What keeps a client from its cluster, until a record is stored again.
#[derive(Default)]
pub(super) struct Trouble(Mutex<Option<Code>>);

impl Trouble {
    pub(super) fn last(&self) -> Option<Code> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, code: Option<Code>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // That all brokers are down says less than why the last one is.
        if code != Some(Code::AllBrokersDown) || last.is_none() {
            *last = code;
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        library_log::line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.note(error.rdkafka_error_code());
        self.errors.note(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Waiting>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Box<Waiting>) {
        let report = match result {
            Ok(message) => {
                self.trouble.note(None);
                Ok(Stored {
                    partition: message.partition(),
                    offset: message.offset(),
                })
            }
            Err((error, _)) => Err(code_of(error)),
        };
        // Whoever waited may have gone.
        let _ = waiting.report.send(report);
    }
}

fn code_of(error: &KafkaError) -> Code {
    error.rdkafka_error_code().unwrap_or(Code::Fail)
}

/// The producer of a configuration, made when it is asked for, and again after it has failed for
/// good.
pub(super) struct Producers {
    config: ClientConfig,
    current: Mutex<Current>,
    trouble: Arc<Trouble>,
    /// Places of those who ask for a topic.
    asking: Arc<Semaphore>,
}

enum Current {
    /// None is made yet.
    None,
    Open(Arc<Producer>),
    Closed,
}

impl Producers {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self {
            config,
            current: Mutex::new(Current::None),
            trouble: Arc::default(),
            asking: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
        }
    }

    /// What keeps the producer from its cluster.
    pub(super) fn trouble(&self) -> Option<Code> {
        self.trouble.last()
    }

    /// The present producer.
    pub(super) fn open(&self) -> Result<Arc<Producer>, KafkaError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Current::Open(producer) => Ok(Arc::clone(producer)),
            Current::Closed => Err(KafkaError::Global(Code::BrokerDestroy)),
            Current::None => {
                let context = Context {
                    errors: ClientErrors::default(),
                    trouble: Arc::clone(&self.trouble),
                };
                let made: Producer = self.config.create_with_context(context)?;
                let made = Arc::new(made);
                *current = Current::Open(Arc::clone(&made));
                Ok(made)
            }
        }
    }

    /// Hands a record over, and waits for what becomes of it.
    pub(super) async fn store(
        &self,
        record: &Outgoing<'_>,
        room: Option<Arc<OwnedSemaphorePermit>>,
    ) -> Result<Stored, NotStored> {
        let of_record = |code| NotStored {
            code,
            is_alone: true,
        };
        let producer = self.open().map_err(|error| of_record(code_of(&error)))?;
        let (report, reported) = oneshot::channel();
        let waiting = Box::new(Waiting {
            report,
            _room: room,
        });
        hand_over(&producer, record, waiting).map_err(of_record)?;
        // Without a report the producer was closed.
        let report = reported.await.unwrap_or(Err(Code::BrokerDestroy));
        report.map_err(|code| match producer.client().fatal_error() {
            Some((why, reason)) => {
                self.replace(&producer, &reason);
                of_record(if code == Code::Fatal { why } else { code })
            }
            None => NotStored {
                code,
                is_alone: false,
            },
        })
    }

    /// Asks whether a topic is there that the producer did not know.
    pub(super) async fn has_topic(&self, topic: &str, timeout: Duration) -> bool {
        // Whoever has no place by then is told what is known: there is no such topic.
        let place = Arc::clone(&self.asking).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout(ASKING_PATIENCE, place).await else {
            return false;
        };
        let Ok(producer) = self.open() else {
            return false;
        };
        let topic = topic.to_owned();
        let asked = tokio::task::spawn_blocking(move || {
            let _place = place;
            let metadata = producer
                .client()
                .fetch_metadata(Some(&topic), timeout)
                .ok()?;
            let found = metadata.topics().iter().find(|of| of.name() == topic)?;
            Some(found.error().is_none() && !found.partitions().is_empty())
        });
        asked.await.ok().flatten().unwrap_or(false)
    }

    /// The next record has another producer, unless somebody has seen to that already.
    fn replace(&self, broken: &Arc<Producer>, reason: &str) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Current::Open(producer) = &*current
            && Arc::ptr_eq(producer, broken)
        {
            tracing::warn!(reason, "a producer has failed for good; it is replaced");
            let old = std::mem::replace(&mut *current, Current::None);
            // Its end may take a while.
            std::thread::spawn(move || drop(old));
        }
    }

    /// Ends the producer, and with it what it has in its hands.
    pub(super) async fn close(&self) {
        let old = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, Current::Closed)
        };
        // Fails only if the runtime ends, and with it the process.
        let _ = tokio::task::spawn_blocking(move || drop(old)).await;
    }
}

fn hand_over(
    producer: &Producer,
    record: &Outgoing<'_>,
    waiting: Box<Waiting>,
) -> Result<(), Code> {
    let mut message = BaseRecord::with_opaque_to(record.topic, waiting)
        .payload(record.value)
        .headers(record.headers.clone());
    if let Some(key) = record.key {
        message = message.key(key);
    }
    producer.send(message).map_err(|(error, _)| code_of(&error))
}
