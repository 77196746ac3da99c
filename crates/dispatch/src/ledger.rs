//! What the dispatcher has to keep, and asks of a store: deliveries that are owed, ranges of the
//! log that are owed, dead letters, attempts, how endpoints are.
//!
//! A ledger promises: what [`Ledger::record`] has returned `Ok` for is durable, all of it
//! or nothing. Several dispatchers may use one ledger: what one has claimed no other gets while it
//! lives.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use dovecast_log::Record;
pub use dovecast_log::TopicPartition;

use dovecast_notification::{EndpointId, NotificationId, OrderKey};
use uuid::Uuid;

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

/// When a delivery is due that waits for the one before it of its key: with that one done, it is
/// due at once.
pub const BEHIND: Millis = Millis::MAX;

/// Place of a delivery among those of its key at an endpoint that wants them in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlace {
    /// Partition that the record stands in.
    pub of: TopicPartition,
    /// Key of the record.
    pub key: OrderKey,
    /// Offset of the record.
    pub offset: u64,
    /// The log that the record stands in, where that is not the one of this dispatcher.
    pub log: Option<Arc<str>>,
}

impl KeyPlace {
    /// The partition that the record stands in; `None`: it is one of another log.
    pub fn in_our_log(&self) -> Option<&TopicPartition> {
        self.log.is_none().then_some(&self.of)
    }
}

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
    /// Not before this time; [`BEHIND`]: not before the one before it of its key is done.
    pub due_ms: Millis,
    /// Why the last attempt has failed; empty before the first.
    pub reason: String,
    /// Place among the deliveries of its key; `None`: it waits for no other.
    pub place: Option<KeyPlace>,
    /// What the driver has noted of it for the next attempt; empty: nothing.
    pub note: String,
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

impl RangeId {
    /// The partition that it is a range of.
    pub fn partition(&self) -> TopicPartition {
        TopicPartition {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
        }
    }
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// What it is redelivered with; `None`: it is redelivered alone. It is written, and not read
    /// again.
    pub together: Option<Together>,
    /// What the driver has noted of it, for when it is redelivered. It is written, and not read
    /// again.
    pub note: String,
}

/// What of a mailbox transaction was given up, and is redelivered as a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Together {
    /// The transaction.
    pub transaction: Uuid,
    /// Place among all that is redelivered of the key. That is a key of its own: what comes of the
    /// user meanwhile does not wait for it.
    pub place: KeyPlace,
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

/// One thing that has happened and is to be kept.
///
/// What is said of one delivery holds in the order in which it is said, and so does what is said of
/// one range: each is applied to what those before it have left. Between two deliveries, or two
/// ranges, there is no order, and neither is there between those and attempts, dead letters and
/// endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A delivery is owed; one that is owed already stays as it is.
    Owed(Owed),
    /// A delivery that is under way is owed, claimed by us; one that is owed already stays as it
    /// is.
    UnderWay(Owed),
    /// An owed delivery has failed again: with the next due time, no longer claimed.
    FailedAgain(Owed),
    /// An owed delivery was not tried: due at another time, no longer claimed. Whole, so that one
    /// that the ledger has lost is there again.
    GivenBack(Owed),
    /// An owed delivery that is not claimed is due at this time, by a clock that was set since
    /// it was written.
    Postponed(OwedId, Millis),
    /// An owed delivery is done: delivered, or a dead letter.
    Done(OwedId),
    /// The endpoint of an owed delivery is not known to us, or known not to be active: the delivery
    /// goes unless the ledger knows better.
    Unwanted(OwedId),
    /// A range begins, or begins anew where there is one of that name, and goes up to there;
    /// claimed by us. Nothing of it is done.
    Begun(RangeId, u64),
    /// A range grows up to there; claimed by us.
    Grown(RangeId, u64),
    /// Everything of a range is done that is before an offset.
    Progress(RangeId, u64),
    /// Everything of a range is done that is before an offset, and the range ends; one that goes
    /// further stays.
    Ended(RangeId, u64),
    /// The endpoint of a range is not known to us: the range goes unless the ledger knows it, and
    /// is claimed no longer.
    UnwantedRange(RangeId),
    /// A range cannot be read by us: no longer claimed.
    Released(RangeId),
    /// A delivery will not be made.
    Dead(DeadLetter),
    /// An attempt was made.
    Attempt(AttemptRow),
    /// An endpoint is not active from now on, and why.
    SwitchedOff(EndpointId, String),
}

/// Which owed deliveries are claimed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claiming {
    /// Deliveries that are due by then are claimed.
    pub now_ms: Millis,
    /// Most deliveries that are claimed.
    pub most: usize,
    /// Endpoints of which none is claimed.
    pub except: Vec<EndpointId>,
    /// Partitions that this dispatcher reads. What waits in order of another partition is left to
    /// the dispatcher that reads that, unless it has been due for [`LEFT_ALONE_MS`].
    pub partitions: Vec<TopicPartition>,
}

/// How long a delivery in order may be due before a dispatcher claims it that does not read its
/// partition: it may be that none reads it any more.
pub const LEFT_ALONE_MS: Millis = 30_000;

/// Owed deliveries that were claimed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The longest due first; what waits behind one of its key follows it, in order.
    pub owed: Vec<Owed>,
    /// Keys of which everything that was owed then is among these.
    pub complete: Vec<(EndpointId, OrderKey)>,
    /// Whether more may be due now.
    pub is_more: bool,
}

