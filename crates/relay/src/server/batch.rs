//! Records of one append, and those among them that are not taken.

use dovecast_log::{Appended, NewRecord};

use crate::wire::{self, Rejected};

/// What a record takes in memory besides the bytes that it has on the wire: its headers, and the
/// allocations of its parts. Without it records of no bytes would take any amount.
const RECORD_MEMORY_BYTES: usize = 768;
/// Different reasons that are told of one batch: each may have the name of a topic in it.
const MAX_REASONS: usize = 8;
const OTHER_REASONS: &str = "for various reasons";

/// Records for the next append.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) records: Vec<NewRecord>,
    pub(super) rejections: Rejections,
    /// What it takes in memory.
    bytes: usize,
}

impl Batch {
    /// Takes a record that had so many bytes on the wire.
    pub(super) fn push(&mut self, record: NewRecord, wire_bytes: usize) {
        self.records.push(record);
        self.bytes += wire_bytes + RECORD_MEMORY_BYTES;
    }

    /// Leaves a record out.
    pub(super) fn reject(&mut self, reason: String) {
        self.rejections.add(reason, 1);
        // So that a client that sends nothing else is told now and then.
        self.bytes += RECORD_MEMORY_BYTES;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many records there are, those that are left out included.
    pub(super) fn len(&self) -> u64 {
        self.records.len() as u64 + self.rejections.count()
    }
}

/// How many records are not taken, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rejections(Vec<(String, u64)>);

impl Rejections {
    pub(super) fn add(&mut self, reason: String, count: u64) {
        if let Some((_, so_far)) = self.0.iter_mut().find(|(known, _)| *known == reason) {
            *so_far += count;
        } else if self.0.len() < MAX_REASONS {
            self.0.push((reason, count));
        } else if let Some((last, so_far)) = self.0.last_mut() {
            OTHER_REASONS.clone_into(last);
            *so_far += count;
        }
    }

    /// Adds those that the log refuses.
    pub(super) fn add_refused(&mut self, appended: &Appended) {
        for refusal in &appended.refusals {
            self.add(format!("the log refuses them: {}", refusal.reason), 1);
        }
    }

    pub(super) fn add_all(&mut self, others: Self) {
        for (reason, count) in others.0 {
            self.add(reason, count);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The first reason.
    pub(super) fn reason(&self) -> Option<&str> {
        self.0.first().map(|(reason, _)| &**reason)
    }

    /// Appends what tells the client of them, before the acknowledgement of `up_to`.
    pub(super) fn write(&self, out: &mut Vec<u8>, up_to: u64) {
        for (reason, count) in &self.0 {
            let rejected = Rejected {
                up_to,
                count: *count,
                reason,
            };
            wire::write_rejected(out, &rejected);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_few_reasons_are_kept() {
        let mut rejections = Rejections::default();
        for number in 0..100 {
            rejections.add(format!("reason {}", number % 50), 1);
        }
        assert_eq!(rejections.count(), 100);
        assert_eq!(rejections.0.len(), MAX_REASONS);
        assert_eq!(rejections.reason(), Some("reason 0"));
    }
}
