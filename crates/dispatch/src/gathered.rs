//! The batch of what has happened to deliveries that the next transaction of the ledger (the
//! database) writes, in the order in which it was said.
//!
//! Of a range, which may move on many times before the next write, only the outcome is kept, so
//! that a transaction stays small. Nothing here writes: that is `recording`.

use std::collections::BTreeMap;

use dovecast_notification::EndpointId;

use crate::ledger::{Happened, Millis, OwedId, RangeId};
use crate::permits::{Permit, Permits};

/// Due times that are written in one transaction after the clock was set: the lock of a store is
/// held no longer than that.
const POSTPONED_AT_A_TIME: usize = 1_000;

/// What waits for the next write.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// What was said of deliveries, attempts and dead letters, the first first.
    said: Vec<Happened>,
    /// Attempts among what was said.
    attempts: usize,
    /// Things among what was said that hold a body or a text.
    large: usize,
    ranges: BTreeMap<RangeId, OfRange>,
    /// Endpoints that are not active from now on, and the last reason of each.
    disabled: BTreeMap<EndpointId, String>,
    /// When deliveries are due by a clock that was set.
    postponed: Vec<(OwedId, Millis)>,
    /// Counts those, as long as there are any.
    permit: Option<Permit>,
}

/// What has become of one range. It is applied from the first field to the last.
#[derive(Debug, Default)]
struct OfRange {
    begun: Option<u64>,
    grown: Option<u64>,
    progress: Option<u64>,
    ended: Option<u64>,
    is_unwanted: bool,
    is_released: bool,
}

impl Gathered {
    /// Adds what has happened after everything that was added before.
    pub(crate) fn push(&mut self, happened: Happened) {
        match happened {
            Happened::Begun(id, to) => self.ranges.entry(id).or_default().begin(to),
            Happened::Grown(id, to) => self.ranges.entry(id).or_default().grow(to),
            Happened::Progress(id, from) => {
                let range = self.ranges.entry(id).or_default();
                range.progress = range.progress.max(Some(from));
            }
            Happened::Ended(id, to) => {
                let range = self.ranges.entry(id).or_default();
                range.ended = range.ended.max(Some(to));
            }
            Happened::UnwantedRange(id) => self.ranges.entry(id).or_default().is_unwanted = true,
            Happened::Released(id) => self.ranges.entry(id).or_default().is_released = true,
            Happened::Disabled(endpoint, reason) => {
                self.disabled.insert(endpoint, reason);
            }
            Happened::Postponed(id, due_ms) => self.postponed.push((id, due_ms)),
            Happened::Attempt(_) => {
                self.attempts += 1;
                self.large += 1;
                self.said.push(happened);
            }
            Happened::Owed(_)
            | Happened::UnderWay(_)
            | Happened::FailedAgain(_)
            | Happened::GivenBack(_)
            | Happened::Dead(_) => {
                self.large += 1;
                self.said.push(happened);
            }
            Happened::Done(_) | Happened::Unwanted(_) => self.said.push(happened),
        }
    }

    /// Attempts that wait to be written.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts
    }

    /// Deliveries, dead letters and attempts that wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.large
    }

    /// Takes other due times in the place of those that are not written yet.
    pub(crate) fn postpone(&mut self, postponed: Vec<(OwedId, Millis)>, unwritten: &Permits) {
        self.permit = (!postponed.is_empty()).then(|| unwritten.take());
        self.postponed = postponed;
    }

    /// Takes all that is to be written next; more due times than one transaction takes stay.
    pub(crate) fn take(&mut self) -> Self {
        let most = self.postponed.len().min(POSTPONED_AT_A_TIME);
        let later = self.postponed.split_off(most);
        let permit = self.permit.as_ref().filter(|_| !later.is_empty());
        let permit = permit.map(Permit::another);
        std::mem::replace(
            self,
            Self {
                postponed: later,
                permit,
                ..Self::default()
            },
        )
    }

    /// Counts the due times among it, if there are any, until it is dropped.
    pub(crate) fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// Everything, in the order in which it is written.
    pub(crate) fn into_list(self) -> Vec<Happened> {
        let mut happened = self.said;
        for (id, range) in self.ranges {
            range.append(&id, &mut happened);
        }
        let disabled = self.disabled.into_iter();
        happened.extend(disabled.map(|(endpoint, why)| Happened::Disabled(endpoint, why)));
        let postponed = self.postponed.into_iter();
        // Last: what was said before of these deliveries was said by the clock as it was, or is
        // known to the new due time.
        happened.extend(postponed.map(|(id, due_ms)| Happened::Postponed(id, due_ms)));
        happened
    }
}

impl OfRange {
    /// Nothing that was said before of a range of this name holds for this one, but for how far it
    /// goes: several threads may say that it begins and that it grows, in any order.
    fn begin(&mut self, to: u64) {
        let to = Some(to).max(self.begun).max(self.grown);
        *self = Self {
            begun: to,
            ..Self::default()
        };
    }

    fn grow(&mut self, to: u64) {
        let end = if self.begun.is_some() {
            &mut self.begun
        } else {
            &mut self.grown
        };
        *end = (*end).max(Some(to));
    }

    fn append(self, id: &RangeId, happened: &mut Vec<Happened>) {
        let offsets = [
            self.begun.map(|to| Happened::Begun(id.clone(), to)),
            self.grown.map(|to| Happened::Grown(id.clone(), to)),
            self.progress
                .map(|from| Happened::Progress(id.clone(), from)),
            self.ended.map(|to| Happened::Ended(id.clone(), to)),
        ];
        happened.extend(offsets.into_iter().flatten());
        if self.is_unwanted {
            happened.push(Happened::UnwantedRange(id.clone()));
        }
        if self.is_released {
            happened.push(Happened::Released(id.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
