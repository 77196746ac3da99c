//! What is counted and logged of spill files that are not taken in, or not as a whole.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::file::Slice;
use super::{Intake, IntakeError};
use crate::server::Relay;
use crate::server::batch::Rejections;

/// Files of whose rejected records their clients are told later; of more they are counted and
/// logged only.
const MAX_REJECTIONS: usize = 1000;

impl Intake {
    pub(super) fn rejections(&self) -> MutexGuard<'_, HashMap<String, Rejections>> {
        let rejections = self.rejections.lock();
        rejections.unwrap_or_else(PoisonError::into_inner)
    }

    /// The records that were left out of a file, for its client.
    pub(in crate::server) fn take_rejections(&self, name: &str) -> Rejections {
        self.rejections().remove(name).unwrap_or_default()
    }
}

/// Counts a file that is not taken in; tells of one a minute and user.
pub(super) fn refuse(relay: &Relay, name: &str, slice: &Slice, reason: &str) {
    let (inode, owner) = (slice.inode, slice.owner);
    let before = relay.intake.refused().insert(inode, slice.refused_in);
    if before.is_some() {
        return;
    }
    let counter = &relay.counters.spill_refused;
    counter.fetch_add(1, Ordering::Relaxed);
    if relay.peers.files.take(owner.unwrap_or(u32::MAX)) {
        tracing::warn!(
            file = name,
            uid = owner,
            reason,
            "a spill file is refused and kept"
        );
    }
}

/// Counts records that are left out, and keeps the reasons for the client that has the file.
pub(super) fn reject(relay: &Relay, name: &str, slice: &Slice) {
    let Some(reason) = slice.rejections.reason() else {
        return;
    };
    let records = slice.rejections.count();
    relay.counters.dropped.fetch_add(records, Ordering::Relaxed);
    if relay.peers.rejected.take(slice.owner.unwrap_or(u32::MAX)) {
        tracing::warn!(
            file = name,
            uid = slice.owner,
            records,
            reason,
            "records of a spill file are not taken"
        );
    }
    let mut all = relay.intake.rejections();
    if all.len() < MAX_REJECTIONS || all.contains_key(name) {
        let of_file = all.entry(name.to_owned()).or_default();
        of_file.add_all(slice.rejections.clone());
    }
}

pub(super) fn failed(relay: &Relay, error: &IntakeError, name: &str) {
    if relay.intake.failed_lines.take() {
        tracing::error!(%error, file = name, "a spill file cannot be appended to the log; this is retried");
    }
}