/// What an endpoint owes of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Debts {
    /// Ranges that no living dispatcher had claimed: ours now.
    pub claimed: Vec<OwedRange>,
    /// All other ranges, claimed by other dispatchers or by us.
    pub others: Vec<RangeId>,
    /// Keys of which a delivery is owed.
    pub keys: Vec<OrderKey>,
}

/// What deliveries that are owed, attempts and dead letters are stored in.
pub trait Ledger: Clone + Send + Sync + 'static {
    /// Name of the log of this dispatcher, where those that use the ledger have each their own;
    /// empty: they all have the same.
    fn log(&self) -> Arc<str> {
        Arc::from("")
    }

    /// Stores what has happened, all of it in one transaction; of one delivery and of one range in
    /// this order.
    fn record(&self, happened: &[Happened])
    -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Stores that this dispatcher lives: the others take it for dead when `alive_until_ms` has
    /// passed, unless it says so again before.
    fn beat(
        &self,
        now_ms: Millis,
        alive_until_ms: Millis,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Stores that this dispatcher has ended: what it has claimed is free.
    fn leave(&self) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Claims owed deliveries that are due and that no living dispatcher has claimed. Of a key that
    /// is delivered in order the first is claimed only, and what follows it at once.
    fn claim(
        &self,
        claiming: Claiming,
    ) -> impl Future<Output = Result<Claimed, LedgerError>> + Send;

    /// Claims owed deliveries of any endpoints.
    fn claim_owed(
        &self,
        now_ms: Millis,
        most: usize,
    ) -> impl Future<Output = Result<Vec<Owed>, LedgerError>> + Send {
        self.claim_owed_except(now_ms, most, Vec::new())
    }

    /// Claims owed deliveries, but for those to some endpoints.
    fn claim_owed_except(
        &self,
        now_ms: Millis,
        most: usize,
        except: Vec<EndpointId>,
    ) -> impl Future<Output = Result<Vec<Owed>, LedgerError>> + Send {
        let claiming = Claiming {
            now_ms,
            most,
            except,
            partitions: Vec::new(),
        };
        async move { Ok(self.claim(claiming).await?.owed) }
    }

    /// Endpoints that owe anything of a partition: a delivery in order, or a range.
    fn debtors(
        &self,
        of: TopicPartition,
    ) -> impl Future<Output = Result<Vec<EndpointId>, LedgerError>> + Send;

    /// What an endpoint owes of a partition; free ranges of it are claimed.
    fn take_over(
        &self,
        now_ms: Millis,
        endpoint: EndpointId,
        of: TopicPartition,
    ) -> impl Future<Output = Result<Debts, LedgerError>> + Send;

    /// Keys of an endpoint, of these, of which a delivery is owed. A first one that was left
    /// [`BEHIND`] is due.
    fn owed_keys(
        &self,
        endpoint: EndpointId,
        keys: Vec<OrderKey>,
    ) -> impl Future<Output = Result<Vec<OrderKey>, LedgerError>> + Send;

    /// Partitions of which these endpoints owe ranges that no living dispatcher has claimed.
    fn free_ranges(
        &self,
        endpoints: Vec<EndpointId>,
    ) -> impl Future<Output = Result<Vec<(EndpointId, TopicPartition)>, LedgerError>> + Send;

    /// Endpoints that owe ranges of these topics which no living dispatcher has claimed: first
    /// those that owe the lowest offsets.
    fn owing_ranges(
        &self,
        now_ms: Millis,
        topics: Vec<Arc<str>>,
    ) -> impl Future<Output = Result<Vec<EndpointId>, LedgerError>> + Send;

    /// Claims ranges of these endpoints and topics that no living dispatcher has claimed, of each
    /// endpoint at most so many, those with the lowest offsets.
    fn claim_ranges_of(
        &self,
        now_ms: Millis,
        most: usize,
        endpoints: Vec<EndpointId>,
        topics: Vec<Arc<str>>,
    ) -> impl Future<Output = Result<Vec<OwedRange>, LedgerError>> + Send;

    /// Partitions, of any topic, of which ranges are owed that no dispatcher has claimed.
    fn partitions_of_free_ranges(
        &self,
    ) -> impl Future<Output = Result<Vec<TopicPartition>, LedgerError>> + Send;

    /// Ends ranges of a partition that no dispatcher has claimed, some at a time: those that end at
    /// this offset or before.
    fn end_free_ranges(
        &self,
        of: TopicPartition,
        until: u64,
    ) -> impl Future<Output = Result<Vec<OwedRange>, LedgerError>> + Send;

    /// Claims free ranges of any endpoints and topics.
    fn claim_ranges(
        &self,
        now_ms: Millis,
        most: usize,
    ) -> impl Future<Output = Result<Vec<OwedRange>, LedgerError>> + Send {
        async move {
            // What was claimed by who lives no more is free with that.
            self.owing_ranges(now_ms, Vec::new()).await?;
            let partitions = self.partitions_of_free_ranges().await?.into_iter();
            let mut topics: Vec<Arc<str>> = partitions.map(|of| of.topic).collect();
            topics.dedup();
            let endpoints = self.owing_ranges(now_ms, topics.clone()).await?;
            self.claim_ranges_of(now_ms, most, endpoints, topics).await
        }
    }
}
