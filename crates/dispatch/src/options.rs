//! What the dispatcher is told when it starts: what it reads, and how much at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use dovecast_log::Record;
use dovecast_notification::{BadNotification, EventAccount, Notification};

use crate::clock::Clock;
use crate::evaluator::EvaluatorLimits;

/// How long a stop waits for attempts that are under way.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the records of a topic are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Notifications of hooks-backend.
    Outbox,
    /// Events of the plugin.
    Events(EventAccount),
}

impl Source {
    /// The notification that a record of the topic is.
    pub fn read(&self, record: &Record) -> Result<Notification, BadNotification> {
        match self {
            Self::Outbox => Notification::from_outbox(record),
            Self::Events(account) => Notification::from_event(record, account),
        }
    }
}

/// Why a record is delivered to nobody.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// The configuration does not say what the records of its topic are.
    #[error("its topic is not dispatched")]
    NotDispatched,
    /// The record is no notification.
    #[error(transparent)]
    Bad(#[from] BadNotification),
    /// Reading the record has panicked.
    #[error("reading it has panicked: {0}")]
    Panicked(String),
}

/// What is dispatched, and how much at a time.
#[derive(Clone, Debug)]
pub struct DispatchOptions {
    /// The consumer group.
    pub group: String,
    /// By topic.
    pub sources: BTreeMap<String, Source>,
    /// Deliveries that may be under way or wait at a time.
    pub in_flight: u64,
    /// Bytes of notifications that may be in memory at a time; besides, what the log hands out at a
    /// time, once for each reader.
    pub in_flight_bytes: u64,
    /// Readers of the log that may be open at a time to catch up.
    pub readers: usize,
    /// How long an attempt may hang before it is ended from outside: longer than any driver should
    /// take by itself.
    pub longest_attempt: Duration,
    /// Costly conditions at a time.
    pub conditions: EvaluatorLimits,
    /// The time of day.
    pub clock: Clock,
}
