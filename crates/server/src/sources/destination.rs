//! Where sources append: a topic of this host's log. With Kafka as the log that is the spool, which
//! is shipped later: requests are answered whether Kafka can be reached or not.

use std::sync::Arc;
use std::time::Duration;

use dovecast_log::embedded::Embedded;
use dovecast_log::{Log, NewRecord};

use crate::logs::{Limits, Logs, TooLarge};

/// Longest time that an append may take. The client gets an error then, while it still waits.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A topic of the log.
#[derive(Clone)]
pub(crate) struct Destination {
    log: Embedded,
    limits: Limits,
    pub(crate) topic: Arc<str>,
}

/// Why a record is not in the log. The cause was logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// The record is larger than the log takes: it cannot be sent again as it is.
    #[error("the record is too large: {0}")]
    TooLarge(#[from] TooLarge),
    /// The log refuses the record, and will until its configuration changes.
    #[error("the log refuses this record: {0}")]
    Refused(String),
    /// The log has failed or is slow: the record can be sent again, and may be in the log already.
    #[error("the log cannot store this now; send it again")]
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
                tracing::error!(%error, topic, "a record could not be appended to the log");
                Err(NotTaken::Unavailable)
            }
            Err(_) => {
                let timeout_ms = APPEND_TIMEOUT.as_millis();
                tracing::error!(timeout_ms, topic, "the log has not stored a record in time");
                Err(NotTaken::Unavailable)
            }
        }
    }
}
