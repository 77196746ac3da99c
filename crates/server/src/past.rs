//! Finds a notification in the log by its id: what was delivered long ago, and is still there.
//!
//! A search reads records up to the end, so it is bounded in records and in time, and requests take
//! turns (`turns`). Commands, which read the log themselves, begin at the same place.

mod end;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::Source;
#[cfg(feature = "kafka")]
use dovecast_log::kafka::KafkaLog;
use dovecast_log::{Log, LogError, Reader, Record, StartAt, embedded::Embedded};
use dovecast_notification::{DOVECOT, EventAccount, Notification, NotificationId};
use uuid::Uuid;

use crate::config::Dispatch;
use crate::control::json::Damaged;
use crate::logs::Logs;
pub(crate) use end::End;
use turns::Turns;

/// Records before the end of each partition where a search begins if the id has no time.
const LAST: u64 = 20_000;
/// How much the clocks of hosts may differ: a search begins this long before the time in the id.
const SKEW_MS: i64 = 10 * 60 * 1000;
/// Most records of a topic that a search for a request reads from the time in the id on: less than
/// the 500,000 of a command, which is an operator's.
const MAX_SEARCHED: u64 = 100_000;
/// Longest time that a search for a request takes, from the start of it on.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Ids of version 7 say when they were made, and nothing is in the log before that.
pub(crate) fn begin(id: Uuid) -> StartAt {
    let time = id.get_timestamp().filter(|_| id.get_version_num() == 7);
    let Some((seconds, nanos)) = time.map(|time| time.to_unix()) else {
        return StartAt::Last(LAST);
    };
    let ms = i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .saturating_mul(1000);
    let ms = ms.saturating_add(i64::from(nanos / 1_000_000));
    StartAt::Time(ms.saturating_sub(SKEW_MS).max(0))
}

/// Why a search has no result. The cause was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SearchError {
    /// The log cannot be read.
    #[error("the log cannot be read at the moment")]
    Unreadable,
    /// The log is slow.
    #[error("the log could not be searched within {} s; ask again", TIME_LIMIT.as_secs())]
    TooSlow,
    /// Others search, and have not ended in time.
    #[error("the log is searched for others at the moment; ask again")]
    Busy,
    /// The account has a search already.
    #[error("the log is searched for this account already; ask again when that is answered")]
    UnderWay,
    /// More records have come since than a search reads.
    #[error(
        "it is not among the first {MAX_SEARCHED} records since its time, which is as far as a request looks; the commands `dovecast explain` and `dovecast redeliver` look further"
    )]
    TooFar,
}

/// What was dispatched, and is in the log.
#[derive(Clone)]
pub(crate) struct Past(Arc<Parts>);

struct Parts {
    own: Embedded,
    #[cfg(feature = "kafka")]
    kafka: Option<KafkaLog>,
    sources: BTreeMap<String, Source>,
    /// Whether events of mail name accounts by their domains.
    is_by_domain: bool,
    turns: Turns,
}

impl Past {
    pub(crate) fn new(logs: &Logs, dispatch: &Dispatch) -> Self {
        Self(Arc::new(Parts {
            own: logs.own.clone(),
            #[cfg(feature = "kafka")]
            kafka: logs.kafka.clone(),
            sources: dispatch.options().sources,
            is_by_domain: dispatch.event_account == EventAccount::Domain,
            turns: Turns::new(),
        }))
    }

    /// The notification of an account with this id, if the log has it within the records that are
    /// searched. Waits for the turn of the account.
    pub(crate) async fn find(
        &self,
        account: &str,
        id: NotificationId,
    ) -> Result<Option<Notification>, SearchError> {
        let _turn = self.0.turns.take(account).await?;
        let found = tokio::time::timeout(TIME_LIMIT, self.search(id));
        match found.await {
            Ok(Ok(Found::It(found))) => Ok(Some(*found).filter(|found| self.is_of(account, found))),
            Ok(Ok(Found::Nothing)) => Ok(None),
            Ok(Ok(Found::TooFar)) => Err(SearchError::TooFar),
            Ok(Err(error)) => {
                tracing::error!(%error, "the log could not be searched for a notification");
                Err(SearchError::Unreadable)
            }
            Err(_) => Err(SearchError::TooSlow),
        }
    }

    /// Whether a notification is of an account: an event of mail names it in lower case.
    fn is_of(&self, account: &str, found: &Notification) -> bool {
        let is_by_domain = self.0.is_by_domain && *found.application == *DOVECOT;
        *found.account == *account || is_by_domain && *found.account == account.to_lowercase()
    }

    async fn search(&self, id: NotificationId) -> Result<Found<Notification>, LogError> {
        let mut ended = Found::Nothing;
        for (topic, source) in &self.0.sources {
            #[cfg(feature = "kafka")]
            let found = match &self.0.kafka {
                Some(kafka) => find_in(kafka, topic, id).await?,
                None => find_in(&self.0.own, topic, id).await?,
            };
            #[cfg(not(feature = "kafka"))]
            let found = find_in(&self.0.own, topic, id).await?;
            match found {
                Found::It(record) => {
                    // What cannot be read was never dispatched.
                    let read = source.read(&record).ok().map(Box::new);
                    return Ok(read.map_or(Found::Nothing, Found::It));
                }
                Found::TooFar => ended = Found::TooFar,
                Found::Nothing => {}
            }
        }
        Ok(ended)
    }
}

/// What a search has found.
enum Found<T> {
    /// What was looked for.
    It(Box<T>),
    /// Nothing, to the end.
    Nothing,
    /// Nothing in what was searched, and there is more.
    TooFar,
}

async fn find_in(
    log: &impl Log,
    topic: &str,
    id: NotificationId,
) -> Result<Found<Record>, LogError> {
    let from = begin(id.0);
    let begin = log.positions(topic, from).await?;
    let mut end = End::between(begin, log.positions(topic, StartAt::End).await?);
    if end.is_reached() {
        return Ok(Found::Nothing);
    }
    // What came before its time costs time only, of which there is a limit.
    let counts_from_ms = match from {
        StartAt::Time(ms) => ms.saturating_add(SKEW_MS),
        _ => i64::MIN,
    };
    let mut left = MAX_SEARCHED;
    let mut reader = log.reader(topic, from).await?;
    while !end.is_reached() {
        if left == 0 {
            return Ok(Found::TooFar);
        }
        let records = match reader.next().await {
            Ok(records) => records,
            Err(error) => {
                let damaged = Damaged::of(error)?;
                end.takes(damaged.partition, damaged.next_offset);
                continue;
            }
        };
        for record in records {
            if NotificationId::of(&record) == id {
                return Ok(Found::It(Box::new(record)));
            }
            end.takes(record.partition, record.offset + 1);
            left -= u64::from(record.timestamp_ms >= counts_from_ms).min(left);
        }
    }
    Ok(Found::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_tells_its_time_is_looked_for_from_there_on() {
        let id = "019aa3b1-6e58-7d0c-8f00-000000000001";
        let found = begin(id.parse().expect("an id"));
        assert_eq!(found, StartAt::Time(0x019a_a3b1_6e58 - SKEW_MS));
        for other in [
            "019aa3b1-6e58-8d0c-8f00-000000000001",
            "00000000-0000-0000-0000-000000000000",
        ] {
            let found = begin(other.parse().expect("an id"));
            assert_eq!(found, StartAt::Last(LAST));
        }
    }
}
