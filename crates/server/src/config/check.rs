//! What of a configuration only shows when its parts are put together: `dovecast config --check`
//! and the start ask the same, so that what passes the one is not refused by the other.
//!
//! Keys of secrets, files and services that are to be there are not looked at: they belong to the
//! host on which the server runs.

use anyhow::{Context, Result, ensure};
use dovecast_drivers::Drivers;
use dovecast_drivers::http::sockets::Sockets;

use super::{Config, LogKind, paths};
use crate::key_file::KEY_BYTES;

impl Config {
    /// Refuses what the start would refuse. Connects to nothing.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_topics()?;
        paths::check_socket(&self.control_socket(), "[control] socket")?;
        match self.store_options() {
            Ok(options) => options
                .check()
                .context("the store cannot be used ([store] url)")?,
            // What stands elsewhere is not on every host on which this is checked.
            Err(_) if self.store.is_elsewhere() => {}
            Err(error) => return Err(error),
        }
        #[cfg(not(feature = "kafka"))]
        ensure!(self.log.kind == LogKind::Embedded, super::NO_KAFKA);
        #[cfg(feature = "kafka")]
        if self.log.kind == LogKind::Kafka {
            let checked = dovecast_log::kafka::KafkaLog::connect(&self.kafka_options());
            checked.context("Kafka cannot be used ([kafka.properties])")?;
        }
        // Nothing is sent, so any key and any number of connections will do. What stands in files
        // is not on every host on which this is checked.
        if let Ok(options) = self.driver_options(Sockets::new(1), [0; KEY_BYTES]) {
            Drivers::new(&options)?;
        }
        self.configured_drivers(&Sockets::new(1))?;
        Ok(())
    }

    /// Refuses topics that are two things, and what needs one where there is none.
    pub(crate) fn check_topics(&self) -> Result<()> {
        let (outbox, events) = (&self.dispatch.outbox_topic, &self.dispatch.event_topics);
        ensure!(
            !events.contains(outbox),
            "`{outbox}` is in `event_topics` of [dispatch] and is `outbox_topic`, too: records of a topic are either events or notifications"
        );
        ensure!(
            self.ox.credentials.is_none() || !events.is_empty(),
            "[ox] needs a topic in `event_topics` of [dispatch]"
        );
        Ok(())
    }
}
