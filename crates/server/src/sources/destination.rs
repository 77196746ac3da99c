//! Where sources append: a topic of this host's log. With Kafka as the log that is the spool, which
//! is shipped later: requests are answered whether Kafka can be reached or not.

use std::sync::Arc;
use std::time::Duration;

use dovecast_log::embedded::Embedded;
use dovecast_log::{Log, NewRecord, Refusal};

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
        let refusals = self.store(vec![record]).await?;
        match refusals.into_iter().next() {
            None => Ok(()),
            Some(refusal) => Err(NotTaken::Refused(refusal.reason)),
        }
    }

    /// Appends records in their order, and returns when they are durable: what became of each. An
    /// error is of all of them.
    pub(crate) async fn append_all(
        &self,
        records: Vec<NewRecord>,
    ) -> Result<Vec<Result<(), NotTaken>>, NotTaken> {
        let mut all = Vec::with_capacity(records.len());
        let (mut places, mut fit) = (Vec::new(), Vec::new());
        for record in records {
            let checked = self.limits.check(&record).map_err(NotTaken::from);
            if checked.is_ok() {
                places.push(all.len());
                fit.push(record);
            }
            all.push(checked);
        }
        for refusal in self.store(fit).await? {
            if let Some(place) = places.get(refusal.place) {
                all[*place] = Err(NotTaken::Refused(refusal.reason));
            }
        }
        Ok(all)
    }

    async fn store(&self, records: Vec<NewRecord>) -> Result<Vec<Refusal>, NotTaken> {
        let topic = &*self.topic;
        match tokio::time::timeout(APPEND_TIMEOUT, self.log.append(records)).await {
            Ok(Ok(appended)) => Ok(appended.refusals),
            Ok(Err(error)) => {
                tracing::error!(%error, topic, "records could not be appended to the log");
                Err(NotTaken::Unavailable)
            }
            Err(_) => {
                let timeout_ms = APPEND_TIMEOUT.as_millis();
                tracing::error!(timeout_ms, topic, "the log has not stored records in time");
                Err(NotTaken::Unavailable)
            }
        }
    }
}
