//! A file that is found to be damaged, by whomever: the writer saves what can be saved.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Shared, Writer};
use crate::LogError;
use crate::embedded::salvage;
use crate::embedded::store::StoreError;

/// How long after a rescue that has failed the next one begins: it reads and writes all there is.
const HEAL_AGAIN: Duration = Duration::from_mins(1);

impl Shared {
    /// The error as callers see it. Of damage the writer is told, which sees to it after what it
    /// does now, and then wakes the readers.
    pub(in crate::embedded) fn report(&self, error: StoreError) -> LogError {
        if let StoreError::Damaged(reason) = &error {
            self.told_damage().get_or_insert_with(|| reason.clone());
        }
        error.into_log(&self.store.path)
    }

    /// Damage that the writer was told of and has not seen to.
    fn told_damage(&self) -> MutexGuard<'_, Option<String>> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Where the store is damaged, saves what can be saved and opens that; another error is given
    /// back.
    pub(super) fn heal(&mut self, error: StoreError) -> Result<(), StoreError> {
        let StoreError::Damaged(reason) = error else {
            return Err(error);
        };
        if self.heal_at.is_some_and(|at| Instant::now() < at) {
            return Err(StoreError::Damaged(reason));
        }
        self.connection = None;
        self.shared.pool.clear();
        let saved = salvage::salvage(&self.shared, &reason, self.next_partition_id);
        // Who has read meanwhile has the file that was put aside.
        self.shared.pool.clear();
        if let Err(error) = saved {
            self.heal_at = Some(Instant::now() + HEAL_AGAIN);
            // What is whole of it goes on meanwhile: commits, and retention, which makes room.
            if let Err(error) = self.load() {
                let error = error.into_log(&self.shared.store.path);
                tracing::error!(%error, "the damaged log cannot be opened as it is");
            }
            return Err(error);
        }
        self.heal_at = None;
        self.load()
    }

    pub(super) fn heal_if_told(&mut self) {
        if self.heal_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let Some(reason) = self.shared.told_damage().take() else {
            return;
        };
        if let Err(error) = self.heal(StoreError::Damaged(reason.clone())) {
            let error = error.into_log(&self.shared.store.path);
            tracing::error!(%error, again_in = ?HEAL_AGAIN, "the damaged log could not be saved");
            // It is tried again, whether anybody reads or not.
            self.shared.told_damage().get_or_insert(reason);
        }
        self.shared.commits.send_modify(|commits| *commits += 1);
    }
}
