//! What the dispatcher has to keep, and asks of a store: deliveries that are owed, ranges of the
//! log that are owed, dead letters, attempts, how endpoints are.
//!
//! Whoever keeps it promises: what [`Ledger::record`] has returned `Ok` for is durable, all of it
//! or nothing. Several dispatchers may use one ledger: what one has claimed no other gets while it
//! lives.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use dovecast_log::Record;

use dovecast_notification::{EndpointId, NotificationId};

/// Why the ledger has not done what it was asked for. Nothing of it was done, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing} in {place}: {reason}")]
pub struct LedgerError {
    /// What it was asked for, as in `claim deliveries`.
    pub doing: &'static str,
    /// Where, as in `PostgreSQL`.
    pub place: &'static str,
    /// Why, as the database or its library says it.
    pub reason: String,
}

/// Milliseconds since the epoch.
pub type Millis = i64;

/// A delivery that has failed, or was not tried yet, and is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Where it goes.
    pub endpoint: EndpointId,
    /// What it tells of.
    pub notification: NotificationId,
    /// Canonical JSON of the notification.
    pub content: Bytes,
    /// Attempts that have failed.
    pub failures: u32,
    /// Not before this time.
    pub due_ms: Millis,
    /// Why the last attempt has failed; empty before the first.
    pub reason: String,
}

/// Names an owed delivery: there is one of a notification and an endpoint.
pub type OwedId = (EndpointId, NotificationId);

/// Names a range of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RangeId {
    /// Whose it is.
    pub endpoint: EndpointId,
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Offset at which it began.
    pub start: u64,
}

/// A range of a partition that an endpoint has not got: what of it matches its filter is to be
/// delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwedRange {
    /// Name of the range.
    pub id: RangeId,
    /// The first offset that is not done.
    pub from: u64,
    /// The offset behind the last.
    pub to: u64,
}

/// Where a record stands that is refused. Read again, it is refused at the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Offset of the record.
    pub offset: u64,
}

impl RecordPlace {
    /// The place of a record.
    pub fn of(record: &Record) -> Self {
        Self {
            topic: Arc::clone(&record.topic),
            partition: record.partition,
            offset: record.offset,
        }
    }
}

/// A delivery that will not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it was to go; `None`: the record was no notification.
    pub endpoint: Option<EndpointId>,
    /// The record that was refused: of each there is one dead letter, however often it is read.
    pub record: Option<RecordPlace>,
    /// What it tells of.
    pub notification: NotificationId,
    /// Canonical JSON of the notification, or the record's value.
    pub content: Bytes,
    /// Why.
    pub reason: String,
    /// When it was given up.
    pub time_ms: Millis,
    /// Attempts that were made.
    pub attempts: u32,
}

/// One attempt, as it is kept for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// Where it went.
    pub endpoint: EndpointId,
    /// What it told of.
    pub notification: NotificationId,
    /// When it ended.
    pub time_ms: Millis,
    /// The first is 1.
    pub number: u32,
    /// Whether the endpoint has it.
    pub is_delivered: bool,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// How long it took.
    pub latency_us: u64,
    /// The head of the answer, or why there was none.
    pub said: String,
}

/// Everything that has happened since the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// New ones; one that is owed already stays as it is.
    pub owed: Vec<Owed>,
    /// New ones that are under way; claimed by us.
    pub under_way: Vec<Owed>,
    /// Owed ones that have failed again: with the next due time, no longer claimed.
    pub failed_again: Vec<Owed>,
    /// Owed ones that were not tried: due at another time, no longer claimed. Whole, so that one
    /// that the ledger has lost is there again.
    pub given_back: Vec<Owed>,
    /// Owed ones that nobody has claimed: due at this time, by a clock that was set since they were
    /// written.
    pub postponed: Vec<(OwedId, Millis)>,
    /// Owed ones that are done: delivered, or dead letters.
    pub done: Vec<OwedId>,
    /// Ranges that begin, or begin anew where there is one of that name, and up to where; claimed
    /// by us. Nothing of them is done.
    pub begun: BTreeMap<RangeId, u64>,
    /// Ranges that grow, and up to where; claimed by us.
    pub grown: BTreeMap<RangeId, u64>,
    /// Ranges of which everything before an offset is done.
    pub progress: BTreeMap<RangeId, u64>,
    /// Ranges of which everything is done that is before an offset; one that goes further stays.
    pub ended: BTreeMap<RangeId, u64>,
    /// Ranges whose endpoint we do not know: they go unless the ledger knows it, and are claimed no
    /// longer.
    pub unwanted_ranges: Vec<RangeId>,
    /// Ranges that we cannot read: no longer claimed.
    pub released: Vec<RangeId>,
    /// Owed ones whose endpoint we do not know, or know not to be active: they go unless the ledger
    /// knows better.
    pub unwanted: Vec<OwedId>,
    /// Dead letters.
    pub dead: Vec<DeadLetter>,
    /// Attempts.
    pub attempts: Vec<AttemptRow>,
    /// Endpoints that are not active from now on, and why.
    pub switched_off: BTreeMap<EndpointId, String>,
}

impl Happened {
    /// Whether there is nothing to be kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Keeps it.
pub trait Ledger: Clone + Send + Sync + 'static {
    /// All of it, in one transaction.
    fn record(&self, happened: Happened) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// We live, and shall be taken for dead if this is not said again until `alive_until_ms`.
    fn beat(
        &self,
        now_ms: Millis,
        alive_until_ms: Millis,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// We live no more: what we have claimed is free.
    fn leave(&self) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Owed deliveries that are due and that nobody who lives has claimed, the longest due first;
    /// claimed by us now.
    fn claim_owed(
        &self,
        now_ms: Millis,
        most: usize,
    ) -> impl Future<Output = Result<Vec<Owed>, LedgerError>> + Send {
        self.claim_owed_except(now_ms, most, Vec::new())
    }

    /// Claims owed deliveries as [`Ledger::claim_owed`] does, without those to some endpoints.
    fn claim_owed_except(
        &self,
        now_ms: Millis,
        most: usize,
        except: Vec<EndpointId>,
    ) -> impl Future<Output = Result<Vec<Owed>, LedgerError>> + Send;

    /// Endpoints that owe ranges which nobody who lives has claimed: first those that owe the
    /// lowest offsets.
    fn owing_ranges(
        &self,
        now_ms: Millis,
    ) -> impl Future<Output = Result<Vec<EndpointId>, LedgerError>> + Send;

    /// Ranges of these endpoints that nobody who lives has claimed, of each at most so many, those
    /// with the lowest offsets; claimed by us now.
    fn claim_ranges_of(
        &self,
        now_ms: Millis,
        most: usize,
        endpoints: Vec<EndpointId>,
    ) -> impl Future<Output = Result<Vec<OwedRange>, LedgerError>> + Send;

    /// Claims free ranges of any endpoints.
    fn claim_ranges(
        &self,
        now_ms: Millis,
        most: usize,
    ) -> impl Future<Output = Result<Vec<OwedRange>, LedgerError>> + Send {
        async move {
            let endpoints = self.owing_ranges(now_ms).await?;
            self.claim_ranges_of(now_ms, most, endpoints).await
        }
    }
}
