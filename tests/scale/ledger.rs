//! The real store as the ledger of each node, on the simulated time, with an account of who has
//! claimed what.
//!
//! While the store is asked anything, no time passes: a task that blocks keeps tokio's clock from
//! being moved on. So what the store does takes no time here, however busy the machine is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

use dovecast_dispatch::ledger::{
    BEHIND, Claimed, Claiming, Debts, Happened, Ledger, LedgerError, Millis, OwedId, OwedRange,
    RangeId, TopicPartition,
};
use dovecast_notification::{EndpointId, OrderKey};
use dovecast_store::{Clock, Store};
use tokio::time::Instant;

use crate::nodes::Cut;

/// The simulated time: begins now, and passes as fast as there is something to do.
#[derive(Debug)]
pub(crate) struct Time {
    began: Instant,
    began_ms: Millis,
    shown_ms: AtomicI64,
    /// Time of all stores.
    pub(crate) clock: Clock,
}

impl Time {
    pub(crate) fn new() -> Self {
        let began_ms = real_ms();
        Self {
            began: Instant::now(),
            began_ms,
            shown_ms: AtomicI64::new(began_ms),
            clock: Clock::standing(began_ms),
        }
    }

    pub(crate) fn now_ms(&self) -> Millis {
        let passed = i64::try_from(self.began.elapsed().as_millis()).expect("not so long");
        let now_ms = self.began_ms + passed;
        let before = self.shown_ms.swap(now_ms, Ordering::AcqRel);
        self.clock.pass(now_ms - before);
        now_ms
    }
}

/// The system's, by which dispatchers say when something is due.
fn real_ms() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_millis()).expect("not so late")
}

/// Who has claimed what, as the nodes were told.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<Kept>);

#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) ranges: HashMap<RangeId, usize>,
    owed: HashMap<OwedId, usize>,
    /// Until when each node lives, as it has said.
    alive_until_ms: HashMap<usize, Millis>,
    /// What two nodes that live had claimed at a time.
    pub(crate) claimed_twice: Vec<String>,
    /// Ranges that were another node's, and how long after its claim had ended.
    pub(crate) taken_over: Vec<(RangeId, Millis)>,
    /// Ranges that each node has claimed.
    pub(crate) claims: HashMap<usize, usize>,
    pub(crate) ranges_begun: usize,
}

impl Claims {
    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("not poisoned")
    }
}

impl Kept {
    fn lives(&self, node: usize, now_ms: Millis) -> bool {
        self.alive_until_ms
            .get(&node)
            .is_some_and(|until| *until >= now_ms)
    }

    fn range(&mut self, node: usize, id: &RangeId, now_ms: Millis) {
        *self.claims.entry(node).or_default() += 1;
        let Some(before) = self
            .ranges
            .insert(id.clone(), node)
            .filter(|other| *other != node)
        else {
            return;
        };
        if self.lives(before, now_ms) {
            self.claimed_twice
                .push(format!("{id:?}: {before} and {node}"));
        } else {
            let until_ms = self.alive_until_ms.get(&before).copied().unwrap_or(now_ms);
            self.taken_over.push((id.clone(), now_ms - until_ms));
        }
    }

    fn owed(&mut self, node: usize, id: OwedId, now_ms: Millis) {
        if let Some(before) = self.owed.insert(id, node).filter(|other| *other != node)
            && self.lives(before, now_ms)
        {
            self.claimed_twice
                .push(format!("{id:?}: {before} and {node}"));
        }
    }

    /// What a record says is nobody's any more, if the store took it.
    fn recorded(&mut self, node: usize, happened: &[Happened]) {
        for happened in happened {
            match happened {
                Happened::Begun(id, _) => {
                    self.ranges_begun += 1;
                    self.ranges.insert(id.clone(), node);
                }
                Happened::Grown(id, _) => {
                    self.ranges.insert(id.clone(), node);
                }
                Happened::Ended(id, _) | Happened::Released(id) | Happened::UnwantedRange(id) => {
                    if self.ranges.get(id) == Some(&node) {
                        self.ranges.remove(id);
                    }
                }
                Happened::UnderWay(owed) => {
                    self.owed.insert((owed.endpoint, owed.notification), node);
                }
                Happened::FailedAgain(owed) | Happened::GivenBack(owed) => {
                    self.free(node, (owed.endpoint, owed.notification));
                }
                Happened::Done(id) => self.free(node, *id),
                Happened::Owed(_)
                | Happened::Postponed(..)
                | Happened::Unwanted(_)
                | Happened::Progress(..)
                | Happened::Dead(_)
                | Happened::Attempt(_)
                | Happened::Disabled(..) => {}
            }
        }
    }

    fn free(&mut self, node: usize, id: OwedId) {
        if self.owed.get(&id) == Some(&node) {
            self.owed.remove(&id);
        }
    }
}

/// The ledger of one node.
#[derive(Clone)]
pub(crate) struct NodeLedger {
    pub(crate) store: Store,
    pub(crate) node: usize,
    pub(crate) time: Arc<Time>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) cut: Cut,
}

