//! A file that is found to be damaged, by whomever: the writer saves what can be saved.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Shared, Writer};
use crate::LogError;
use crate::embedded::store::StoreError;

/// How long after a rescue that has failed the next one begins: it reads and writes all there is.
const HEAL_AGAIN: Duration = Duration::from_mins(1);

impl Shared {
    /// The error as callers see it. Of damage the writer is told, which sees to it after what it
    /// does now, and then wakes the readers.
    pub(in crate::embedded) fn report(&self, error: StoreError) -> LogError {
        if let StoreError::Damaged(reason) = &error {
            let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
            damage.get_or_insert_with(|| reason.clone());
        }
        error.into_log(&self.store.path)
    }
}

impl Writer {
    pub(super) fn heal_if_told(&mut self) {
        let damage = self
            .shared
            .damage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(reason) = damage else {
            return;
        };
        if self.heal_at.is_some_and(|at| Instant::now() < at) {
            // Whoever reads after the next commit finds it again.
            return;
        }
        match self.heal(StoreError::Damaged(reason)) {
            Ok(()) => self.heal_at = None,
            Err(error) => {
                self.heal_at = Some(Instant::now() + HEAL_AGAIN);
                let error = error.into_log(&self.shared.store.path);
                tracing::error!(%error, again_in = ?HEAL_AGAIN, "the damaged log could not be saved");
            }
        }
        self.shared.commits.send_modify(|commits| *commits += 1);
    }
}
