//! The producer: hands records over, waits until all are delivered.
//!
//! Nothing expires: while the cluster is away an append waits. A record that no broker will ever take is left out and
//! counted, the others are delivered. After a fatal error of the idempotent producer the append fails and the next one gets a
//! new producer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use tokio::sync::Notify;

use super::KafkaOptions;
use crate::{Appended, LogError, NewRecord};

/// How long until a full queue is tried again.
const QUEUE_FULL: Duration = Duration::from_millis(2);

const DEFAULTS: [(&str, &str); 6] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("message.timeout.ms", "0"),
    ("linger.ms", "1"),
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "131072"),
];

type Producer = ThreadedProducer<Context>;

/// The present producer, and how to make another one.
#[derive(Clone)]
pub(super) struct Producers {
    options: Arc<KafkaOptions>,
    current: Arc<Mutex<Arc<Producer>>>,
}

/// Records of one append that are on their way.
struct Pending {
    left: AtomicUsize,
    refused: AtomicUsize,
    failed: Mutex<Option<KafkaError>>,
    done: Notify,
}

struct Context;

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // librdkafka goes on by itself; what it cannot do comes back as a delivery.
        tracing::warn!(%error, reason, "kafka");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Arc<Pending>>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Box<Arc<Pending>>) {
        match result {
            Ok(_) => {}
            Err((error, _)) if is_refused(error) => pending.refuse(error),
            Err((error, _)) => pending.fail(error.clone()),
        }
        pending.finish(1);
    }
}

impl Pending {
    fn fail(&self, error: KafkaError) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error);
    }

    fn refuse(&self, error: &KafkaError) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "kafka takes a record never, it is lost");
    }

    fn finish(&self, records: usize) {
        if self.left.fetch_sub(records, Ordering::AcqRel) == records {
            self.done.notify_one();
        }
    }
}

/// Whether no broker will ever take this record.
fn is_refused(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::MessageSizeTooLarge
                | Code::InvalidMessage
                | Code::InvalidMessageSize
                | Code::InvalidRecord
                | Code::InvalidTopic
        )
    )
}

impl Producers {
    pub(super) fn new(options: &KafkaOptions) -> Result<Self, LogError> {
        let options = Arc::new(options.clone());
        let producer = create(&options)?;
        Ok(Self {
            options,
            current: Arc::new(Mutex::new(Arc::new(producer))),
        })
    }

    fn current(&self) -> Arc<Producer> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) async fn append(&self, records: Vec<NewRecord>) -> Result<Appended, LogError> {
        let producer = self.current();
        let pending = Arc::new(Pending {
            // One more, so that it does not end before all are handed over.
            left: AtomicUsize::new(records.len() + 1),
            refused: AtomicUsize::new(0),
            failed: Mutex::default(),
            done: Notify::new(),
        });
        let mut handed_over = 0;
        for record in &records {
            if !hand_over(&producer, record, &pending).await {
                break;
            }
            handed_over += 1;
        }
        pending.finish(records.len() - handed_over + 1);
        while pending.left.load(Ordering::Acquire) > 0 {
            pending.done.notified().await;
        }
        let failed = {
            let mut failed = pending
                .failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            failed.take()
        };
        if let Some(error) = failed {
            if error.rdkafka_error_code() == Some(Code::Fatal) || is_fatal(&producer) {
                self.replace(&producer)?;
            }
            return Err(self.options.io("append to", &error));
        }
        let refused = pending.refused.load(Ordering::Relaxed);
        Ok(Appended {
            appended: records.len() - refused,
            refused,
            ..Appended::default()
        })
    }

    /// Unless somebody else has done so already.
    fn replace(&self, broken: &Arc<Producer>) -> Result<(), LogError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, broken) {
            tracing::error!("the producer has failed for good, another one is made");
            let old = std::mem::replace(&mut *current, Arc::new(create(&self.options)?));
            // Its end may take a while.
            std::thread::spawn(move || drop(old));
        }
        Ok(())
    }
}

fn create(options: &KafkaOptions) -> Result<Producer, LogError> {
    options
        .client_config(&DEFAULTS)
        .create_with_context(Context)
        .map_err(|error| options.io("connect to", &error))
}

fn is_fatal(producer: &Producer) -> bool {
    use rdkafka::producer::Producer as _;
    producer.client().fatal_error().is_some()
}

/// `false`: nothing more of this append is to be handed over.
async fn hand_over(producer: &Producer, record: &NewRecord, pending: &Arc<Pending>) -> bool {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for header in &record.headers {
        headers = headers.insert(Header {
            key: &header.name,
            value: Some(&header.value[..]),
        });
    }
    let mut message = BaseRecord::with_opaque_to(&record.topic, Box::new(Arc::clone(pending)))
        .payload(&record.value[..])
        .timestamp(record.timestamp_ms)
        .headers(headers);
    if let Some(key) = &record.key {
        message = message.key(&key[..]);
    }
    loop {
        match producer.send(message) {
            Ok(()) => return true,
            Err((KafkaError::MessageProduction(Code::QueueFull), again)) => {
                message = again;
                tokio::time::sleep(QUEUE_FULL).await;
            }
            Err((error, _)) if is_refused(&error) => {
                pending.refuse(&error);
                pending.finish(1);
                return true;
            }
            Err((error, _)) => {
                pending.fail(error);
                return false;
            }
        }
    }
}
