//! What of a configuration only shows when its parts are put together: `dovecast config --check`
//! and the start ask the same, so that what passes the one is not refused by the other.
//!
//! Keys of secrets, files and services that are to be there are not looked at: they belong to the
//! host on which the server runs. What stands elsewhere is checked if it can be read here; if it
//! cannot, all the rest is checked nevertheless.

use anyhow::{Context, Result, ensure};
use dovecast_drivers::Drivers;
use dovecast_drivers::http::sockets::Sockets;

use super::elsewhere::Absent;
use super::places::Opened;
use super::{Config, LogKind};
use crate::key_file::KEY_BYTES;

impl Config {
    /// Refuses what the start would refuse. Connects to nothing.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_topics()?;
        self.check_places(Opened::default())?;
        let store = self.store_options_with(Absent::Replaced)?;
        let checked = store.check();
        checked.context("the store cannot be used ([store] url)")?;
        #[cfg(not(feature = "kafka"))]
        ensure!(self.log.kind == LogKind::Embedded, super::NO_KAFKA);
        #[cfg(feature = "kafka")]
        if self.log.kind == LogKind::Kafka {
            let checked =
                dovecast_log::kafka::KafkaLog::connect(&self.kafka_options_with(Absent::Replaced)?);
            checked.context("Kafka cannot be used ([kafka.properties])")?;
        }
        // Nothing is sent, so any key and any number of connections will do.
        let sockets = Sockets::new(1);
        let key = [0; KEY_BYTES];
        let drivers = self.driver_options_with(sockets.clone(), key, Absent::Replaced)?;
        Drivers::new(&drivers)?;
        self.configured_drivers_with(&sockets, Absent::Replaced)?;
        self.check_mail_push(&sockets)?;
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
