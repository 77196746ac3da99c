//! A ledger in memory that keeps its promises, outlives dispatchers, and can be looked into.

mod happened;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use dovecast_dispatch::ledger::{
    AttemptRow, BEHIND, Claimed, Claiming, DeadLetter, Debts, Happened, LEFT_ALONE_MS, Ledger,
    LedgerError, Millis, Owed, OwedId, OwedRange, RangeId, TopicPartition,
};
use dovecast_log::now_ms;
use dovecast_notification::{EndpointId, OrderKey};

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
    pub(crate) disabled: Vec<EndpointId>,
    /// Endpoints that a claim can leave out.
    pub(crate) most_except: usize,
    /// Times that it was asked for what is due.
    pub(crate) claims: usize,
    /// Panics so many times before it does anything else.
    pub(crate) panics: usize,
    /// Whether everything is refused.
    pub(crate) is_away: bool,
    /// Whether nothing can be written down.
    pub(crate) is_full: bool,
    /// The most ranges that were claimed in one go.
    pub(crate) most_claimed: usize,
    /// Endpoints of which ranges were claimed, in the order of the claims.
    pub(crate) claimed_of: Vec<EndpointId>,
    /// Writes that were refused.
    pub(crate) refused: usize,
    /// How long it takes to write anything down.
    pub(crate) recording: Duration,
    /// Times that this was done.
    pub(crate) records: usize,
    /// How long it takes to claim what is owed of a partition.
    pub(crate) taking_over: Duration,
    /// Times that this was begun, and done.
    pub(crate) take_overs: (usize, usize),
    /// How often the dispatcher could not say that it lives.
    pub(crate) refused_beats: usize,
    /// Until when the dispatcher has said that it lives.
    alive_until_ms: Millis,
}

/// Deliveries of one key that are claimed at a time.
const RUN: usize = 50;

impl Kept {
    /// What is owed of a key, in order, and whether it is claimed.
    fn line(&self, endpoint: EndpointId, key: OrderKey) -> Vec<(Owed, bool)> {
        let of = |(owed, _): &&(Owed, bool)| {
            let place = owed.place.as_ref();
            owed.endpoint == endpoint && place.is_some_and(|place| place.key == key)
        };
        let mut line: Vec<(Owed, bool)> = self.owed.values().filter(of).cloned().collect();
        line.sort_by_key(|(owed, _)| owed.place.as_ref().map(|place| place.offset));
        line
    }

    fn take(&mut self, owed: &Owed) {
        let id = (owed.endpoint, owed.notification);
        if let Some((_, is_claimed)) = self.owed.get_mut(&id) {
            *is_claimed = true;
        }
    }

    /// The first of a key is due, if it was behind another one so far.
    fn make_next_due(&mut self, endpoint: EndpointId, key: OrderKey) {
        if let Some((first, _)) = self.line(endpoint, key).first()
            && first.due_ms == BEHIND
            && let Some((owed, _)) = self.owed.get_mut(&(endpoint, first.notification))
        {
            owed.due_ms = now_ms();
        }
    }

