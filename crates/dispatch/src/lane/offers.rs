//! What is offered to the queue of an endpoint (its lane), and whether that takes it: what was just
//! read from the log, what has failed and is due again, and what is read again of a range of the
//! log.

use std::time::{Duration, Instant};

use super::order::assembling::Ends;
use super::order::{Entered, Joining};
use super::{PATIENCE, Shed, State};
use crate::item::Item;
use crate::ledger::TopicPartition;
use crate::room::Standing;

/// Most deliveries in a lane's queue; with more the lane falls behind.
const QUEUE: usize = 2_000;
/// Most owed deliveries in a lane's queue; lower than `QUEUE`, so that a slow endpoint leaves room.
const OWED: usize = 1_000;
/// A queue that is full and whose oldest has waited no longer than this drains fast: the consumer
/// waits for it, unless others would wait, too.
const FAST: Duration = Duration::from_millis(200);

/// Owed deliveries that are offered together: one, or several of one key, in order.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) items: Vec<Item>,
    /// Whether these are all that is owed of the key.
    pub(crate) is_complete: bool,
    /// The batch that the recorder had written before they were claimed.
    pub(crate) written: u64,
}

/// Why owed deliveries are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotNow {
    /// There is no room, or the breaker is open, until then.
    Until(Option<Instant>),
    /// Another one of the key comes first, that is not written yet.
    Behind,
    /// Others of the key may come first: a range that is owed was not read up to these.
    Unread,
}

/// What became of an offer.
#[derive(Debug)]
pub(crate) enum Offered {
    /// The delivery waits in the queue of the lane.
    Queued,
    /// The delivery waits for another one of its key.
    InLine,
    /// The delivery is owed, as another one of its key is.
    Joins(Joining),
    /// What was offered is part of a range now, and so is what waited before.
    Deferred(Shed),
    /// There is no room just now, but there will be in a moment.
    Full(Item),
    /// The dispatcher stops.
    Ended(Item),
}

impl State {
    /// Takes what was just read from the log. `written`: the batch that the recorder has written
    /// last; `standing`: how the account stands beside others.
    pub(crate) fn offer_live(&mut self, item: Item, written: u64, standing: Standing) -> Offered {
        self.used = item.since;
        let mut shed = Shed::default();
        if self.behind.is_none() {
            let waited = self
                .queue
                .front()
                .map(|oldest| item.since.duration_since(oldest.since));
            let waited = waited.unwrap_or_default();
            let is_full = self.queue.len() >= QUEUE;
            let must_wait = standing.exceeds
                || self.gate.is_shut(item.since)
                || waited > PATIENCE
                || (is_full && (standing.has_company || waited > FAST));
            if !must_wait && is_full {
                return Offered::Full(item);
            }
            if !must_wait {
                return self.enter(item, written);
            }
            shed = self.fall_behind();
        }
        self.defer(&mut shed, item);
        Offered::Deferred(shed)
    }

    /// Leaves what was just read from the log to a range, whether there would be room for it or
    /// not. With `unknown`, the ledger is asked first what the endpoint owes of that partition.
    pub(crate) fn leave_live(&mut self, item: Item, unknown: Option<TopicPartition>) -> Shed {
        self.used = item.since;
        let mut shed = self.fall_behind();
        if let (Some(of), Some(behind)) = (unknown, &mut self.behind) {
            behind.ask(of);
        }
        self.defer(&mut shed, item);
        shed
    }

    /// Takes a delivery in, when those of its key that come before it are done, and its transaction
    /// is complete, where whole ones are delivered.
    fn enter(&mut self, mut item: Item, written: u64) -> Offered {
        if self.is_assembling() {
            item.transaction = item.notification.transaction();
        }
        let ends = self.ends(item.since);
        match self.order.enter(item, written, ends) {
            Entered::Ready(item) => {
                self.queue.push_back(item);
                Offered::Queued
            }
            Entered::Waits => Offered::InLine,
            Entered::Joins(joining) => Offered::Joins(joining),
        }
    }

