//! The bytes of notifications that may be in memory at a time: in the queues of lanes, under way,
//! and waiting to be written to the ledger.
//!
//! What does not fit waits, or is left in the log as part of a range. A record that is larger than
//! all there is goes through alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::hanging::{HangingBytes, not_hanging};
use crate::locks::Lock;

/// What a notification takes besides its body: its places in queues, its spans, its headers.
const OVERHEAD_BYTES: usize = 1024;
/// The largest body that logs take by default, with what else it takes: so much is set aside at
/// least for deliveries whose sizes are not known.
const LARGEST_BYTES: u64 = 1024 * 1024 + OVERHEAD_BYTES as u64;
/// Part of all bytes that may be used for what one endpoint owes: one in so many.
const LANE_SHARE: u64 = 64;

/// How many bytes there are, and how many of them are free.
#[derive(Debug)]
pub(crate) struct Budget {
    total: u32,
    free: Arc<Semaphore>,
    /// Whether somebody has waited for long, and nothing was had since: others need not wait for
    /// the same.
    is_scarce: AtomicBool,
}

/// Bytes that are taken. They are free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    permit: OwnedSemaphorePermit,
    /// Share of the bytes that hanging attempts hold, as long as any attempt of this body hangs.
    pub(crate) hanging: Lock<Weak<HangingBytes>>,
}

impl Budget {
    /// One permit is a byte.
    pub(crate) fn new(bytes: u64) -> Self {
        let most = u64::from(u32::MAX).min(Semaphore::MAX_PERMITS as u64);
        let total = u32::try_from(bytes.clamp(LARGEST_BYTES, most)).unwrap_or(u32::MAX);
        Self {
            total,
            free: Arc::new(Semaphore::new(usize::try_from(total).unwrap_or(usize::MAX))),
            is_scarce: AtomicBool::new(false),
        }
    }

    /// Bytes that may be taken in all.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    fn cost(&self, bytes: usize) -> u32 {
        let cost = u32::try_from(bytes.saturating_add(OVERHEAD_BYTES));
        cost.unwrap_or(u32::MAX).min(self.total)
    }

    /// Bytes that are taken now.
    pub(crate) fn used(&self) -> u64 {
        let free = u64::try_from(self.free.available_permits()).unwrap_or(u64::MAX);
        u64::from(self.total).saturating_sub(free)
    }

    /// Reserve for a body, if there is some now.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Arc<Reserved>> {
        let permit = Arc::clone(&self.free).try_acquire_many_owned(self.cost(bytes));
        let held = permit.ok().map(Reserved::new)?;
        self.is_scarce.store(false, Ordering::Relaxed);
        Some(held)
    }

    /// Reserve for a body, which is waited for no longer than this; not at all while others have
    /// waited in vain.
    pub(crate) async fn take_within(&self, bytes: usize, limit: Duration) -> Option<Arc<Reserved>> {
        let held = self.try_take(bytes);
        if held.is_some() || self.is_scarce.load(Ordering::Relaxed) {
            return held;
        }
        let held = self.wait(bytes, limit).await;
        self.is_scarce.store(held.is_none(), Ordering::Relaxed);
        held
    }

    /// Reserve for a body, waited for in any case.
    pub(crate) async fn wait(&self, bytes: usize, limit: Duration) -> Option<Arc<Reserved>> {
        let permit = Arc::clone(&self.free).acquire_many_owned(self.cost(bytes));
        let permit = tokio::time::timeout(limit, permit).await.ok()?;
        permit.ok().map(Reserved::new)
    }

    /// Reserve for deliveries whose sizes are not known, at most so many: half of what is free, and
    /// for one of the largest at least. The other half is left to others.
    pub(crate) async fn take_for(&self, most: usize, limit: Duration) -> Option<Reserve> {
        let free = u64::try_from(self.free.available_permits()).unwrap_or(u64::MAX);
        let largest = LARGEST_BYTES.saturating_mul(most as u64);
        let bytes = (free / 2).min(largest).max(LARGEST_BYTES);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.total);
        let permit = Arc::clone(&self.free).acquire_many_owned(bytes);
        let permit = tokio::time::timeout(limit, permit).await.ok()?;
        Some(Reserve(permit.ok()?))
    }

    /// Bytes that may wait in the lane of one endpoint.
    pub(crate) fn lane_bytes(&self) -> u64 {
        u64::from(self.total) / LANE_SHARE
    }

    /// How many bodies of this size may wait or be under way of the ranges of one endpoint: at
    /// least one.
    pub(crate) fn window(&self, bytes: usize) -> usize {
        let share = self.lane_bytes() / u64::from(self.cost(bytes));
        usize::try_from(share).unwrap_or(usize::MAX).max(1)
    }
}

