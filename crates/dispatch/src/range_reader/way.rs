//! When the reader of a range gives up its place among the few readers of the log that may be open:
//! for others that wait for one, or because its endpoint cannot be delivered to now.

use std::collections::VecDeque;
use std::time::Instant;

use dovecast_log::Log;

use super::{GRACE, RangeReader};
use crate::budget::Budget;
use crate::item::Item;
use crate::lane::Lane;
use crate::ledger::Ledger;
use crate::shared::Shared;

/// Most records of a range that are kept while it has no reader: to read them again costs a
/// connection.
const KEPT: usize = 64;
/// Most bytes of such records, where the budget has room for them; more are read again.
const KEPT_BYTES: usize = 64 * 1024;

impl<L: Log> RangeReader<L> {
    /// Reads no more for now, and gives its place away.
    pub(crate) fn close(&mut self, budget: &Budget) {
        self.reader = None;
        self.place = None;
        self.room = None;
        self.has_given = false;
        // What is left out is read again.
        self.waiting.truncate(KEPT);
        let bytes = self.waiting.iter().map(|record| record.value.len()).sum();
        self.kept = None;
        if bytes > 0 {
            self.kept = budget.try_take(bytes);
        }
        if bytes > KEPT_BYTES || self.kept.is_none() {
            self.forget();
        }
    }

    /// What was fetched is read again.
    pub(super) fn forget(&mut self) {
        self.waiting = VecDeque::new();
        self.kept = None;
    }

    /// Reads again what was not looked at to its end.
    pub(crate) fn begin_anew(&mut self) {
        self.reader = None;
        self.place = None;
        self.has_given = false;
        self.forget();
    }

    /// Whether it may be closed for others: it has been good for something, or will not be.
    pub(super) fn may_make_way(&self) -> bool {
        let place = self.place.as_ref();
        self.has_given || place.is_some_and(|place| place.is_older_than(GRACE))
    }

    /// Keeps nothing that others want, or that is of no use for now.
    pub(crate) fn make_way<S: Ledger>(&mut self, shared: &Shared<L, S>, lane: &Lane)
    where
        L: Clone,
    {
        if lane.state().gate.is_barred(Instant::now()) {
            self.give_up(shared, lane);
        } else if shared.readers.are_wanted() && self.may_make_way() {
            self.close(&shared.budget);
        }
    }

    /// Reads no more, and has what waits read again by the one that goes on with the range.
    pub(crate) fn give_up<S: Ledger>(&mut self, shared: &Shared<L, S>, lane: &Lane)
    where
        L: Clone,
    {
        self.close(&shared.budget);
        self.forget();
        self.take_back(lane);
    }

    /// What waits in the lane is read again, when the endpoint may be there: who is away for long
    /// holds nothing.
    fn take_back(&mut self, lane: &Lane) {
        let waiting = lane.state().waiting_of(&self.run);
        // What is taken by a worker meanwhile comes twice.
        if let Some(first) = self.run.take_back(&waiting) {
            let taken = lane.state().take_waiting_of(&self.run, first);
            taken.into_iter().for_each(Item::abandon);
            self.next = first;
        }
    }
}
