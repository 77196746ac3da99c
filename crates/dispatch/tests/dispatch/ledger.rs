//! A ledger in memory that keeps its promises, outlives dispatchers, and can be looked into.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use dovecast_dispatch::ledger::{
    AttemptRow, DeadLetter, Happened, Ledger, LedgerError, Millis, Owed, OwedId, OwedRange, RangeId,
};
use dovecast_notification::EndpointId;

#[derive(Clone)]
pub(crate) struct Memory(Arc<Mutex<Kept>>);

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Kept {
            most_except: usize::MAX,
            ..Kept::default()
        })))
    }
}

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) owed: BTreeMap<OwedId, (Owed, bool)>,
    pub(crate) ranges: BTreeMap<RangeId, (u64, u64, bool)>,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) attempts: Vec<AttemptRow>,
    /// Endpoints that a claim can leave out.
    pub(crate) most_except: usize,
    /// Times that it was asked for what is due.
    pub(crate) claims: usize,
    /// Panics so many times before it does anything else.
    pub(crate) panics: usize,
    /// Whether everything is refused.
    pub(crate) is_away: bool,
    /// The most ranges that were claimed in one go.
    pub(crate) most_claimed: usize,
    /// Endpoints of which ranges were claimed.
    pub(crate) claimed_of: BTreeSet<EndpointId>,
    /// Writes that were refused.
    pub(crate) refused: usize,
    /// How often the dispatcher could not say that it lives.
    pub(crate) refused_beats: usize,
    /// Until when the dispatcher has said that it lives.
    alive_until_ms: Millis,
}

impl Kept {
    /// Whether others would take the dispatcher for dead.
    pub(crate) fn is_dead(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("after 1970").as_millis() > self.alive_until_ms.unsigned_abs().into()
    }
}

impl Memory {
    /// How many deliveries were made again of which it was written down that the endpoint has them.
    /// What an endpoint has taken and could not say in time is made again, on a machine that is
    /// busy: that is no fault.
    pub(crate) fn made_again(&self) -> usize {
        let kept = self.kept();
        let delivered = kept.attempts.iter().filter(|row| row.is_delivered);
        let of: BTreeSet<_> = delivered
            .clone()
            .map(|row| (row.endpoint, row.notification))
            .collect();
        delivered.count() - of.len()
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("not poisoned")
    }

    /// As the dispatcher sees it.
    fn asked(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept();
        if kept.panics > 0 {
            kept.panics -= 1;
            drop(kept);
            panic!("the ledger panics");
        }
        kept
    }

    /// The dispatcher is gone: what it has claimed is free.
    pub(crate) fn run_out(&self) {
        let mut kept = self.kept();
        kept.owed
            .values_mut()
            .for_each(|(_, is_claimed)| *is_claimed = false);
        kept.ranges
            .values_mut()
            .for_each(|(.., is_claimed)| *is_claimed = false);
    }
}

fn away() -> LedgerError {
    LedgerError {
        doing: "write",
        place: "memory",
        reason: "it is away".to_owned(),
    }
}

