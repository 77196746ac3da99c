//! Whole mailbox transactions out of records that come one by one: which of the notifications that
//! wait for a receiver belong together, and whether these are all.
//!
//! What a transaction is stands in the headers `dovecast-txn`, `-seq` and `-last`. Records of one
//! transaction need not follow each other: another process of the same user may write between them.

use uuid::Uuid;

use crate::Transaction;

/// Most notifications of a transaction that are delivered together; more of it are further parts. A
/// hundred small events take no more room than one mail's fields.
pub const PART_EVENTS: usize = 100;
/// Most bytes of notifications that are delivered together, besides one.
pub const PART_BYTES: usize = 1024 * 1024;

/// Which part of its mailbox transaction a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "receivers ask for each by itself"
)]
pub struct Part {
    /// Whether nothing of the transaction was delivered before.
    pub is_first: bool,
    /// Whether nothing more of the transaction comes.
    pub is_last: bool,
    /// Whether the transaction has ended as it should, as far as is known; not if the end of it is
    /// missing, because its mail process has died.
    pub success: bool,
    /// Whether nothing but the end of the transaction is told, because that was waited for in vain:
    /// the notification was delivered with an earlier part, and says whose transaction it is.
    pub is_end_only: bool,
}

impl Part {
    /// All there is of a transaction.
    pub const WHOLE: Self = Self {
        is_first: true,
        is_last: true,
        success: true,
        is_end_only: false,
    };
    /// The end of a transaction that is lost, of which everything else was delivered.
    pub const LOST_END: Self = Self {
        is_first: false,
        is_last: true,
        success: false,
        is_end_only: true,
    };
}

impl Default for Part {
    fn default() -> Self {
        Self::WHOLE
    }
}

/// What of one transaction is delivered together, while it is being gathered.
#[derive(Debug)]
pub struct Gathering {
    id: Option<Uuid>,
    events: usize,
    bytes: usize,
    is_complete: bool,
    is_overfull: bool,
}

impl Gathering {
    /// Begins with the first notification that waits; one that is of no transaction is complete.
    pub fn new(first: Option<Transaction>, bytes: usize) -> Self {
        Self {
            id: first.map(|of| of.id),
            events: 1,
            bytes,
            is_complete: first.is_none_or(|of| of.is_last),
            is_overfull: false,
        }
    }

    /// Takes the next notification that waits; `false`: it is of another transaction, or of a
    /// further part.
    pub fn take(&mut self, next: Option<Transaction>, bytes: usize) -> bool {
        let Some(next) = next.filter(|next| Some(next.id) == self.id) else {
            return false;
        };
        if self.is_complete || self.is_overfull {
            return false;
        }
        // One is left for the next part, so that the end of a transaction is never a part in which
        // nothing is.
        self.is_overfull = self.events >= PART_EVENTS || self.bytes >= PART_BYTES;
        if self.is_overfull {
            return false;
        }
        self.events += 1;
        self.bytes += bytes;
        self.is_complete = next.is_last;
        true
    }

    /// Whether the end of the transaction is among what was taken.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether nothing more is waited for before this is delivered.
    pub fn is_ready(&self) -> bool {
        self.is_complete || self.is_overfull
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn event(id: u128, seq: u32, is_last: bool) -> Transaction {
        Transaction {
            id: Uuid::from_u128(id),
            seq,
            is_last,
        }
    }

    #[test]
    fn a_transaction_is_ready_with_its_last_event_whatever_stands_between() {
        let mut gathering = Gathering::new(Some(event(1, 0, false)), 10);
        assert!(!gathering.is_ready());
        assert!(!gathering.take(Some(event(2, 0, true)), 10));
        assert!(!gathering.take(None, 10));
        assert!(gathering.take(Some(event(1, 1, false)), 10) && !gathering.is_ready());
        assert!(gathering.take(Some(event(1, 2, true)), 10));
        assert!(gathering.is_ready() && gathering.is_complete());
        assert!(!gathering.take(Some(event(1, 3, false)), 10));
        for alone in [None, Some(event(1, 0, true))] {
            assert!(Gathering::new(alone, 10).is_complete());
        }
    }

    #[test]
    fn a_large_transaction_is_ready_in_parts_and_something_is_left_for_the_last() {
        for (bytes, most) in [(1, PART_EVENTS), (PART_BYTES / 2, 2)] {
            let mut gathering = Gathering::new(Some(event(1, 0, false)), bytes);
            let mut taken = 1;
            while gathering.take(Some(event(1, 1, false)), bytes) {
                taken += 1;
            }
            assert_eq!(taken, most);
            assert!(gathering.is_ready() && !gathering.is_complete());
        }
    }
}
