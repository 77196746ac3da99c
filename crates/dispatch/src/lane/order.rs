//! The order of a lane: deliveries of one key go one after the other, as their records stand in the
//! log.
//!
//! Of each key one delivery is in the lane's queue or under way; the others wait in the line of the
//! key. While the ledger owes a delivery of a key, what comes of that key *joins* it there: it is
//! owed behind the one that failed, and holds up nothing here. A dispatcher that claims what is
//! owed of a key gets it in order, and its line is free again once all that was owed is here.
//!
//! So a delivery is made only when each earlier one of its key was made by this process, or is done
//! as the ledger knew when this process began to read the partition. Another process that still
//! delivers what it had of a partition that is not its own any more repeats what is made here
//! before anything newer is: to a receiver an old one that comes late has come before.
//!
//! What is owed of a key may have been written before others of the key that waited in memory when
//! their process ended. It is delivered when those have been read again (`read_up`), and what was
//! left to ranges before it (`Behind::is_unread`).
//!
//! When a partition becomes this process's, these take turns, so that nothing is overtaken:
//!
//! 1. `partitions` has the number of the assignment: what was known in an earlier one counts no
//!    more, as another process may have delivered the partition meanwhile.
//! 2. `debtors` asks the ledger which endpoints owe anything of the partition, once for all of
//!    them: those that owe nothing, which are nearly all, have no question of their own.
//! 3. `take_over` has each of the others claim its ranges of the partition and learn of which keys
//!    deliveries are owed. What is read of the partition before that is left to a range of it.
//! 4. `partition_ends` asks the log where the partition ends. What is owed in order is claimed and
//!    delivered when it was read up to there (`read_up`).
//! 5. `held_keys` asks the ledger now and then of which keys it owes nothing any more.
//!
//! Before the ledger is asked anything, what this process has said itself has to be written. A
//! process that loses a partition leaves its ranges to the next one (`take_over`).

pub(crate) mod assembling;
mod owes;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use dovecast_notification::OrderKey;
use uuid::Uuid;

use super::PATIENCE;
use crate::item::Item;
use crate::ledger::{KeyPlace, TopicPartition};
use assembling::Ends;
use assembling::open::Open;
use owes::{Owes, Unrecorded};

/// Most deliveries that wait in the line of one key: more of it are owed, so that a key of which
/// very much comes at once takes no memory of others.
const LINE: usize = 100;
/// Most deliveries that wait in all lines of a lane.
const LINES: usize = 1_000;

/// Lines of keys, and the partitions of which is known what the endpoint owes.
#[derive(Debug, Default)]
pub(crate) struct Order {
    lines: HashMap<OrderKey, Line>,
    /// Deliveries that wait in lines.
    waiting: usize,
    /// By partition, the assignment in which the ledger was asked what is owed of it.
    known: HashMap<TopicPartition, u64>,
    /// Counts what is noted about what keys owe.
    notes: u64,
}

/// The line of a key.
#[derive(Debug, Default)]
struct Line {
    /// Whether a delivery of the key is in the queue of the lane or under way.
    is_busy: bool,
    /// Whether the ledger owes that one, too.
    is_row: bool,
    waiting: VecDeque<Item>,
    owes: Option<Owes>,
    /// Transactions that have not ended.
    open: Open,
    /// The transaction that is delivered next, if it has lost its end.
    cut_off: Option<Uuid>,
}

/// What becomes of a delivery that comes into the lane.
pub(crate) enum Entered {
    /// The delivery goes into the queue.
    Ready(Item),
    /// The delivery waits in the line of its key.
    Waits,
    /// The delivery is owed, behind others of its key.
    Joins(Joining),
}

/// A delivery that is owed instead of waiting here.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) item: Item,
    pub(crate) due: Due,
    /// For one of a key. Dropped behind the delivery, which the recorder has by then.
    _unrecorded: Option<Unrecorded>,
}

/// When a delivery is due that is owed instead of waiting here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    /// When the one before it of its key is done.
    Behind,
    /// When the lane may be asked again.
    Later,
}

/// How a delivery has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Delivered, or dropped: the next may begin.
    Done,
    /// Dead: the next may begin when that is written.
    Dead,
    /// Owed: the next has to wait for it.
    Owed,
}

impl Line {
    /// Whether nothing is known of the key.
    fn is_unused(&self) -> bool {
        let is_idle = !self.is_busy && self.waiting.is_empty();
        is_idle && self.owes.is_none() && !self.open.has_parts()
    }