/// Reserve for several bodies.
pub(crate) struct Reserve(OwnedSemaphorePermit);

impl Reserve {
    /// For how many deliveries it is, at most so many, and how many bytes their bodies may have
    /// together.
    pub(crate) fn holds(&self, most: usize) -> (usize, usize) {
        let bytes = self.0.num_permits();
        let count = most.min(bytes / (2 * OVERHEAD_BYTES)).max(1);
        (count, bytes.saturating_sub(count * OVERHEAD_BYTES))
    }

    /// Takes out what one of them needs.
    pub(crate) fn take(&mut self, budget: &Budget, bytes: usize) -> Option<Arc<Reserved>> {
        let left = self.0.num_permits();
        let cost = usize::try_from(budget.cost(bytes)).unwrap_or(usize::MAX);
        self.0.split(cost.min(left)).map(Reserved::new)
    }
}

impl Reserved {
    fn new(permit: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self {
            permit,
            hanging: not_hanging(),
        })
    }

    /// How many bytes are taken.
    pub(crate) fn bytes(&self) -> u32 {
        u32::try_from(self.permit.num_permits()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1024 * 1024;
    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn bytes_are_free_again_when_what_holds_them_is_dropped() {
        let budget = Budget::new(4 * LARGEST_BYTES);
        let held: Vec<_> = (0..4).map(|_| budget.try_take(MB)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(budget.try_take(1).is_none());
        assert_eq!(budget.used(), 4 * LARGEST_BYTES);
        let second = held[0].clone();
        drop(held);
        assert_eq!(budget.used(), LARGEST_BYTES);
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_larger_than_all_there_is_goes_alone() {
        let budget = Budget::new(4 * LARGEST_BYTES);
        let held = budget.wait(100 * MB, SOON).await;
        assert!(held.is_some() && budget.try_take(1).is_none());
        drop(held);
        assert!(budget.try_take(1).is_some());
        assert_eq!((budget.window(100 * MB), budget.window(MB)), (1, 1));
        assert_eq!(budget.window(0), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn once_somebody_has_waited_in_vain_others_do_not() {
        let budget = Budget::new(4 * LARGEST_BYTES);
        let held = budget.wait(4 * MB, SOON).await;
        let start = tokio::time::Instant::now();
        assert!(budget.take_within(MB, SOON).await.is_none());
        assert_eq!(start.elapsed(), SOON);
        assert!(budget.take_within(MB, SOON).await.is_none());
        assert_eq!(start.elapsed(), SOON);
        drop(held);
        assert!(budget.take_within(MB, SOON).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_fetched_takes_what_it_needs_and_leaves_the_rest() {
        let budget = Budget::new(16 * LARGEST_BYTES);
        let mut room = budget.take_for(500, SOON).await.expect("room");
        assert_eq!(budget.used(), 8 * LARGEST_BYTES);
        let all = 8 * (MB + OVERHEAD_BYTES);
        assert_eq!(room.holds(500), (500, all - 500 * OVERHEAD_BYTES));
        let held = room.take(&budget, 0);
        drop(room);
        assert_eq!(budget.used(), OVERHEAD_BYTES as u64);
        drop(held);
        let all = budget.wait(100 * MB, SOON).await;
        assert!(budget.take_for(500, SOON).await.is_none());
        drop(all);
        let room = budget.take_for(3, SOON).await.expect("room");
        assert_eq!(budget.used(), 3 * LARGEST_BYTES);
        assert_eq!(room.holds(3), (3, 3 * MB));
    }
}
