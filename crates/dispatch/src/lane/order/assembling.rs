//! Puts mailbox transactions together for receivers that are told of whole ones: what of a key
//! waits in its line until the end of its transaction is there, too.
//!
//! A line is *open* when something waits in it and nothing is under way: the transaction of the
//! first that waits is not complete. What waits so is as durable as whatever waits in a line:
//! records that were just read are not committed, and are owed after a moment (`take_late`); what
//! is of a range is not done; what is owed stays so. So a transaction is put together again after a
//! restart, and on another node.
//!
//! What the ledger owes of a transaction whose beginning was just read is claimed, and comes behind
//! it. Not waited for is the end of a transaction that was claimed without it (whole ones are
//! claimed where there is room), that has grown beyond a part, or while too much waits; what there
//! is of it but for the last event is a part then, which is not the last. The end that is missing
//! for long, though all is read that may hold it, does not come: the mail process has died. Where
//! nothing of it waits any more, the end is told alone.

pub(super) mod open;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use dovecast_notification::transactions::{Gathering, Part};

use super::{LINE, Line, Order};
use crate::behind::Behind;
use crate::item::Item;
use crate::ledger::KeyPlace;

/// How long the end of a transaction is waited for behind what has come of it last: what a mail
/// process has sent when it died. A process that lives writes a transaction at once.
const CUT_OFF: Duration = Duration::from_secs(30);
/// How long where the line is full: others of the key have come since in numbers.
const CUT_OFF_FULL: Duration = Duration::from_secs(5);
/// Most deliveries that wait in all lines of a lane while transactions are put together; fewer than
/// may wait altogether, and than a range is read ahead, so that ends that are read are taken.
const OPEN: usize = 500;

/// What becomes of transactions whose end is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Their ends are waited for.
    Awaited,
    /// What there is of them is delivered as a part.
    NotAwaited,
}

/// What a lane has besides what waits in its lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside<'a> {
    /// What is still to be read of ranges.
    pub(crate) behind: Option<&'a Behind>,
    /// Whether deliveries wait in its queue: for those the readers of ranges wait, not for lines.
    pub(crate) has_queue: bool,
    pub(crate) ends: Ends,
}

/// Whether the end of a transaction has been waited for for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    No,
    /// What there is of it holds up the reader that may find its end.
    HoldsUp,
    /// All is read that may hold it.
    Lost,
}

impl Line {
    /// Whether what waits first may be delivered: whole, as much as one part takes, or without its
    /// end.
    fn is_ready(&self, ends: Ends, is_crowded: bool) -> bool {
        let mut waiting = self.waiting.iter();
        let Some(first) = waiting.next() else {
            return false;
        };
        let mut gathering = begin(first);
        let mut events = 1;
        for next in waiting {
            if gathering.is_ready() {
                break;
            }
            events += usize::from(gathering.take(next.transaction, next.notification.bytes()));
        }
        // The ledger gives nothing more of a key while something of it is claimed. Otherwise it
        // gives what follows what was just read.
        let is_divided = self.has_rows() && self.waiting.iter().any(Item::is_owed);
        // The last event of a part is kept back, so that the end can be told with it.
        let is_part = events > 1;
        gathering.is_ready()
            || ends == Ends::NotAwaited
            || is_divided
            || (is_part && (is_crowded || self.is_full()))
    }

    /// Whether so much waits that the key's events are not waited for as long.
    fn is_full(&self) -> bool {
        self.waiting.len() >= LINE
    }

    /// Whether the end of the transaction that waits first has been waited for for too long. It is
    /// not lost while it may be in a range that is still to be read; but what waits of a range may
    /// hold that up, and with it the end.
    fn lateness(&mut self, now: Instant, beside: Beside<'_>, is_crowded: bool) -> Late {
        self.open.look(self.waiting.iter(), now);
        let Some(first) = self.waiting.front() else {
            return Late::No;
        };
        let of = first.order.as_ref().and_then(|place| place.in_our_log());
        let unread = beside.behind.zip(of);
        let is_unread = unread.is_some_and(|(behind, of)| behind.is_unread(of, u64::MAX));
        let awaited = first.transaction_id().and_then(|id| self.open.since(id));
        let mut since = awaited.unwrap_or(first.since);
        if is_unread {
            let of_ranges = self.waiting.iter().filter(|item| item.is_of_range());
            let read = of_ranges.map(|item| item.since).max();
            let Some(read) = read.filter(|_| !beside.has_queue) else {
                return Late::No;
            };
            since = since.max(read);
        }
        let is_full = self.is_full() || is_crowded;
        let limit = if is_full { CUT_OFF_FULL } else { CUT_OFF };
        if now.saturating_duration_since(since) <= limit {
            Late::No
        } else if is_unread {
            Late::HoldsUp
        } else {
            Late::Lost
        }
    }

    /// Takes the first out, to be delivered.
    fn begin_first(&mut self, now: Instant, is_late: bool) -> Option<Item> {
        let mut first = self.waiting.pop_front()?;
        first.since = now;
        // What the ledger owes may be its end.
        let is_cut_off = is_late && !self.has_rows();
        self.cut_off = first.transaction_id().filter(|_| is_cut_off);
        (self.is_busy, self.is_row) = (true, first.is_owed());
        Some(first)
    }

    /// Tells the end of a transaction that is lost, where nothing else of it is left to be told.
    /// Not while anything is owed of the key: that may be the end.
    fn begin_end(&mut self) -> Option<Item> {
        let is_owing = self.is_busy || self.owes.is_some();
        let end = (!is_owing).then(|| self.open.lost(&self.waiting))??;
        (self.is_busy, self.is_row) = (true, false);
        Some(end)
    }