    /// Notes that a delivery joins what is owed.
    fn join(&mut self, item: Item, note: u64) -> Joining {
        let owes = self.owes.get_or_insert_default();
        let is_behind = owes.has_rows || (self.is_busy && self.is_row);
        owes.has_rows = true;
        owes.note = note;
        let unrecorded = owes.begin_recording(item.recorder());
        Joining {
            item,
            due: if is_behind { Due::Behind } else { Due::Now },
            _unrecorded: Some(unrecorded),
        }
    }

    /// Takes some of what waits out.
    fn take(&mut self, is_taken: impl Fn(&Item) -> bool) -> Vec<Item> {
        let (taken, kept): (Vec<Item>, Vec<Item>) =
            self.waiting.drain(..).partition(|item| is_taken(item));
        self.waiting = kept.into();
        self.has_lost(&taken);
        taken
    }

    /// Some of what waited is not here any more: a transaction that is cut off is so with all there
    /// is of it, or not at all.
    fn has_lost(&mut self, taken: &[Item]) {
        if self.cut_off.is_some()
            && taken
                .iter()
                .any(|item| item.transaction_id() == self.cut_off)
        {
            self.cut_off = None;
        }
    }
}

impl Order {
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether the ledger was asked in this assignment what is owed of a partition, and no other
    /// process can have changed it since.
    pub(crate) fn knows(&self, of: &TopicPartition, number: Option<u64>) -> bool {
        number.is_some() && self.known.get(of).copied() == number
    }

    pub(crate) fn learn(&mut self, of: &TopicPartition, number: u64) {
        self.known.insert(of.clone(), number);
    }

    /// Forgets what is known: the endpoint has not been in order so far, or others may have changed
    /// it.
    pub(crate) fn doubt(&mut self, of: Option<&TopicPartition>) {
        match of {
            Some(of) => drop(self.known.remove(of)),
            None => self.known.clear(),
        }
    }

    /// Takes a delivery in. `written`: the batch that the recorder has written last.
    pub(crate) fn enter(&mut self, mut item: Item, written: u64, ends: Ends) -> Entered {
        let Some(place) = &item.order else {
            return Entered::Ready(item);
        };
        let line = self.lines.entry(place.key).or_default();
        let is_claimed = item.is_owed();
        if !is_claimed {
            if line
                .owes
                .as_ref()
                .is_some_and(|owes| !owes.has_rows && owes.is_written(written))
            {
                line.owes = None;
            }
            let is_full = line.waiting.len() >= LINE || self.waiting >= LINES;
            if line.owes.is_some() || (line.is_busy && is_full) {
                if item.transaction_id() == line.cut_off {
                    // It lives.
                    line.cut_off = None;
                }
                self.notes += 1;
                return Entered::Joins(line.join(item, self.notes));
            }
        }
        if line.is_busy {
            item.has_waited = true;
            line.waiting.push_back(item);
            self.waiting += 1;
            return Entered::Waits;
        }
        if item.transaction.is_some_and(|of| !of.is_last) || !line.waiting.is_empty() {
            let ready = self.assemble(item, ends);
            return ready.map_or(Entered::Waits, Entered::Ready);
        }
        (line.is_busy, line.is_row) = (true, is_claimed);
        Entered::Ready(item)
    }

    /// The delivery under way hangs, and is owed by now. Gives what waits behind it: it is owed,
    /// too.
    pub(crate) fn hangs(&mut self, place: &KeyPlace) -> Vec<Joining> {
        if let Some(line) = self.lines.get_mut(&place.key) {
            line.is_row = true;
        }
        self.empty_line(place)
    }

    /// The delivery of a key has ended: gives the next one, or what waits behind it and is owed
    /// now. `batch`: with which what came of it is written at the latest.
    pub(crate) fn over(
        &mut self,
        place: &KeyPlace,
        over: Over,
        batch: u64,
    ) -> (Option<Item>, Vec<Joining>) {
        let Some(line) = self.lines.get_mut(&place.key) else {
            return (None, Vec::new());
        };
        if over == Over::Done {
            return (self.next_of(place), Vec::new());
        }
        self.notes += 1;
        let owes = line.owes.get_or_insert_default();
        owes.has_rows |= over == Over::Owed;
        owes.wait_for(batch);
        owes.note = self.notes;
        (line.is_busy, line.is_row) = (false, false);
        (None, self.empty_line(place))
    }

    /// The next delivery of a key, if it is ready now.
    fn next_of(&mut self, place: &KeyPlace) -> Option<Item> {
        let line = self.lines.get_mut(&place.key)?;
        (line.is_busy, line.is_row, line.cut_off) = (false, false, None);
        let next = self.ready(place, Ends::Awaited);
        if next.is_none() && self.lines.get(&place.key).is_some_and(Line::is_unused) {
            self.lines.remove(&place.key);
        }
        next
    }

