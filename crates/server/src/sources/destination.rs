//! Where sources append: a topic of this host's log. With Kafka that is the spool, which is
//! shipped: whoever sends something is answered whether Kafka is there or not.

use std::sync::Arc;
use std::time::Duration;

use dovecast_log::embedded::Embedded;
use dovecast_log::{Log, NewRecord};

use crate::logs::{Limits, Logs, TooLarge};

/// How long the log may take; nobody waits longer for an answer.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A topic of the log.
#[derive(Clone)]
pub(crate) struct Destination {
    log: Embedded,
    limits: Limits,
    pub(crate) topic: Arc<str>,
}

/// Why a record is not in the log. What is behind it was logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It never will be.
    #[error("this is too large: {0}")]
    TooLarge(#[from] TooLarge),
    /// It never will be as the log is.
    #[error("the log never takes this: {0}")]
    Refused(String),
    /// It may be another time, and possibly is.
    #[error("the log cannot take this now; send it again")]
    Unavailable,
}

impl Destination {
    pub(crate) fn new(logs: &Logs, topic: &str) -> Self {
        Self {
            log: logs.own.clone(),
            limits: logs.limits(),
            topic: topic.into(),
        }
    }

    /// Appends a record, and returns when it is durable. One that is there already, by its id, is
    /// as good.
    pub(crate) async fn append(&self, record: NewRecord) -> Result<(), NotTaken> {
        self.limits.check(&record)?;
        let topic = &*self.topic;
        match tokio::time::timeout(APPEND_TIMEOUT, self.log.append(vec![record])).await {
            Ok(Ok(appended)) => match appended.refusals.into_iter().next() {
                None => Ok(()),
                Some(refusal) => Err(NotTaken::Refused(refusal.reason)),
            },
            Ok(Err(error)) => {
                tracing::error!(%error, topic, "a record is not in the log");
                Err(NotTaken::Unavailable)
            }
            Err(_) => {
                let timeout_ms = APPEND_TIMEOUT.as_millis();
                tracing::error!(timeout_ms, topic, "the log takes too long");
                Err(NotTaken::Unavailable)
            }
        }
    }
}
