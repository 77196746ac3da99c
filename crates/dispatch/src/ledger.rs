//! What the dispatcher has to keep, and asks of a store: deliveries that are owed, ranges of the
//! log that are owed, dead letters, attempts, how endpoints are.
//!
//! A ledger promises: what [`Ledger::record`] has returned `Ok` for is durable, all of it
//! or nothing. Several dispatchers may use one ledger: what one has claimed no other gets while it
//! lives.

mod rows;

use std::future::Future;
use std::sync::Arc;

pub use dovecast_log::TopicPartition;
use dovecast_notification::{EndpointId, OrderKey};

pub use rows::{
    AttemptRow, DeadLetter, KeyPlace, Owed, OwedId, OwedRange, RangeId, RecordPlace,
    RedeliveredWith,
};

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
    Disabled(EndpointId, String),
}

/// Which owed deliveries are claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claiming {
    /// Deliveries that are due by then are claimed.
    pub now_ms: Millis,
    /// Most deliveries that are claimed.
    pub most: usize,
    /// Most bytes of their contents. A delivery that has more is claimed if it is the first one,
    /// and a mailbox transaction may need some more.
    pub bytes: usize,
    /// Endpoints of which none is claimed.
    pub except: Vec<EndpointId>,
    /// Partitions that this dispatcher reads. What waits in order of another partition is left to
    /// the dispatcher that reads that, unless it has been due for [`LEFT_ALONE_MS`].
    pub partitions: Vec<TopicPartition>,
}

impl Default for Claiming {
    /// Nothing, of contents of any size.
    fn default() -> Self {
        Self {
            now_ms: 0,
            most: 0,
            bytes: usize::MAX,
            except: Vec::new(),
            partitions: Vec::new(),
        }
    }
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
            ..Claiming::default()
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
