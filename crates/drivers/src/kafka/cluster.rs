//! A cluster of the operator's: who may write where, one producer for all, and a bound on what it
//! holds.
//!
//! A broker judges batches. What was in one that is too large or invalid is handed over once more
//! by a producer whose batches have one record each, so that no record is refused because of
//! another one.

use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::driver::Attempt;
use dovecast_log::kafka::{KafkaOptions, without_value};
use dovecast_notification::Notification;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::outcome::{is_of_batch, is_unknown_topic, judged};
use super::producer::{NotStored, Outgoing, Producers, Stored};
use super::topics::Pattern;

/// Most KiB of records that a cluster's producer holds at a time; each takes one at least, so they
/// are also a bound on their number, below librdkafka's own of 100,000.
const ROOM_KIB: u32 = 64 * 1024;
/// How much longer than librdkafka an attempt waits for its report: it looks for what has expired
/// once a second.
const REPORT_GRACE: Duration = Duration::from_secs(3);
/// Stands for all accounts.
const ALL: &str = "*";
/// Properties of librdkafka that are set here: on them depends what "delivered" means.
const OURS: [&str; 8] = [
    "acks",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.idempotence",
    "message.timeout.ms",
    "metadata.broker.list",
    "request.required.acks",
    "transactional.id",
];

/// A cluster, as the configuration says.
#[derive(Clone, Default)]
pub struct ClusterOptions {
    /// Name of the cluster, as endpoints name it.
    pub name: String,
    /// How to reach it.
    pub kafka: KafkaOptions,
    /// Numbers of the accounts that may use it; `*`: all.
    pub accounts: Vec<String>,
    /// Topics that they may write to: `*` stands for any text, `{account}` for the account.
    pub topics: Vec<String>,
}

/// Why a cluster cannot be used. Shows no value of a property.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// A property that is set here.
    #[error("`{property}` of the kafka cluster `{cluster}` is set by dovecast")]
    Ours {
        /// Name of the cluster.
        cluster: String,
        /// Name of the property.
        property: &'static str,
    },
    /// A property that librdkafka does not take.
    #[error("the kafka cluster `{cluster}` cannot be used: {reason}")]
    Client {
        /// Name of the cluster.
        cluster: String,
        /// Why.
        reason: String,
    },
}

/// A cluster that can be written to.
pub(super) struct Cluster {
    name: String,
    accounts: Vec<String>,
    topics: Vec<Pattern>,
    timeout: Duration,
    room: Arc<Semaphore>,
    together: Producers,
    alone: Producers,
}

impl Cluster {
    /// Makes the producer, which says whether the properties are right.
    pub(super) fn new(options: &ClusterOptions, timeout: Duration) -> Result<Self, ClusterError> {
        let cluster = || options.name.clone();
        let properties = &options.kafka.properties;
        let is_set = |ours: &&&str| properties.iter().any(|(name, _)| name == **ours);
        if let Some(property) = OURS.iter().find(is_set) {
            let cluster = cluster();
            return Err(ClusterError::Ours { cluster, property });
        }
        let config = config(&options.kafka, timeout);
        let mut alone = config.clone();
        alone.set("batch.num.messages", "1");
        let made = Self {
            name: cluster(),
            accounts: options.accounts.clone(),
            topics: options
                .topics
                .iter()
                .map(|text| Pattern::new(text))
                .collect(),
            timeout,
            room: Arc::new(Semaphore::new(ROOM_KIB as usize)),
            together: Producers::new(config),
            alone: Producers::new(alone),
        };
        match made.together.open() {
            Ok(_) => Ok(made),
            Err(error) => Err(ClusterError::Client {
                cluster: cluster(),
                reason: without_value(&error),
            }),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether an account may use it at all.
    pub(super) fn may_be_used_by(&self, account: &str) -> bool {
        let mut accounts = self.accounts.iter();
        accounts.any(|allowed| allowed == ALL || allowed == account)
    }

    /// Whether an account may write to a topic.
    pub(super) fn may_write(&self, account: &str, topic: &str) -> bool {
        let mut topics = self.topics.iter();
        topics.any(|pattern| pattern.matches(account, topic))
    }

    /// Stores a notification in a topic; the attempt that failed if it is not.
    pub(super) async fn store(
        &self,
        topic: &str,
        notification: &Notification,
    ) -> Result<Stored, Attempt> {
        let (key, value) = (notification.key.as_deref(), notification.outbox());
        let mut bytes = key.map_or(0, <[u8]>::len) + value.len();
        let mut headers = OwnedHeaders::new();
        for header in notification.outbox_headers() {
            bytes += header.name.len() + header.value.len();
            headers = headers.insert(Header {
                key: &header.name,
                value: Some(&header.value[..]),
            });
        }
        let record = Outgoing {
            topic,
            key,
            value: &value,
            headers,
        };
        let trying = async {
            let room = self.room_for(bytes).await;
            self.tried(&record, room.as_ref()).await
        };
        match tokio::time::timeout(self.timeout + REPORT_GRACE, trying).await {
            Ok(Ok(stored)) => Ok(stored),
            Ok(Err(code)) => Err(self.failure(code, bytes)),
            // There was no room, or librdkafka does not report.
            Err(_) => Err(self.failure(Code::QueueFull, bytes)),
        }
    }

    async fn tried(
        &self,
        record: &Outgoing<'_>,
        room: Option<&Arc<OwnedSemaphorePermit>>,
    ) -> Result<Stored, Code> {
        let NotStored { code, is_alone } = match self.together.store(record, room.cloned()).await {
            Ok(stored) => return Ok(stored),
            Err(why) => why,
        };
        if is_of_batch(code) && !is_alone {
            let stored = self.alone.store(record, room.cloned()).await;
            return stored.map_err(|why| why.code);
        }
        if is_unknown_topic(code) && self.together.has_topic(record.topic, self.timeout).await {
            let stored = self.together.store(record, room.cloned()).await;
            return stored.map_err(|why| why.code);
        }
        Err(code)
    }

    /// Waits until librdkafka may hold a record more.
    async fn room_for(&self, bytes: usize) -> Option<Arc<OwnedSemaphorePermit>> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(ROOM_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib.min(ROOM_KIB));
        // Fails only where the semaphore is closed, which it never is.
        room.await.ok().map(Arc::new)
    }

    /// That a record has expired says less than what kept it from the cluster.
    fn failure(&self, code: Code, bytes: usize) -> Attempt {
        let code = match code {
            Code::MessageTimedOut | Code::QueueFull => self.together.trouble().unwrap_or(code),
            code => code,
        };
        judged(code, bytes)
    }

    /// Ends the producers. What they hold was not delivered.
    pub(super) async fn close(&self) {
        self.together.close().await;
        self.alone.close().await;
    }
}

/// How a record gets to the cluster within an attempt, or not at all.
fn config(kafka: &KafkaOptions, timeout: Duration) -> ClientConfig {
    let timeout_ms = timeout.as_millis();
    kafka.client_config(&[
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("message.timeout.ms", &timeout_ms.to_string()),
        // A topic that is not there is known to be so within an attempt.
        (
            "topic.metadata.propagation.max.ms",
            &(timeout_ms / 2).to_string(),
        ),
        ("linger.ms", "1"),
    ])
}
