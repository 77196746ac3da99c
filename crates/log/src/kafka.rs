//! The log in a Kafka cluster, as Kafka users expect it: idempotent producer with acks=all, manual
//! commits, cooperative rebalancing.
//!
//! librdkafka has threads of its own; what of it blocks is done on blocking threads here, and
//! consumers are polled by a thread each, so that waiting for records can be given up at any time
//! without losing one.

mod assigned;
mod consumer;
mod ends;
mod gaps;
pub mod library_log;
mod polling;
mod producer;
mod reader;
mod records;
mod renewal;
mod settings;
mod source;
mod status;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use crate::{Appended, GroupStatus, Log, LogError, NewRecord, Position, StartAt, TopicStatus};
use producer::Producers;
use settings::Undescribed;

pub use consumer::KafkaConsumer;
pub use reader::KafkaReader;
pub use settings::{DescribedTopics, RecordLimits, TopicSettings, record_bytes};

/// How long one question to the cluster may take.
const REQUEST: Duration = Duration::from_secs(10);

/// How to reach a cluster.
#[derive(Clone, Default)]
pub struct KafkaOptions {
    /// `host:port,host:port`.
    pub brokers: String,
    /// librdkafka's properties; they go before what is set here.
    pub properties: Vec<(String, String)>,
}

/// The log in a Kafka cluster; clones are the same.
#[derive(Clone)]
pub struct KafkaLog {
    options: KafkaOptions,
    producers: Producers,
    counters: Arc<Counters>,
    limits: RecordLimits,
    undescribed: Undescribed,
}

/// Counts of all clients of a log.
#[derive(Default)]
struct Counters {
    failures: AtomicU64,
    renewed: AtomicU64,
}

impl KafkaLog {
    /// Checks the properties and makes a producer. The cluster need not be there.
    pub fn connect(options: &KafkaOptions) -> Result<Self, LogError> {
        let counters = Arc::<Counters>::default();
        Ok(Self {
            producers: Producers::new(options, &counters)?,
            options: options.clone(),
            counters,
            limits: RecordLimits::of(options),
            undescribed: Undescribed::default(),
        })
    }
}

impl KafkaLog {
    /// How often records had to be handed over again, since it was connected.
    pub fn failures(&self) -> u64 {
        self.counters.failures.load(Ordering::Relaxed)
    }

    /// What the cluster's settings of topics are, which of them are not there, and which it does
    /// not describe.
    pub async fn topic_settings(&self, topics: &[String]) -> Result<DescribedTopics, LogError> {
        let described = settings::of_topics(&self.options, topics).await?;
        self.undescribed.note(&described);
        for (topic, settings) in &described.found {
            self.limits.learn(topic, settings);
        }
        Ok(described)
    }

    /// How large records may be: what the producer takes, and less where
    /// [`KafkaLog::topic_settings`] has said so.
    pub fn limits(&self) -> &RecordLimits {
        &self.limits
    }

    /// How often a producer or a consumer had failed for good, and another one was made.
    pub fn renewed(&self) -> u64 {
        self.counters.renewed.load(Ordering::Relaxed)
    }
}

impl Log for KafkaLog {
    type Reader = KafkaReader;
    type Consumer = KafkaConsumer;

    async fn append(&self, records: Vec<NewRecord>) -> Result<Appended, LogError> {
        self.producers.append(records).await
    }

    async fn topics(&self) -> Result<Vec<TopicStatus>, LogError> {
        let options = self.options.clone();
        blocking(move || status::topics(&options)).await
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>, LogError> {
        let options = self.options.clone();
        blocking(move || status::groups(&options)).await
    }

    async fn progress(
        &self,
        group: &str,
        topic: &str,
        partitions: &[u32],
    ) -> Result<Vec<GroupStatus>, LogError> {
        let (options, partitions) = (self.options.clone(), partitions.to_vec());
        let (group, topic) = (group.to_owned(), topic.to_owned());
        blocking(move || status::progress(&options, &group, &topic, &partitions)).await
    }

    async fn positions(&self, topic: &str, start: StartAt) -> Result<Vec<u64>, LogError> {
        let (options, topic) = (self.options.clone(), topic.to_owned());
        blocking(move || status::positions(&options, &topic, start)).await
    }

    async fn reader(&self, topic: &str, start: StartAt) -> Result<Self::Reader, LogError> {
        let (options, counters) = (self.options.clone(), Arc::clone(&self.counters));
        let topic = topic.to_owned();
        blocking(move || KafkaReader::start(&options, &counters, &topic, start)).await
    }

    async fn reader_at(&self, position: &Position) -> Result<Self::Reader, LogError> {
        KafkaReader::at(&self.options, &self.counters, position)
    }

    async fn consumer(&self, group: &str, topics: &[String]) -> Result<Self::Consumer, LogError> {
        KafkaConsumer::start(&self.options, &self.counters, group, topics)
    }
}

impl KafkaOptions {
    /// The configuration of a client; `defaults` may be overridden by the operator's properties.
    pub fn client_config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(library_log::level(self.has_property("debug")));
        config.set("client.id", "dovecast");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        config.set("bootstrap.servers", &self.brokers);
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }

    /// Whether the operator has set a property.
    fn has_property(&self, name: &str) -> bool {
        self.properties.iter().any(|(set, _)| set == name)
    }

    fn io(&self, doing: &'static str, error: &KafkaError) -> LogError {
        LogError::Io {
            doing,
            place: self.brokers.clone(),
            reason: without_value(error),
        }
    }
}

/// An error of librdkafka without the value of a property, which it repeats: it may be a password.
pub fn without_value(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(result, _, name, _) => {
            if *result == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
                format!("unknown librdkafka property `{name}`")
            } else {
                format!(
                    "invalid value of the librdkafka property `{name}`; it is not shown, as it may be a password"
                )
            }
        }
        error => error.to_string(),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| LogError::Closed)?
}
