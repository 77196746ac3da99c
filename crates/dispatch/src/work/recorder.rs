//! Writes down what has happened, many things in one transaction, and says what may be committed.
//!
//! Everything of a group is in `happened` before the group counts as done. So whoever looks for groups that are done first, and takes
//! what has happened afterwards, has all that belongs to them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, MutexGuard};

use dovecast_log::Position;
use tokio::sync::Notify;

use super::item::Group;
use super::ledger::{Happened, RangeId};
use super::locks::{Held, Lock};

/// What waits to be written, and the groups in the order in which they were read.
#[derive(Debug)]
pub(super) struct Recorder {
    happened: Lock<Happened>,
    groups: Lock<VecDeque<Arc<Group>>>,
    /// There is something to be written.
    pub(super) news: Notify,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            happened: Lock::new("happened", Happened::default()),
            groups: Lock::new("groups", VecDeque::new()),
            news: Notify::new(),
        }
    }
}

impl Recorder {
    /// What has happened, to be added to.
    pub(super) fn happened(&self) -> Held<MutexGuard<'_, Happened>> {
        self.happened.lock()
    }

    /// Ranges have grown. Several threads may say so of one range, in any order.
    pub(super) fn grown(&self, ranges: &[(RangeId, u64)]) {
        let mut happened = self.happened();
        for (id, to) in ranges {
            let grown = happened.grown.entry(id.clone()).or_insert(*to);
            *grown = (*grown).max(*to);
        }
    }

    /// Everything of a range is done that is before an offset.
    pub(super) fn progress(&self, range: &RangeId, from: u64) {
        let mut happened = self.happened();
        let progress = happened.progress.entry(range.clone()).or_insert(from);
        *progress = (*progress).max(from);
    }

    /// A group was read.
    pub(super) fn begin(&self, group: Arc<Group>) {
        self.groups.lock().push_back(group);
    }

    /// Groups that were read and are not committed.
    pub(super) fn open_groups(&self) -> usize {
        self.groups.lock().len()
    }

    /// How much waits to be written: more than is being written now.
    pub(super) fn waiting(&self) -> usize {
        let happened = self.happened();
        let owed = happened.owed.len()
            + happened.under_way.len()
            + happened.failed_again.len()
            + happened.given_back.len();
        happened.attempts.len() + happened.dead.len() + owed
    }

    /// What is to be written, and what may be committed after that.
    pub(super) fn take(&self) -> (Happened, Vec<Position>) {
        let mut positions = BTreeMap::new();
        {
            let mut groups = self.groups.lock();
            while let Some(group) = groups.pop_front_if(|group| group.is_done()) {
                for position in &group.positions {
                    let place = (Arc::clone(&position.topic), position.partition);
                    positions.insert(place, position.offset);
                }
            }
        }
        let happened = std::mem::take(&mut *self.happened());
        let position = |((topic, partition), offset)| Position {
            topic,
            partition,
            offset,
        };
        (happened, positions.into_iter().map(position).collect())
    }
}
