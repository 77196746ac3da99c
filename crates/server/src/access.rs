//! How the commands reach the log: through the control socket of a running server, or straight in
//! Kafka.

#[cfg(feature = "kafka")]
use std::time::Duration;

#[cfg(feature = "kafka")]
use anyhow::Context;
use anyhow::Result;
#[cfg(feature = "kafka")]
use dovecast_log::kafka::KafkaLog;
use dovecast_log::{Appended, GroupStatus, NewRecord, TopicStatus};
#[cfg(feature = "kafka")]
use dovecast_log::{Log, Reader};

use crate::cli::Begin;
use crate::config::{Config, LogKind};
use crate::control::client::{Client, Item, Lines};
#[cfg(feature = "kafka")]
use crate::control::json::Damaged;

/// How long Kafka may take to have what is sent to it.
#[cfg(feature = "kafka")]
const APPEND_TIMEOUT: Duration = Duration::from_secs(30);

/// The log that the configuration speaks of.
pub(crate) enum Access {
    Server(Client),
    #[cfg(feature = "kafka")]
    Kafka(KafkaLog),
}

impl Access {
    /// Nothing is connected yet.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        match config.log.kind {
            LogKind::Embedded => Ok(Self::Server(Client::new(config))),
            #[cfg(not(feature = "kafka"))]
            LogKind::Kafka => anyhow::bail!(crate::config::NO_KAFKA),
            #[cfg(feature = "kafka")]
            LogKind::Kafka => {
                let log = KafkaLog::connect(&config.kafka_options()?);
                Ok(Self::Kafka(log.context("cannot use Kafka")?))
            }
        }
    }

    /// The log, or the spool before it.
    pub(crate) fn to_list(config: &Config, is_spool: bool) -> Result<Self> {
        if is_spool {
            return Ok(Self::Server(Client::new(config)));
        }
        Self::new(config)
    }

    pub(crate) async fn topics(&self) -> Result<Vec<TopicStatus>> {
        match self {
            Self::Server(client) => client.topics().await,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => Ok(log.topics().await?),
        }
    }

    pub(crate) async fn groups(&self) -> Result<Vec<GroupStatus>> {
        match self {
            Self::Server(client) => client.groups().await,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => Ok(log.groups().await?),
        }
    }

    pub(crate) async fn append(&self, records: Vec<NewRecord>) -> Result<Appended> {
        match self {
            Self::Server(client) => client.append(&records).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => {
                let appending = tokio::time::timeout(APPEND_TIMEOUT, log.append(records));
                let done = appending.await.with_context(|| {
                    let seconds = APPEND_TIMEOUT.as_secs();
                    format!("Kafka has not acknowledged the records within {seconds} s; they may be stored nevertheless")
                })?;
                Ok(done?)
            }
        }
    }

    pub(crate) async fn positions(&self, topic: &str, from: Begin) -> Result<Vec<u64>> {
        match self {
            Self::Server(client) => client.positions(topic, from).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => Ok(log.positions(topic, from.0).await?),
        }
    }

    pub(crate) async fn read(&self, topic: &str, from: Begin) -> Result<RecordFeed> {
        match self {
            Self::Server(client) => Ok(RecordFeed::Server(client.read(topic, from).await?)),
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => Ok(RecordFeed::Kafka(log.reader(topic, from.0).await?)),
        }
    }
}

/// Records as they come.
pub(crate) enum RecordFeed {
    Server(Lines),
    #[cfg(feature = "kafka")]
    Kafka(<KafkaLog as Log>::Reader),
}

impl RecordFeed {
    /// The next items, at least one; `None`: the server is being stopped.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Item>>> {
        match self {
            Self::Server(lines) => lines.next().await,
            #[cfg(feature = "kafka")]
            Self::Kafka(reader) => match reader.next().await {
                Ok(records) => Ok(Some(records.into_iter().map(Item::Record).collect())),
                Err(error) => Ok(Some(vec![Item::Damaged(Damaged::of(error)?)])),
            },
        }
    }
}
