//! What leaves the queue of an endpoint (its lane) without being delivered: what was just read
//! becomes the beginning of ranges of the log that are read again, what was claimed from the ledger
//! is given back to it, and what is of a range is read again with that.

use std::collections::VecDeque;
use std::sync::Arc;

use super::State;
use super::order::{Due, Joining};
use crate::behind::Growth;
use crate::item::{Item, Origin};
use crate::range_run::RangeRun;

/// What a lane that falls behind does not hold any more.
#[derive(Debug, Default)]
pub(crate) struct Shed {
    /// Ranges that are new or have grown, and up to where.
    pub(crate) grown: Vec<Growth>,
    /// Deliveries that are part of these ranges now.
    pub(crate) items: Vec<Item>,
    /// Deliveries that are owed one by one: those that wait for another one of their key.
    pub(crate) joins: Vec<Joining>,
}

impl State {
    /// From now on what is read is owed as ranges, with what waits and was just read as their
    /// beginning.
    pub(crate) fn fall_behind(&mut self) -> Shed {
        self.behind.get_or_insert_default();
        let mut shed = Shed::default();
        let mut live = Vec::new();
        for item in std::mem::take(&mut self.queue) {
            if !item.is_live() {
                self.queue.push_back(item);
            } else if item.has_waited || self.is_overtaken(&item) {
                // A range that begins at its offset would repeat what has overtaken it, or come
                // behind what does so before the range is read.
                shed.joins.extend(self.order.leave(item, Due::Now));
            } else {
                if let Some(place) = &item.order {
                    let (next, followers) = self.order.take_out(place, Item::is_live);
                    live.extend(followers);
                    self.queue.extend(next);
                }
                live.push(item);
            }
        }
        shed.joins.extend(self.order.take_live());
        live.sort_by_key(|item| match &item.origin {
            Origin::Live { offset, .. } => *offset,
            Origin::Owed | Origin::Range { .. } | Origin::End => 0,
        });
        for item in live {
            self.defer(&mut shed, item);
        }
        shed
    }

    fn is_overtaken(&self, item: &Item) -> bool {
        let place = item.order.as_ref();
        place.is_some_and(|place| self.order.is_overtaken(place))
    }

    /// A live delivery is part of a range from now on.
    pub(super) fn defer(&mut self, shed: &mut Shed, item: Item) {
        if let Origin::Live {
            topic,
            partition,
            offset,
            ..
        } = &item.origin
        {
            self.grow(shed, (topic, *partition), *offset);
        }
        shed.items.push(item);
    }

    /// A record is part of a range from now on.
    pub(crate) fn grow(
        &mut self,
        shed: &mut Shed,
        (topic, partition): (&Arc<str>, u32),
        offset: u64,
    ) {
        let behind = self.behind.get_or_insert_default();
        let endpoint = self.gate.endpoint().id;
        let growth = behind.defer(endpoint, topic, partition, offset);
        let grown = &mut shed.grown;
        if let Some(so_far) = grown.iter_mut().find(|so_far| so_far.id == growth.id) {
            so_far.to = growth.to;
            so_far.begins |= growth.begins;
        } else {
            behind.announce(&growth.id);
            grown.push(growth);
        }
    }

    /// Owed deliveries that wait: they are given back, and what waits behind them is owed, too.
    pub(crate) fn take_owed(&mut self) -> Vec<Joining> {
        let mut owed = Vec::new();
        for item in std::mem::take(&mut self.queue) {
            if item.is_owed() {
                owed.extend(self.order.leave(item, Due::Later));
            } else {
                self.queue.push_back(item);
            }
        }
        owed
    }

    /// The offsets of a range that wait, and how often each was a probe.
    pub(crate) fn waiting_of(&self, run: &Arc<RangeRun>) -> Vec<(u64, u32)> {
        let of_run = |item: &Item| match &item.origin {
            Origin::Range { run: of, offset } if Arc::ptr_eq(of, run) => {
                Some((*offset, item.probes))
            }
            _ => None,
        };
        let waiting = self.queue.iter().chain(self.order.items());
        waiting.filter_map(of_run).collect()
    }

    /// What waits of a range from an offset on waits no more.
    #[must_use]
    pub(crate) fn take_waiting_of(&mut self, run: &Arc<RangeRun>, from: u64) -> Vec<Item> {
        let is_of_run = |item: &Item| match &item.origin {
            Origin::Range { run: of, offset } => Arc::ptr_eq(of, run) && *offset >= from,
            _ => false,
        };
        let mut taken = Vec::new();
        let mut kept = VecDeque::new();
        for item in std::mem::take(&mut self.queue) {
            if !is_of_run(&item) {
                kept.push_back(item);
                continue;
            }
            if let Some(place) = &item.order {
                let (next, followers) = self.order.take_out(place, is_of_run);
                taken.extend(followers);
                kept.extend(next);
            }
            taken.push(item);
        }
        self.queue = kept;
        taken.extend(self.order.take_waiting(is_of_run));
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::clock::Clock;
    use crate::lane::Offered;
    use crate::lane::order::tests::{in_order, item, offset, place};
    use crate::recorder::Recorder;
    use crate::room::Standing;

    #[test]
    fn what_is_owed_of_a_key_does_not_overtake_what_falls_behind() {
        let recorder = Arc::new(Recorder::new(&Clock::default()));
        let mut state = in_order();
        for at in [0, 1] {
            let offered =
                state.offer_live(item(&recorder, place(1, at), false), 0, Standing::default());
            assert!(matches!(offered, Offered::Queued | Offered::InLine));
        }
        let later = Instant::now() + Duration::from_secs(5);
        let late = state.order.take_late(later);
        let shed = state.fall_behind();
        assert!(shed.items.is_empty() && shed.grown.is_empty());
        let owed: Vec<u64> = late
            .into_iter()
            .chain(shed.joins)
            .map(|joining| {
                let at = offset(&joining.item);
                joining.item.abandon();
                at
            })
            .collect();
        assert_eq!(owed, [1, 0]);
    }
}