/// Waits for something that takes no simulated time.
pub(crate) async fn at_once<T>(what: impl Future<Output = T>) -> T {
    let (standstill, over) = mpsc::channel::<()>();
    // Tokio's time stands still while this blocks, which ends when the sender is dropped.
    tokio::task::spawn_blocking(move || over.recv());
    let done = what.await;
    drop(standstill);
    done
}

impl NodeLedger {
    /// Asks the store. What a node that is cut off has asked is never answered.
    async fn ask<T>(&self, call: impl Future<Output = T>) -> T {
        self.cut.check().await;
        let answer = at_once(call).await;
        self.cut.check().await;
        answer
    }
}

impl Ledger for NodeLedger {
    fn log(&self) -> Arc<str> {
        self.store.log()
    }

    async fn record(&self, happened: &[Happened]) -> Result<(), LedgerError> {
        let mut happened = happened.to_vec();
        let now_ms = self.time.now_ms();
        // What dispatchers say in the system's time is due in the simulated one.
        let ahead_ms = now_ms - real_ms();
        for happened in &mut happened {
            if let Happened::Owed(owed)
            | Happened::UnderWay(owed)
            | Happened::FailedAgain(owed)
            | Happened::GivenBack(owed) = happened
                && owed.due_ms != BEHIND
            {
                owed.due_ms += ahead_ms;
            }
        }
        self.ask(self.store.record(&happened)).await?;
        self.claims.kept().recorded(self.node, &happened);
        Ok(())
    }

    async fn beat(&self, now_ms: Millis, alive_until_ms: Millis) -> Result<(), LedgerError> {
        let life_ms = alive_until_ms - now_ms;
        let now_ms = self.time.now_ms();
        self.ask(self.store.beat(now_ms, now_ms + life_ms)).await?;
        let mut kept = self.claims.kept();
        kept.alive_until_ms.insert(self.node, now_ms + life_ms);
        Ok(())
    }

    async fn leave(&self) -> Result<(), LedgerError> {
        let node = self.node;
        {
            let mut kept = self.claims.kept();
            kept.alive_until_ms.remove(&node);
            kept.ranges.retain(|_, owner| *owner != node);
            kept.owed.retain(|_, owner| *owner != node);
        }
        self.ask(self.store.leave()).await
    }

    async fn claim(&self, claiming: Claiming) -> Result<Claimed, LedgerError> {
        let now_ms = self.time.now_ms();
        let claiming = Claiming { now_ms, ..claiming };
        let mut claimed = self.ask(self.store.claim(claiming)).await?;
        let ahead_ms = now_ms - real_ms();
        let mut kept = self.claims.kept();
        for owed in &mut claimed.owed {
            kept.owed(self.node, (owed.endpoint, owed.notification), now_ms);
            if owed.due_ms != BEHIND {
                owed.due_ms -= ahead_ms;
            }
        }
        Ok(claimed)
    }

    async fn debtors(&self, of: TopicPartition) -> Result<Vec<EndpointId>, LedgerError> {
        self.ask(self.store.debtors(of)).await
    }

    async fn take_over(
        &self,
        _: Millis,
        endpoint: EndpointId,
        of: TopicPartition,
    ) -> Result<Debts, LedgerError> {
        let now_ms = self.time.now_ms();
        let debts = self.ask(self.store.take_over(now_ms, endpoint, of)).await?;
        let mut kept = self.claims.kept();
        for range in &debts.claimed {
            kept.range(self.node, &range.id, now_ms);
        }
        Ok(debts)
    }

    async fn owed_keys(
        &self,
        endpoint: EndpointId,
        keys: Vec<OrderKey>,
    ) -> Result<Vec<OrderKey>, LedgerError> {
        self.ask(self.store.owed_keys(endpoint, keys)).await
    }

    async fn free_ranges(
        &self,
        endpoints: Vec<EndpointId>,
    ) -> Result<Vec<(EndpointId, TopicPartition)>, LedgerError> {
        self.ask(self.store.free_ranges(endpoints)).await
    }

    async fn owing_ranges(
        &self,
        _: Millis,
        topics: Vec<Arc<str>>,
    ) -> Result<Vec<EndpointId>, LedgerError> {
        let now_ms = self.time.now_ms();
        self.ask(self.store.owing_ranges(now_ms, topics)).await
    }

    async fn partitions_of_free_ranges(&self) -> Result<Vec<TopicPartition>, LedgerError> {
        self.ask(self.store.partitions_of_free_ranges()).await
    }

    async fn end_free_ranges(
        &self,
        of: TopicPartition,
        until: u64,
    ) -> Result<Vec<OwedRange>, LedgerError> {
        self.ask(self.store.end_free_ranges(of, until)).await
    }

    async fn claim_ranges_of(
        &self,
        _: Millis,
        most: usize,
        endpoints: Vec<EndpointId>,
        topics: Vec<Arc<str>>,
    ) -> Result<Vec<OwedRange>, LedgerError> {
        let now_ms = self.time.now_ms();
        let claim = self.store.claim_ranges_of(now_ms, most, endpoints, topics);
        let ranges = self.ask(claim).await?;
        let mut kept = self.claims.kept();
        for range in &ranges {
            kept.range(self.node, &range.id, now_ms);
        }
        Ok(ranges)
    }
}
