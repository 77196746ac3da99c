//! The logs of a server: its own, which is the spool of a Kafka, and that Kafka; and how large a
//! record may be to get there.

#[cfg(feature = "kafka")]
use std::collections::BTreeSet;
#[cfg(feature = "kafka")]
use std::time::Duration;

#[cfg(feature = "kafka")]
use anyhow::Context;
use anyhow::Result;
use dovecast_log::NewRecord;
use dovecast_log::embedded::Embedded;
#[cfg(feature = "kafka")]
use dovecast_log::{
    Log,
    kafka::{KafkaLog, RecordLimits, record_bytes},
};

use crate::config::{Config, LogKind};

/// Where records are taken in, and where they are read.
pub(crate) struct Logs {
    pub(crate) own: Embedded,
    /// One client for all parts of the server, so that what it counts is together.
    #[cfg(feature = "kafka")]
    pub(crate) kafka: Option<KafkaLog>,
}

impl Logs {
    /// The log that is open already, and the cluster that the configuration names. That need not be
    /// there.
    pub(crate) fn of(config: &Config, own: &Embedded) -> Result<Self> {
        #[cfg(not(feature = "kafka"))]
        anyhow::ensure!(
            config.log.kind == LogKind::Embedded,
            crate::config::NO_KAFKA
        );
        #[cfg(feature = "kafka")]
        let kafka = match config.log.kind {
            LogKind::Embedded => None,
            LogKind::Kafka => {
                let kafka = KafkaLog::connect(&config.kafka_options()?);
                Some(kafka.context("cannot use Kafka")?)
            }
        };
        Ok(Self {
            own: own.clone(),
            #[cfg(feature = "kafka")]
            kafka,
        })
    }

    /// Whether what is dispatched is read in the own log, and not in a Kafka.
    #[cfg_attr(
        not(feature = "kafka"),
        expect(clippy::unused_self, reason = "only Kafka is another one")
    )]
    pub(crate) fn is_own(&self) -> bool {
        #[cfg(feature = "kafka")]
        return self.kafka.is_none();
        #[cfg(not(feature = "kafka"))]
        return true;
    }

    /// What records have to keep to.
    #[cfg_attr(
        not(feature = "kafka"),
        expect(clippy::unused_self, reason = "only Kafka has limits")
    )]
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            #[cfg(feature = "kafka")]
            kafka: self.kafka.as_ref().map(|kafka| kafka.limits().clone()),
        }
    }
}

/// A record that Kafka would never take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "key, value and headers have {bytes} bytes, and Kafka takes {max_bytes} at most: see `message.max.bytes` of [kafka.properties] and `max.message.bytes` of the topic"
)]
pub(crate) struct TooLarge {
    bytes: usize,
    max_bytes: usize,
}

/// How large records may be, so that the spool takes nothing that Kafka refuses. Without Kafka
/// there is no bound but the doors' own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    #[cfg(feature = "kafka")]
    kafka: Option<RecordLimits>,
}

impl Limits {
    #[cfg(feature = "kafka")]
    pub(crate) fn check(&self, record: &NewRecord) -> Result<(), TooLarge> {
        let Some(limits) = &self.kafka else {
            return Ok(());
        };
        let (bytes, max_bytes) = (record_bytes(record), limits.max_bytes(&record.topic));
        if bytes > max_bytes {
            return Err(TooLarge { bytes, max_bytes });
        }
        Ok(())
    }

    #[cfg(not(feature = "kafka"))]
    #[expect(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "with Kafka there are limits"
    )]
    pub(crate) fn check(&self, _: &NewRecord) -> Result<(), TooLarge> {
        Ok(())
    }
}

/// How often Kafka is asked for the settings of topics.
#[cfg(feature = "kafka")]
const SETTINGS_INTERVAL: Duration = Duration::from_mins(5);
/// How long until Kafka is asked for them again after it has not answered.
#[cfg(feature = "kafka")]
const SETTINGS_AGAIN: Duration = Duration::from_secs(10);

/// Asks Kafka what its topics take, for ever: those of the spool, and those that are named.
#[cfg(feature = "kafka")]
pub(crate) async fn follow_settings(spool: Embedded, kafka: KafkaLog, named: Vec<String>) {
    let mut is_logged = false;
    loop {
        let mut topics: BTreeSet<String> = named.iter().cloned().collect();
        if let Ok(found) = spool.topics().await {
            topics.extend(found.into_iter().map(|topic| topic.name));
        }
        let topics: Vec<String> = topics.into_iter().collect();
        match kafka.topic_settings(&topics).await {
            Ok(_) => {
                is_logged = false;
                tokio::time::sleep(SETTINGS_INTERVAL).await;
            }
            Err(error) => {
                if !is_logged {
                    tracing::warn!(%error, "kafka does not describe its topics: records are accepted up to librdkafka's message.max.bytes");
                }
                is_logged = true;
                tokio::time::sleep(SETTINGS_AGAIN).await;
            }
        }
    }
}
