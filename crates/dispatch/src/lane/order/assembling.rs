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
//! is of it is a part then, which is not the last. The end that is missing for long does not come
//! any more: the mail process has died.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use dovecast_notification::transactions::{Gathering, Part};
use uuid::Uuid;

use super::{LINE, Line, Order};
use crate::item::Item;
use crate::ledger::KeyPlace;

/// How long the end of a transaction is waited for behind what has come of it last: what a mail
/// process has sent when it died. A process that lives writes a transaction at once.
const CUT_OFF: Duration = Duration::from_secs(30);
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

/// A transaction of which the end is waited for.
#[derive(Debug)]
pub(super) struct Awaited {
    transaction: Option<Uuid>,
    /// The most events of it that have waited at a time: those that come again, out of the ledger,
    /// are not new.
    events: usize,
    /// When the last new one had come.
    since: Instant,
}

impl Line {
    /// Whether the end of the transaction that waits first has been waited for for too long.
    fn is_late(&mut self, now: Instant) -> bool {
        let Some(first) = self.waiting.front() else {
            return false;
        };
        let transaction = first.transaction.map(|of| of.id);
        let of_it = |item: &&Item| item.transaction.map(|of| of.id) == transaction;
        let of_it = self.waiting.iter().filter(of_it).map(|item| item.since);
        let (events, since) = of_it.fold((0, first.since), |(events, last), since| {
            (events + 1, last.max(since))
        });
        let known = self.awaited.take();
        let known =
            known.filter(|known| known.transaction == transaction && known.events >= events);
        let awaited = self.awaited.insert(known.unwrap_or(Awaited {
            transaction,
            events,
            since,
        }));
        now.saturating_duration_since(awaited.since) > CUT_OFF
    }

    /// Whether what waits first may be delivered.
    fn is_ready(&self, is_crowded: bool) -> bool {
        let mut waiting = self.waiting.iter();
        let Some(first) = waiting.next() else {
            return false;
        };
        // The ledger gives nothing more of a key while something of it is claimed. Otherwise it
        // gives what follows what was just read.
        let is_divided = self.has_rows() && self.waiting.iter().any(Item::is_owed);
        if is_crowded || is_divided || self.waiting.len() >= LINE {
            return true;
        }
        let mut gathering = begin(first);
        for next in waiting {
            if gathering.is_ready() {
                break;
            }
            gathering.take(next.transaction, next.notification.bytes());
        }
        gathering.is_ready()
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
        let is_crowded = ends == Ends::NotAwaited || self.waiting >= OPEN;
        let line = self.lines.get_mut(&place.key)?;
        if line.is_busy || !line.is_ready(is_crowded) {
            return None;
        }
        let mut first = line.waiting.pop_front()?;
        self.waiting -= 1;
        first.since = Instant::now();
        (line.is_busy, line.is_row) = (true, first.is_owed());
        Some(first)
    }

    /// What is delivered with the first of its transaction is taken out of its line; says which
    /// part of the transaction that is.
    pub(crate) fn gather(&mut self, first: &mut Item) {
        first.part = Part::WHOLE;
        let Some((transaction, place)) = first.transaction.zip(first.order.clone()) else {
            return;
        };
        let mut gathering = begin(first);
        let Some(line) = self.lines.get_mut(&place.key) else {
            return;
        };
        let mut others = VecDeque::new();
        for item in std::mem::take(&mut line.waiting) {
            if gathering.take(item.transaction, item.notification.bytes()) {
                first.followers.push(item);
            } else {
                others.push_back(item);
            }
        }
        line.waiting = others;
        self.waiting -= first.followers.len();
        let is_cut_off = std::mem::take(&mut line.is_cut_off) && !gathering.is_complete();
        first.part = Part {
            is_first: line.handed_over != Some(transaction.id),
            is_last: gathering.is_complete() || is_cut_off,
            success: !is_cut_off,
        };
    }

    /// What was gathered with a delivery that is put back waits again.
    pub(crate) fn scatter(&mut self, first: &mut Item) {
        let Some(place) = first.order.clone() else {
            return;
        };
        let followers = std::mem::take(&mut first.followers);
        let line = self.lines.entry(place.key).or_default();
        line.is_cut_off = !first.part.success;
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
            line.handed_over = (!delivered.part.is_last).then_some(transaction.id);
            line.awaited = None;
        }
    }

    /// The first of each line that has waited for the end of its transaction for too long, or for
    /// which no end is awaited.
    pub(crate) fn take_open(&mut self, now: Instant, ends: Ends) -> Vec<Item> {
        if self.waiting == 0 {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for line in self.lines.values_mut().filter(|line| !line.is_busy) {
            let is_cut_off = line.is_late(now);
            if !is_cut_off && ends == Ends::Awaited {
                continue;
            }
            if let Some(mut first) = line.waiting.pop_front() {
                first.since = now;
                line.is_cut_off = is_cut_off && !line.has_rows();
                (line.is_busy, line.is_row) = (true, first.is_owed());
                taken.push(first);
            }
        }
        self.waiting -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests;
