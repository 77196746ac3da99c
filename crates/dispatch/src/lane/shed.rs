//! What leaves a lane without being delivered: live deliveries become the beginning of ranges, owed
//! ones are given back, those of ranges are read again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::State;
use crate::behind::Growth;
use crate::item::{Item, Origin, RangeRun};

impl State {
    /// From now on what is read is owed as ranges, with what waits and was just read as their
    /// beginning.
    pub(crate) fn fall_behind(&mut self) -> (Vec<Growth>, Vec<Item>) {
        self.behind.get_or_insert_default();
        let mut shed = Vec::new();
        let mut kept = VecDeque::new();
        for item in self.queue.drain(..) {
            if item.is_live() {
                shed.push(item);
            } else {
                kept.push_back(item);
            }
        }
        self.queue = kept;
        let mut grown = Vec::new();
        for item in &shed {
            if let Origin::Live {
                topic,
                partition,
                offset,
                ..
            } = &item.origin
            {
                self.defer(&mut grown, (topic, *partition), *offset);
            }
        }
        (grown, shed)
    }

    pub(super) fn defer(&mut self, grown: &mut Vec<Growth>, of: (&Arc<str>, u32), offset: u64) {
        let behind = self.behind.get_or_insert_default();
        let growth = behind.defer(self.gate.endpoint().id, of, offset);
        if let Some(so_far) = grown.iter_mut().find(|so_far| so_far.id == growth.id) {
            so_far.to = growth.to;
            so_far.begins |= growth.begins;
        } else {
            behind.announce(&growth.id);
            grown.push(growth);
        }
    }

    /// Owed deliveries that wait: they are given back.
    pub(crate) fn take_owed(&mut self) -> Vec<Item> {
        let is_owed = |item: &Item| matches!(item.origin, Origin::Owed);
        let (owed, kept): (Vec<Item>, Vec<Item>) = self.queue.drain(..).partition(is_owed);
        self.queue = kept.into();
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
        self.queue.iter().filter_map(of_run).collect()
    }

    /// What waits of a range from an offset on waits no more.
    #[must_use]
    pub(crate) fn take_waiting_of(&mut self, run: &Arc<RangeRun>, from: u64) -> Vec<Item> {
        let is_of_run = |item: &Item| match &item.origin {
            Origin::Range { run: of, offset } => Arc::ptr_eq(of, run) && *offset >= from,
            _ => false,
        };
        let (taken, kept): (Vec<Item>, Vec<Item>) = self.queue.drain(..).partition(is_of_run);
        self.queue = kept.into();
        taken
    }
}
