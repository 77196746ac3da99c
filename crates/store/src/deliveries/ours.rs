//! What this process has claimed, as far as it knows. A claim whose answer is lost after its commit is ours in the database and
//! known to nobody: by what is known here such claims are found, and taken up.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dovecast_dispatch::work::ledger::{Happened, Owed, OwedId, OwedRange, RangeId};

/// The claims of a process.
#[derive(Debug, Default)]
pub(crate) struct Ours(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    owed: HashSet<OwedId>,
    /// And up to where they go.
    ranges: HashMap<RangeId, u64>,
    /// A claim has failed, and may be there all the same.
    is_owed_unsure: bool,
    are_ranges_unsure: bool,
}

impl Ours {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is about to be written.
    pub(super) fn will_record(&self, happened: &Happened) {
        let mut known = self.known();
        known.owed.extend(happened.under_way.iter().map(id));
        for (range, to) in &happened.grown {
            known.take_range(range, *to);
        }
    }

    /// This was written.
    pub(super) fn recorded(&self, happened: &Happened) {
        let mut known = self.known();
        let known = &mut *known;
        let again = happened.failed_again.iter().map(id);
        let back = happened.given_back.iter().map(|(id, _)| *id);
        let others = happened.done.iter().chain(&happened.unwanted).copied();
        for id in again.chain(back).chain(others) {
            known.owed.remove(&id);
        }
        for (range, done) in &happened.ended {
            if known.ranges.get(range).is_some_and(|to| to <= done) {
                known.ranges.remove(range);
            }
        }
    }

    /// Whether claims of deliveries may be unknown here.
    pub(super) fn is_owed_unsure(&self) -> bool {
        self.known().is_owed_unsure
    }

    /// Whether claims of ranges may be unknown here.
    pub(super) fn are_ranges_unsure(&self) -> bool {
        self.known().are_ranges_unsure
    }

    pub(super) fn set_owed_unsure(&self, is_unsure: bool) {
        self.known().is_owed_unsure = is_unsure;
    }

    pub(super) fn set_ranges_unsure(&self, are_unsure: bool) {
        self.known().are_ranges_unsure = are_unsure;
    }

    /// Of what is ours, what was not known.
    pub(super) fn new_owed(&self, owed: Vec<Owed>) -> Vec<Owed> {
        let mut known = self.known();
        let is_new = |owed: &Owed| known.owed.insert(id(owed));
        owed.into_iter().filter(is_new).collect()
    }

    /// The same of ranges.
    pub(super) fn new_ranges(&self, ranges: Vec<OwedRange>) -> Vec<OwedRange> {
        let mut known = self.known();
        let is_new = |range: &OwedRange| known.take_range(&range.id, range.to);
        ranges.into_iter().filter(is_new).collect()
    }

    /// These are ours from now on, whatever was known.
    pub(super) fn claimed_owed(&self, owed: &[Owed]) {
        self.known().owed.extend(owed.iter().map(id));
    }

    /// The same of ranges.
    pub(super) fn claimed_ranges(&self, ranges: &[OwedRange]) {
        let mut known = self.known();
        for range in ranges {
            known.take_range(&range.id, range.to);
        }
    }
}

impl Known {
    /// `true`: it is new.
    fn take_range(&mut self, id: &RangeId, to: u64) -> bool {
        let before = self.ranges.get(id).copied();
        self.ranges
            .insert(id.clone(), before.unwrap_or_default().max(to));
        before.is_none()
    }
}

fn id(owed: &Owed) -> OwedId {
    (owed.endpoint, owed.notification)
}