    /// Everything that waits in the line of a key is owed from now on; but not what a transaction
    /// that is about to be cut off takes along, where the ledger owes all of that as it is.
    fn empty_line(&mut self, place: &KeyPlace) -> Vec<Joining> {
        let Some(line) = self.lines.get_mut(&place.key) else {
            return Vec::new();
        };
        let cut_off = line.cut_off;
        let is_of_it = |item: &Item| cut_off.is_some() && item.transaction_id() == cut_off;
        let mut of_it = line.waiting.iter().filter(|item| is_of_it(item));
        let stays = of_it.all(Item::is_owed);
        let taken = line.take(|item| !stays || !is_of_it(item));
        self.waiting -= taken.len();
        self.notes += 1;
        let joins = taken.into_iter();
        joins.map(|item| line.join(item, self.notes)).collect()
    }

    /// A delivery that is in the queue is owed instead, with what waits behind it.
    pub(crate) fn leave(&mut self, item: Item, due: Due) -> Vec<Joining> {
        let Some(place) = item.order.clone() else {
            return vec![Joining {
                item,
                due,
                _unrecorded: None,
            }];
        };
        let line = self.lines.entry(place.key).or_default();
        (line.is_busy, line.is_row, line.cut_off) = (false, false, None);
        self.notes += 1;
        let mut first = line.join(item, self.notes);
        if due == Due::Later {
            first.due = due;
        }
        let mut joins = vec![first];
        joins.extend(self.empty_line(&place));
        joins
    }

    /// Whether something newer of a key is owed, or waits and was claimed: it overtakes what is
    /// read again later.
    pub(crate) fn is_overtaken(&self, place: &KeyPlace) -> bool {
        let line = self.lines.get(&place.key);
        line.is_some_and(|line| line.owes.is_some() || line.waiting.iter().any(Item::is_owed))
    }

    /// A delivery was taken out of the queue, to be read again from the log. Gives the next one
    /// that is not, and those that are.
    pub(crate) fn take_out(
        &mut self,
        place: &KeyPlace,
        is_taken: impl Fn(&Item) -> bool,
    ) -> (Option<Item>, Vec<Item>) {
        let mut taken = Vec::new();
        if let Some(line) = self.lines.get_mut(&place.key) {
            taken = line.take(is_taken);
            self.waiting -= taken.len();
        }
        (self.next_of(place), taken)
    }

    /// Takes some of what waits in lines, whatever is before it.
    pub(crate) fn take_waiting(&mut self, is_taken: impl Fn(&Item) -> bool) -> Vec<Item> {
        if self.waiting == 0 {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for line in self.lines.values_mut() {
            if line.waiting.iter().any(&is_taken) {
                taken.extend(line.take(&is_taken));
            }
        }
        self.waiting -= taken.len();
        self.lines.retain(|_, line| !line.is_unused());
        taken
    }

    /// What waits in lines.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        let lines = (self.waiting > 0).then(|| self.lines.values());
        lines.into_iter().flatten().flat_map(|line| &line.waiting)
    }

    /// Lines in which something that was just read has waited for too long: it is owed, as its
    /// record is not committed before. What is read of ranges may wait, but not for what the ledger
    /// owes behind it and does not give.
    pub(crate) fn take_late(&mut self, now: Instant) -> Vec<Joining> {
        let is_late = |item: &Item| now.duration_since(item.since) > PATIENCE;
        self.take_lines(|line| {
            let is_divided = !line.is_busy && line.has_rows();
            let first = line.waiting.front().filter(|_| is_divided);
            let mut live = line.waiting.iter().filter(|item| item.is_live());
            first.is_some_and(is_late) || live.any(is_late)
        })
    }

    /// Lines in which anything waits that was just read: it is owed.
    pub(crate) fn take_live(&mut self) -> Vec<Joining> {
        self.take_lines(|line| line.waiting.iter().any(Item::is_live))
    }

    /// Everything that waits in some lines.
    fn take_lines(&mut self, is_taken: impl Fn(&Line) -> bool) -> Vec<Joining> {
        if self.waiting == 0 {
            return Vec::new();
        }
        let late = self.lines.iter().filter(|(_, line)| is_taken(line));
        let late: Vec<Arc<KeyPlace>> = late
            .filter_map(|(_, line)| line.waiting.front()?.order.clone())
            .collect();
        let mut joins = Vec::new();
        for place in late {
            joins.extend(self.empty_line(&place));
        }
        joins
    }
}

#[cfg(test)]
pub(super) mod tests;
