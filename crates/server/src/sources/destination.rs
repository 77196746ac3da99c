//! Where sources append: a topic of the log that the configuration speaks of.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "kafka")]
use anyhow::Context;
use dovecast_log::embedded::Embedded;
#[cfg(feature = "kafka")]
use dovecast_log::kafka::KafkaLog;
use dovecast_log::{Appended, Log, LogError, NewRecord};

use crate::config::{Config, LogKind};

/// How long the log may take; nobody waits longer for an answer.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Kafka's client forgets what it could not deliver in this time: who has sent it has been told, or is about to be.
#[cfg(feature = "kafka")]
const KAFKA_KEEPS_MS: &str = "8000";

/// The log.
#[derive(Clone)]
pub(crate) enum Intake {
    Embedded(Embedded),
    #[cfg(feature = "kafka")]
    Kafka(KafkaLog),
}

/// A topic of it.
#[derive(Clone)]
pub(crate) struct Destination {
    intake: Intake,
    pub(crate) topic: Arc<str>,
}

/// Why a record is not in the log. What is behind it was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It never will be.
    #[error("the log never takes this: it is too large")]
    Refused,
    /// It may be another time, and possibly is.
    #[error("the log cannot take this now; send it again")]
    Unavailable,
}

impl Intake {
    /// A connection of its own: what waits here does not stand in the way of what is shipped.
    pub(crate) fn open(config: &Config, log: &Embedded) -> anyhow::Result<Self> {
        match config.log.kind {
            LogKind::Embedded => Ok(Self::Embedded(log.clone())),
            #[cfg(not(feature = "kafka"))]
            LogKind::Kafka => anyhow::bail!(crate::config::NO_KAFKA),
            #[cfg(feature = "kafka")]
            LogKind::Kafka => {
                let mut options = config.kafka_options();
                let keeps = ("message.timeout.ms".to_owned(), KAFKA_KEEPS_MS.to_owned());
                options.properties.extend([keeps]);
                let log = KafkaLog::connect(&options).context("cannot use Kafka")?;
                Ok(Self::Kafka(log))
            }
        }
    }

    async fn append(&self, record: NewRecord) -> Result<Appended, LogError> {
        match self {
            Self::Embedded(log) => log.append(vec![record]).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => log.append(vec![record]).await,
        }
    }
}

impl Destination {
    pub(crate) fn new(intake: Intake, topic: &str) -> Self {
        Self {
            intake,
            topic: topic.into(),
        }
    }

    /// Appends a record, and returns when it is durable. One that is there already, by its id, is as good.
    pub(crate) async fn append(&self, record: NewRecord) -> Result<(), NotTaken> {
        let topic = &*self.topic;
        match tokio::time::timeout(APPEND_TIMEOUT, self.intake.append(record)).await {
            Ok(Ok(appended)) if appended.refused == 0 => Ok(()),
            Ok(Ok(_)) => Err(NotTaken::Refused),
            Ok(Err(error)) => {
                tracing::error!(%error, topic, "what came over HTTP is not in the log");
                Err(NotTaken::Unavailable)
            }
            Err(_) => {
                let timeout_ms = APPEND_TIMEOUT.as_millis();
                tracing::error!(timeout_ms, topic, "the log takes too long for HTTP");
                Err(NotTaken::Unavailable)
            }
        }
    }
}
