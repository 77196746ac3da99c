//! A file that is found to be damaged, by whomever: the writer saves what can be saved.

use std::sync::PoisonError;

use super::{Shared, Writer};
use crate::LogError;
use crate::embedded::store::StoreError;

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
        if let Err(error) = self.heal(StoreError::Damaged(reason)) {
            let error = error.into_log(&self.shared.store.path);
            tracing::error!(%error, "the damaged log could not be saved");
        }
        self.shared.commits.send_modify(|commits| *commits += 1);
    }
}