    /// Whether others would take the dispatcher for dead.
    pub(crate) fn is_dead(&self) -> bool {
        now_ms() > self.alive_until_ms
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

    /// As the dispatcher sees it, unless it is away.
    fn there(&self) -> Result<MutexGuard<'_, Kept>, LedgerError> {
        let kept = self.asked();
        if kept.is_away { Err(away()) } else { Ok(kept) }
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
    async fn record(&self, happened: &[Happened]) -> Result<(), LedgerError> {
        let takes = self.kept().recording;
        tokio::time::sleep(takes).await;
        let mut kept = self.asked();
        if kept.is_away || kept.is_full {
            kept.refused += 1;
            return Err(away());
        }
        let mut behind = BTreeSet::new();
        for happened in happened.iter().cloned() {
            if let Happened::Owed(owed) | Happened::GivenBack(owed) = &happened
                && owed.due_ms == BEHIND
                && let Some(place) = &owed.place
            {
                behind.insert((owed.endpoint, place.key));
            }
            kept.happened(happened);
        }
        for (endpoint, key) in behind {
            kept.make_next_due(endpoint, key);
        }
        kept.records += 1;
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

    async fn claim(&self, claiming: Claiming) -> Result<Claimed, LedgerError> {
        let mut kept = self.asked();
        kept.claims += 1;
        if kept.is_away {
            return Err(away());
        }
        let except = claiming.except.into_iter().take(kept.most_except);
        let except: BTreeSet<_> = except.collect();
        let due = kept.owed.values();
        let due = due.filter(|(owed, is_claimed)| owed.due_ms <= claiming.now_ms && !*is_claimed);
        let due = due.filter(|(owed, _)| !except.contains(&owed.endpoint));
        // Another dispatcher may read its partition.
        let left_alone_ms = claiming.now_ms - LEFT_ALONE_MS;
        let due = due.filter(|(owed, _)| {
            let place = owed.place.as_ref();
            let is_ours = place.is_none_or(|place| {
                let of = place.in_our_log();
                of.is_some_and(|of| claiming.partitions.contains(of))
            });
            is_ours || owed.due_ms <= left_alone_ms
        });
        let due: Vec<Owed> = due.map(|(owed, _)| owed.clone()).collect();
        let mut claimed = Claimed::default();
        for first in due {
            claimed.is_more = claimed.owed.len() >= claiming.most;
            if claimed.is_more {
                break;
            }
            let Some(place) = &first.place else {
                kept.take(&first);
                claimed.owed.push(first);
                continue;
            };
            let line = kept.line(first.endpoint, place.key);
            if line.first().is_none_or(|(before, _)| *before != first) {
                continue;
            }
            let free = line.iter().take_while(|(_, is_claimed)| !*is_claimed);
            let run: Vec<Owed> = free.take(RUN).map(|(owed, _)| owed.clone()).collect();
            if run.len() == line.len() {
                claimed.complete.push((first.endpoint, place.key));
            }
            for owed in run {
                kept.take(&owed);
                claimed.owed.push(owed);
            }
        }
        Ok(claimed)
    }

    async fn debtors(&self, of: TopicPartition) -> Result<Vec<EndpointId>, LedgerError> {
        let kept = self.asked();
        if kept.is_away {
            return Err(away());
        }
        let places = kept.owed.values().filter_map(|(owed, _)| {
            let place = owed.place.as_ref()?;
            (place.of == of).then_some(owed.endpoint)
        });
        let ranges = kept.ranges.keys().filter(|id| id.partition() == of);
        Ok(places.chain(ranges.map(|id| id.endpoint)).collect())
    }

    async fn take_over(
        &self,
        _: Millis,
        endpoint: EndpointId,
        of: TopicPartition,
    ) -> Result<Debts, LedgerError> {
        let takes = {
            let mut kept = self.kept();
            kept.take_overs.0 += 1;
            kept.taking_over
        };
        tokio::time::sleep(takes).await;
        let mut kept = self.asked();
        kept.take_overs.1 += 1;
        if kept.is_away {
            return Err(away());
        }
        let mut debts = Debts::default();
        for (id, range) in &mut kept.ranges {
            if id.endpoint != endpoint || id.partition() != of {
                continue;
            }
            if std::mem::replace(&mut range.2, true) {
                debts.others.push(id.clone());
                continue;
            }
            debts.claimed.push(OwedRange {
                id: id.clone(),
                from: range.0,
                to: range.1,
            });
        }
        let of_endpoint = |(owed, _): &&(Owed, bool)| owed.endpoint == endpoint;
        let places = kept.owed.values().filter(of_endpoint);
        let places = places.filter_map(|(owed, _)| owed.place.as_ref());
        let keys: BTreeSet<OrderKey> = places
            .filter(|place| place.of == of)
            .map(|place| place.key)
            .collect();
        debts.keys = keys.into_iter().collect();
        Ok(debts)
    }

    async fn owed_keys(
        &self,
        endpoint: EndpointId,
        keys: Vec<OrderKey>,
    ) -> Result<Vec<OrderKey>, LedgerError> {
        let mut kept = self.asked();
        if kept.is_away {
            return Err(away());
        }
        let is_owed = |key: &OrderKey| !kept.line(endpoint, *key).is_empty();
        let owed: Vec<OrderKey> = keys.into_iter().filter(is_owed).collect();
        for key in &owed {
            kept.make_next_due(endpoint, *key);
        }
        Ok(owed)
    }

    async fn free_ranges(
        &self,
        endpoints: Vec<EndpointId>,
    ) -> Result<Vec<(EndpointId, TopicPartition)>, LedgerError> {
        let kept = self.there()?;
        let free = kept.ranges.iter().filter(|(_, range)| !range.2);
        let free = free.map(|(id, _)| (id.endpoint, id.partition()));
        Ok(free.filter(|(of, _)| endpoints.contains(of)).collect())
    }

    async fn owing_ranges(
        &self,
        _: Millis,
        topics: Vec<Arc<str>>,
    ) -> Result<Vec<EndpointId>, LedgerError> {
        let kept = self.there()?;
        let free = kept.ranges.iter().filter(|(_, range)| !range.2);
        let free = free.filter(|(id, _)| topics.contains(&id.topic));
        let mut owing: Vec<EndpointId> = free.map(|(id, _)| id.endpoint).collect();
        owing.dedup();
        Ok(owing)
    }

    async fn claim_ranges_of(
        &self,
        _: Millis,
        most: usize,
        endpoints: Vec<EndpointId>,
        topics: Vec<Arc<str>>,
    ) -> Result<Vec<OwedRange>, LedgerError> {
        let mut kept = self.there()?;
        let mut claimed = Vec::new();
        for endpoint in endpoints {
            let ranges = kept.ranges.iter_mut();
            let free = ranges.filter(|(id, range)| {
                id.endpoint == endpoint && topics.contains(&id.topic) && !range.2
            });
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
        let mut of: Vec<EndpointId> = claimed.iter().map(|range| range.id.endpoint).collect();
        of.dedup();
        kept.claimed_of.extend(of);
        Ok(claimed)
    }

    async fn partitions_of_free_ranges(&self) -> Result<Vec<TopicPartition>, LedgerError> {
        let kept = self.there()?;
        let free = kept.ranges.iter().filter(|(_, range)| !range.2);
        let partitions: BTreeSet<_> = free.map(|(id, _)| id.partition()).collect();
        Ok(partitions.into_iter().collect())
    }

    async fn end_free_ranges(
        &self,
        of: TopicPartition,
        until: u64,
    ) -> Result<Vec<OwedRange>, LedgerError> {
        let mut kept = self.there()?;
        let free = kept.ranges.iter().filter(|(_, range)| !range.2);
        let ended = free.filter(|(id, range)| id.partition() == of && range.1 <= until);
        let owed = |(id, (from, to, _)): (&RangeId, &(u64, u64, bool))| OwedRange {
            id: id.clone(),
            from: *from,
            to: *to,
        };
        let ended: Vec<OwedRange> = ended.map(owed).collect();
        kept.ranges
            .retain(|id, _| ended.iter().all(|range| range.id != *id));
        Ok(ended)
    }
}
