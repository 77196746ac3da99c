//! What the ledger in memory makes of what has happened.

use dovecast_dispatch::ledger::{Happened, Owed};

use super::Kept;

impl Kept {
    /// Writes it down.
    pub(super) fn happened(&mut self, happened: Happened) {
        let id = |owed: &Owed| (owed.endpoint, owed.notification);
        match happened {
            Happened::Owed(owed) => {
                self.owed.entry(id(&owed)).or_insert((owed, false));
            }
            Happened::UnderWay(owed) => {
                self.owed.entry(id(&owed)).or_insert((owed, true));
            }
            Happened::FailedAgain(owed) => drop(self.owed.insert(id(&owed), (owed, false))),
            Happened::GivenBack(owed) => {
                let due_ms = owed.due_ms;
                let kept = self.owed.entry(id(&owed)).or_insert((owed, false));
                (kept.0.due_ms, kept.1) = (due_ms, false);
            }
            Happened::Postponed(id, due_ms) => {
                if let Some((owed, false)) = self.owed.get_mut(&id) {
                    owed.due_ms = due_ms;
                }
            }
            Happened::Unwanted(id) | Happened::Done(id) => {
                let removed = self.owed.remove(&id);
                if let Some(place) = removed.and_then(|(owed, _)| owed.place) {
                    self.make_next_due(id.0, place.key);
                }
            }
            Happened::Dead(letter) => self.dead.push(letter),
            Happened::Attempt(row) => self.attempts.push(row),
            Happened::Disabled(endpoint, _) => self.disabled.push(endpoint),
            other => self.range_happened(other),
        }
    }

    /// What has happened to a range.
    fn range_happened(&mut self, happened: Happened) {
        match happened {
            Happened::Begun(id, to) => {
                let start = id.start;
                let range = self.ranges.entry(id).or_insert((0, to, true));
                *range = (start, range.1.max(to), true);
            }
            Happened::Grown(id, to) => {
                let start = id.start;
                self.ranges.entry(id).or_insert((start, to, true)).1 = to;
            }
            Happened::Progress(id, from) => {
                if let Some(range) = self.ranges.get_mut(&id) {
                    range.0 = from;
                }
            }
            Happened::Ended(id, to) if self.ranges.get(&id).is_some_and(|range| range.1 <= to) => {
                self.ranges.remove(&id);
            }
            Happened::UnwantedRange(id) => self.ranges.retain(|other, _| *other != id),
            Happened::Released(id) => {
                if let Some(range) = self.ranges.get_mut(&id) {
                    range.2 = false;
                }
            }
            _ => {}
        }
    }
}
