//! The logs of a server: its own, which is the spool of a Kafka, and that Kafka.

#[cfg(feature = "kafka")]
use anyhow::Context;
use anyhow::Result;
use dovecast_log::embedded::Embedded;
#[cfg(feature = "kafka")]
use dovecast_log::kafka::KafkaLog;

use crate::config::{Config, LogKind};

/// Where records are taken in, and where they are read.
pub(crate) struct Logs {
    pub(crate) own: Embedded,
    /// One client for all parts of the server, so that what it counts is together.
    #[cfg(feature = "kafka")]
    pub(crate) kafka: Option<KafkaLog>,
}

impl Logs {
    /// The log that is open already, and the cluster that the configuration names. That need not be there.
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
                let kafka = KafkaLog::connect(&config.kafka_options());
                Some(kafka.context("cannot use Kafka")?)
            }
        };
        Ok(Self {
            own: own.clone(),
            #[cfg(feature = "kafka")]
            kafka,
        })
    }
}