    /// Takes what was owed and is due: one delivery, or several of a key in order. Gives them back
    /// where there is no room, or the breaker is open, with when to ask again. Gives those of the
    /// end that have to wait until a range before them was read.
    /// `share`: bytes of bodies that may wait here, besides one.
    pub(crate) fn offer_owed(
        &mut self,
        mut run: Run,
        share: u64,
    ) -> Result<Vec<Item>, (Vec<Item>, NotNow)> {
        let now = Instant::now();
        self.used = now;
        let key = run.items.first().and_then(|first| first.order.clone());
        let key = key.map(|place| place.key);
        if key.is_some_and(|key| !self.order.accepts(key, run.written)) {
            return Err((run.items, NotNow::Behind));
        }
        let readable = run.items.iter().take_while(|item| !self.is_unread(item));
        let readable = readable.count();
        if readable == 0 {
            return Err((self.refuse(run), NotNow::Unread));
        }
        if let Some(until) = self.gate.held_until(now) {
            return Err((self.refuse(run), NotNow::Until(Some(until))));
        }
        let is_full = self.queue.len() >= OWED || self.has_bytes(share);
        if !self.gate.is_open_breaker() && is_full {
            return Err((self.refuse(run), NotNow::Until(None)));
        }
        let probe_at = self.gate.probe_at();
        let may_probe = self.probe.is_none() && probe_at.is_some_and(|at| at <= now);
        if self.gate.is_open_breaker() && !may_probe {
            return Err((self.refuse(run), NotNow::Until(probe_at)));
        }
        let unread = run.items.split_off(readable);
        run.is_complete &= unread.is_empty();
        let place = run.items.first().and_then(|first| first.order.clone());
        let place = place.filter(|_| self.is_assembling());
        if place.is_some() {
            let mut items = run.items;
            for item in &mut items {
                item.transaction = item.notification.transaction();
            }
            self.order.line_up(items);
        } else {
            for item in run.items {
                if let Entered::Ready(item) = self.order.enter(item, 0, Ends::Awaited) {
                    self.queue.push_back(item);
                }
            }
        }
        match key {
            Some(key) if run.is_complete => self.order.is_complete(key, run.written),
            Some(key) => self.order.hold(key),
            None => {}
        }
        let ends = self.ends(now);
        if let Some(place) = place {
            self.queue.extend(self.order.ready(&place, ends));
        }
        if self.gate.is_open_breaker() {
            self.probe(now);
        }
        Ok(unread)
    }

    /// Whether something that is owed stands in the log behind a range that is owed, too, and was
    /// not read up to there: that may hold others of its key.
    fn is_unread(&self, item: &Item) -> bool {
        let behind = self.behind.as_ref().zip(item.order.as_ref());
        let behind = behind.filter(|_| self.gate.endpoint().is_ordered);
        behind.is_some_and(|(behind, place)| {
            let of = place.in_our_log();
            of.is_some_and(|of| behind.is_unread(of, place.offset))
        })
    }

    /// What is not taken stays owed, and what comes of its key joins it.
    fn refuse(&mut self, run: Run) -> Vec<Item> {
        if let Some(place) = run.items.first().and_then(|first| first.order.as_ref()) {
            self.order.hold(place.key);
        }
        run.items
    }

    /// Takes what is read again of a range.
    pub(crate) fn offer_range(&mut self, item: Item, written: u64) -> Offered {
        if self.is_ended {
            // What was before it is not here any more.
            return Offered::Ended(item);
        }
        self.used = item.since;
        self.enter(item, written)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::lane::order::tests::{in_order, item, offset, place, range};
    use crate::recorder::Recorder;

    #[test]
    fn what_is_owed_waits_for_the_range_before_it() {
        let recorder = Arc::new(Recorder::new(&Clock::default()));
        let mut state = in_order();
        let range = range(1, 101);
        state.behind.get_or_insert_default().adopt(&range);
        let run = |offsets: &[u64]| Run {
            items: offsets
                .iter()
                .map(|at| item(&recorder, place(1, *at), true))
                .collect(),
            is_complete: true,
            written: 0,
        };
        let offsets = |items: Vec<Item>| -> Vec<u64> {
            let given = items.iter().map(offset).collect();
            items.into_iter().for_each(Item::abandon);
            given
        };
        // Others of the key are in the range, before the second: the first was before that.
        let unread = state.offer_owed(run(&[0, 101, 102]), u64::MAX);
        assert_eq!(unread.map(offsets).ok(), Some(vec![101, 102]));
        assert_eq!(offsets(std::mem::take(&mut state.queue).into()), [0]);
        let (refused, why) = state
            .offer_owed(run(&[101, 102]), u64::MAX)
            .expect_err("unread");
        assert_eq!((offsets(refused), why), (vec![101, 102], NotNow::Unread));
        state
            .behind
            .get_or_insert_default()
            .read_to(&range.id, range.to);
        let unread = state.offer_owed(run(&[101, 102]), u64::MAX);
        assert_eq!(unread.map(offsets).ok(), Some(Vec::new()));
        state.end().into_iter().for_each(Item::abandon);
    }
}
