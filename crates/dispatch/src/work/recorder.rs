//! Writes down what has happened, many things in one transaction, and says what may be committed.
//!
//! Everything of a group is in `happened` before the group counts as done. So whoever looks for groups that are done first, and takes
//! what has happened afterwards, has all that belongs to them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dovecast_log::Position;
use tokio::sync::Notify;

use super::item::Group;
use super::ledger::Happened;

/// What waits to be written, and the groups in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    happened: Mutex<Happened>,
    groups: Mutex<VecDeque<Arc<Group>>>,
    /// There is something to be written.
    pub(super) news: Notify,
}

impl Recorder {
    /// What has happened, to be added to.
    pub(super) fn happened(&self) -> MutexGuard<'_, Happened> {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A group was read.
    pub(super) fn begin(&self, group: Arc<Group>) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.push_back(group);
    }

    /// Groups that were read and are not committed.
    pub(super) fn open_groups(&self) -> usize {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.len()
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
            let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
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
