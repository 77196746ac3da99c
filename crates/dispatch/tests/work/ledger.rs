//! A ledger in memory that keeps its promises, outlives dispatchers, and can be looked into.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use dovecast_dispatch::work::ledger::{
    AttemptRow, DeadLetter, Happened, Ledger, Millis, Owed, OwedId, OwedRange, RangeId,
};
use dovecast_log::LogError;

#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) owed: BTreeMap<OwedId, (Owed, Millis)>,
    pub(crate) ranges: BTreeMap<RangeId, (u64, u64, Millis)>,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) attempts: Vec<AttemptRow>,
    /// Refuses everything.
    pub(crate) is_away: bool,
}

impl Memory {
    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("not poisoned")
    }

    /// What was claimed by a dispatcher that is gone is free, as if its lease had run out.
    pub(crate) fn run_out(&self) {
        let mut kept = self.kept();
        kept.owed.values_mut().for_each(|(_, lease)| *lease = 0);
        kept.owed.values_mut().for_each(|(owed, _)| owed.due_ms = 0);
        kept.ranges.values_mut().for_each(|(.., lease)| *lease = 0);
    }
}

fn away() -> LogError {
    LogError::Io {
        doing: "write",
        place: "memory".to_owned(),
        reason: "it is away".to_owned(),
    }
}

impl Ledger for Memory {
    async fn record(&self, happened: Happened) -> Result<(), LogError> {
        let mut kept = self.kept();
        if kept.is_away {
            return Err(away());
        }
        for owed in happened.owed {
            let id = (owed.endpoint, owed.notification);
            kept.owed.entry(id).or_insert((owed, 0));
        }
        for owed in happened.failed_again {
            kept.owed
                .insert((owed.endpoint, owed.notification), (owed, 0));
        }
        for (id, due_ms) in happened.given_back {
            if let Some((owed, lease)) = kept.owed.get_mut(&id) {
                (owed.due_ms, *lease) = (due_ms, 0);
            }
        }
        for id in happened.done {
            kept.owed.remove(&id);
        }
        let lease = happened.lease_until_ms;
        for (id, to) in happened.grown {
            let start = id.start;
            let range = kept.ranges.entry(id).or_insert((start, to, lease));
            (range.1, range.2) = (to, lease);
        }
        for (id, from) in happened.progress {
            if let Some(range) = kept.ranges.get_mut(&id) {
                (range.0, range.2) = (from, lease);
            }
        }
        for id in happened.renewed {
            if let Some(range) = kept.ranges.get_mut(&id) {
                range.2 = lease;
            }
        }
        for id in happened.ended {
            kept.ranges.remove(&id);
        }
        kept.dead.extend(happened.dead);
        kept.attempts.extend(happened.attempts);
        Ok(())
    }

    async fn claim_owed(
        &self,
        now_ms: Millis,
        lease_until_ms: Millis,
        most: usize,
    ) -> Result<Vec<Owed>, LogError> {
        let mut kept = self.kept();
        if kept.is_away {
            return Err(away());
        }
        let due = kept
            .owed
            .values_mut()
            .filter(|(owed, lease)| owed.due_ms <= now_ms && *lease < now_ms);
        let claim = |(owed, lease): &mut (Owed, Millis)| {
            *lease = lease_until_ms;
            owed.clone()
        };
        Ok(due.take(most).map(claim).collect())
    }

    async fn claim_ranges(
        &self,
        now_ms: Millis,
        lease_until_ms: Millis,
        most: usize,
    ) -> Result<Vec<OwedRange>, LogError> {
        let mut kept = self.kept();
        if kept.is_away {
            return Err(away());
        }
        let free = kept.ranges.iter_mut().filter(|(_, range)| range.2 < now_ms);
        let claim = |(id, range): (&RangeId, &mut (u64, u64, Millis))| {
            range.2 = lease_until_ms;
            OwedRange {
                id: id.clone(),
                from: range.0,
                to: range.1,
            }
        };
        Ok(free.take(most).map(claim).collect())
    }
}