    /// Whether the ledger owes what follows what is here.
    pub(super) fn has_rows(&self) -> bool {
        self.owes.as_ref().is_some_and(|owes| owes.has_rows)
    }
}

fn begin(first: &Item) -> Gathering {
    Gathering::new(first.transaction, first.notification.bytes())
}

impl Order {
    /// Takes a delivery in that is not alone in its transaction, where nothing of its key is under
    /// way: gives the first that waits, if that may be delivered now.
    pub(super) fn assemble(&mut self, mut item: Item, ends: Ends) -> Option<Item> {
        let place = item.order.clone()?;
        item.has_waited = true;
        let line = self.lines.entry(place.key).or_default();
        line.waiting.push_back(item);
        self.waiting += 1;
        self.ready(&place, ends)
    }

    /// Takes in what was claimed of a key in order; it is [`Self::ready`] when it is known whether
    /// that is all.
    pub(crate) fn line_up(&mut self, items: Vec<Item>) {
        for item in items {
            if let Some(place) = &item.order {
                let line = self.lines.entry(place.key).or_default();
                line.waiting.push_back(item);
                self.waiting += 1;
            }
        }
    }

    /// The first that waits of a key, if it may be delivered now.
    pub(crate) fn ready(&mut self, place: &KeyPlace, ends: Ends) -> Option<Item> {
        let is_crowded = self.waiting >= OPEN;
        let line = self.lines.get_mut(&place.key)?;
        if line.is_busy {
            return None;
        }
        if let Some(end) = line.begin_end() {
            return Some(end);
        }
        if !line.is_ready(ends, is_crowded) {
            return None;
        }
        let first = line.begin_first(Instant::now(), false)?;
        self.waiting -= 1;
        Some(first)
    }

    /// What is delivered with the first of its transaction is taken out of its line; says which
    /// part of the transaction that is.
    pub(crate) fn gather(&mut self, first: &mut Item) {
        if first.is_end() {
            return;
        }
        first.part = Part::WHOLE;
        let Some((transaction, place)) = first.transaction.zip(first.order.clone()) else {
            return;
        };
        let mut gathering = begin(first);
        let Some(line) = self.lines.get_mut(&place.key) else {
            return;
        };
        let mut others = VecDeque::new();
        let mut is_cut_off = line.cut_off.take() == Some(transaction.id);
        for item in std::mem::take(&mut line.waiting) {
            if gathering.take(item.transaction, item.notification.bytes()) {
                // Something new of it has come since: it lives.
                is_cut_off &= item.since <= first.since;
                first.followers.push(item);
            } else {
                others.push_back(item);
            }
        }
        line.waiting = others;
        is_cut_off &= !gathering.is_ready();
        // One is kept back, with which the end can be told.
        if !gathering.is_ready()
            && !is_cut_off
            && !line.has_rows()
            && let Some(last) = first.followers.pop()
        {
            line.waiting.push_front(last);
        }
        self.waiting -= first.followers.len();
        first.part = Part {
            is_first: !line.open.has_part_of(transaction.id),
            is_last: gathering.is_complete() || is_cut_off,
            success: !is_cut_off,
            is_end_only: false,
        };
    }

    /// What was gathered with a delivery that is put back waits again.
    pub(crate) fn scatter(&mut self, first: &mut Item) {
        let Some(place) = first.order.clone().filter(|_| !first.is_end()) else {
            return;
        };
        let followers = std::mem::take(&mut first.followers);
        let line = self.lines.entry(place.key).or_default();
        line.cut_off = first.transaction_id().filter(|_| !first.part.success);
        self.waiting += followers.len();
        for follower in followers.into_iter().rev() {
            line.waiting.push_front(follower);
        }
    }

    /// A part of a transaction was delivered.
    pub(crate) fn hand_over(&mut self, delivered: &Item) {
        if let Some((transaction, place)) = delivered.transaction.zip(delivered.order.as_ref())
            && let Some(line) = self.lines.get_mut(&place.key)
        {
            line.open
                .delivered(transaction.id, delivered, Instant::now());
        }
    }

    /// The first of each line that has waited for the end of its transaction for too long, or that
    /// may be delivered as it is; and ends of transactions that are lost.
    pub(crate) fn take_open(&mut self, now: Instant, beside: Beside<'_>) -> Vec<Item> {
        let is_crowded = self.waiting >= OPEN;
        let (mut taken, mut ends) = (Vec::new(), Vec::new());
        self.lines.retain(|_, line| {
            if line.waiting.is_empty() && !line.open.has_parts() {
                return !line.is_unused();
            }
            // The rest may be owed, or in a range.
            if line.owes.is_none() && beside.behind.is_none() {
                line.open.tidy(now, &line.waiting);
            }
            let may_come = |place: &KeyPlace| {
                let behind = beside.behind;
                behind.is_some_and(|behind| behind.is_unread(&place.of, u64::MAX))
            };
            line.open.give_up(now, &line.waiting, may_come);
            if let Some(end) = line.begin_end() {
                ends.push(end);
            } else if !line.is_busy && !line.waiting.is_empty() {
                let late = line.lateness(now, beside, is_crowded);
                if late != Late::No || line.is_ready(beside.ends, is_crowded) {
                    taken.extend(line.begin_first(now, late == Late::Lost));
                }
            }
            !line.is_unused()
        });
        self.waiting -= taken.len();
        taken.extend(ends);
        taken
    }
}

#[cfg(test)]
mod tests;