impl Ledger for Memory {
    async fn record(&self, happened: Happened) -> Result<(), LedgerError> {
        let mut kept = self.asked();
        if kept.is_away {
            kept.refused += 1;
            return Err(away());
        }
        for owed in happened.owed {
            let id = (owed.endpoint, owed.notification);
            kept.owed.entry(id).or_insert((owed, false));
        }
        for owed in happened.under_way {
            let id = (owed.endpoint, owed.notification);
            kept.owed.entry(id).or_insert((owed, true));
        }
        for owed in happened.failed_again {
            kept.owed
                .insert((owed.endpoint, owed.notification), (owed, false));
        }
        for owed in happened.given_back {
            let id = (owed.endpoint, owed.notification);
            let due_ms = owed.due_ms;
            let (owed, is_claimed) = kept.owed.entry(id).or_insert((owed, false));
            (owed.due_ms, *is_claimed) = (due_ms, false);
        }
        for (id, due_ms) in happened.postponed {
            if let Some((owed, false)) = kept.owed.get_mut(&id) {
                owed.due_ms = due_ms;
            }
        }
        for id in happened.unwanted.into_iter().chain(happened.done) {
            kept.owed.remove(&id);
        }
        for (id, to) in happened.begun {
            let range = kept.ranges.entry(id.clone()).or_insert((0, to, true));
            *range = (id.start, range.1.max(to), true);
        }
        for (id, to) in happened.grown {
            let start = id.start;
            let range = kept.ranges.entry(id).or_insert((start, to, true));
            range.1 = to;
        }
        for (id, from) in happened.progress {
            if let Some(range) = kept.ranges.get_mut(&id) {
                range.0 = from;
            }
        }
        for (id, to) in happened.ended {
            if kept.ranges.get(&id).is_some_and(|range| range.1 <= to) {
                kept.ranges.remove(&id);
            }
        }
        for id in happened.unwanted_ranges {
            kept.ranges.remove(&id);
        }
        for id in happened.released {
            if let Some(range) = kept.ranges.get_mut(&id) {
                range.2 = false;
            }
        }
        kept.dead.extend(happened.dead);
        kept.attempts.extend(happened.attempts);
        Ok(())
    }

    async fn beat(&self, _: Millis, alive_until_ms: Millis) -> Result<(), LedgerError> {
        let mut kept = self.asked();
        if kept.is_away {
            kept.refused_beats += 1;
            return Err(away());
        }
        kept.alive_until_ms = alive_until_ms;
        Ok(())
    }

    async fn leave(&self) -> Result<(), LedgerError> {
        self.run_out();
        Ok(())
    }

    async fn claim_owed_except(
        &self,
        now_ms: Millis,
        most: usize,
        except: Vec<EndpointId>,
    ) -> Result<Vec<Owed>, LedgerError> {
        let mut kept = self.asked();
        kept.claims += 1;
        let except: BTreeSet<_> = except.into_iter().take(kept.most_except).collect();
        if kept.is_away {
            return Err(away());
        }
        let due = kept
            .owed
            .values_mut()
            .filter(|(owed, is_claimed)| owed.due_ms <= now_ms && !*is_claimed)
            .filter(|(owed, _)| !except.contains(&owed.endpoint));
        let claim = |(owed, is_claimed): &mut (Owed, bool)| {
            *is_claimed = true;
            owed.clone()
        };
        Ok(due.take(most).map(claim).collect())
    }

    async fn owing_ranges(&self, _: Millis) -> Result<Vec<EndpointId>, LedgerError> {
        let kept = self.asked();
        if kept.is_away {
            return Err(away());
        }
        let free = kept.ranges.iter().filter(|(_, range)| !range.2);
        let mut owing: Vec<EndpointId> = free.map(|(id, _)| id.endpoint).collect();
        owing.dedup();
        Ok(owing)
    }

    async fn claim_ranges_of(
        &self,
        _: Millis,
        most: usize,
        endpoints: Vec<EndpointId>,
    ) -> Result<Vec<OwedRange>, LedgerError> {
        let mut kept = self.asked();
        if kept.is_away {
            return Err(away());
        }
        let mut claimed = Vec::new();
        for endpoint in endpoints {
            let ranges = kept.ranges.iter_mut();
            let free = ranges.filter(|(id, range)| id.endpoint == endpoint && !range.2);
            for (id, range) in free.take(most) {
                range.2 = true;
                claimed.push(OwedRange {
                    id: id.clone(),
                    from: range.0,
                    to: range.1,
                });
            }
        }
        kept.most_claimed = kept.most_claimed.max(claimed.len());
        let of = claimed.iter().map(|range| range.id.endpoint);
        kept.claimed_of.extend(of);
        Ok(claimed)
    }
}
