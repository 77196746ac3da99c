//! Mailbox transactions among the owed deliveries of a key: a claim that ends between two of them
//! has them delivered whole, and a script that dies meanwhile loses no beginning of one.

use std::collections::HashMap;

use bytes::Bytes;
use dovecast_notification::transactions::Gathering;
use dovecast_notification::{Notification, NotificationId, Transaction};
use uuid::Uuid;

/// What is known after some deliveries of a key, from the first on. A transaction that is too large
/// to be delivered together counts as ended.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// Transactions that were begun and not ended, each with its place.
    open: HashMap<Uuid, (usize, Gathering)>,
    taken: usize,
    bytes: usize,
    count: usize,
}

impl Whole {
    /// Takes the next delivery.
    pub(super) fn take(&mut self, id: NotificationId, content: &Bytes) {
        let read = Notification::from_canonical(id, content).ok();
        // What cannot be read waits for nothing.
        let transaction = read.as_ref().and_then(Notification::transaction);
        self.add(transaction, read.map_or(0, |read| read.bytes()));
        self.bytes += content.len();
    }

    fn add(&mut self, transaction: Option<Transaction>, bytes: usize) {
        if let Some(of) = transaction {
            let (begin, gathering) = match self.open.remove(&of.id) {
                None => (self.taken, Gathering::new(transaction, bytes)),
                Some((begin, mut gathering)) => {
                    gathering.take(transaction, bytes);
                    (begin, gathering)
                }
            };
            if !gathering.is_ready() {
                self.open.insert(of.id, (begin, gathering));
            }
        }
        self.taken += 1;
        if self.open.is_empty() {
            self.count = self.taken;
        }
    }

    /// The most deliveries among which none is of a transaction that has no end among them; 0:
    /// there are none.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Bytes of what was taken.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The deliveries before the transaction that was begun last and has not ended; all, if only
    /// the first one has not.
    pub(super) fn but_the_last(&self) -> usize {
        let begun = self.open.values().map(|(begin, _)| *begin).max();
        begun.filter(|begin| *begin > 0).unwrap_or(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use dovecast_notification::transactions::PART_EVENTS;

    use super::*;

    /// Deliveries of a transaction (0: of none), and whether it ends with them.
    fn of(all: &[(u128, bool)]) -> Whole {
        let mut whole = Whole::default();
        for (id, is_last) in all {
            let transaction = Transaction {
                id: Uuid::from_u128(*id),
                seq: 0,
                is_last: *is_last,
            };
            whole.add((*id > 0).then_some(transaction), 1);
        }
        whole
    }

    #[test]
    fn what_is_claimed_ends_where_no_transaction_is_open() {
        let alone = (0, true);
        for (all, count) in [
            (&[alone, alone][..], 2),
            (&[(1, false)], 0),
            (&[(1, false), (1, false), (1, true)], 3),
            (&[(1, false), (1, true), (2, false)], 2),
            (&[(1, false), (2, false), (1, true), (3, true)], 0),
            (
                &[(1, false), (2, false), (1, true), (2, true), (3, false)],
                4,
            ),
            (&[(1, true), (2, false), alone], 1),
        ] {
            assert_eq!(of(all).count(), count, "{all:?}");
        }
    }

    #[test]
    fn behind_one_that_has_lost_its_end_others_are_whole() {
        for (all, kept) in [
            (&[(1, false), (2, false), (2, true), (3, false)][..], 3),
            (&[(1, false), (2, false), (2, true)], 3),
            (&[(1, false), (2, false), (3, false), (3, true)], 1),
            (&[(1, false), (1, false)], 2),
        ] {
            assert_eq!(of(all).but_the_last(), kept, "{all:?}");
        }
    }

    #[test]
    fn what_is_too_large_to_be_delivered_together_is_not_waited_for() {
        let part = vec![(1, false); PART_EVENTS];
        assert_eq!(of(&part).count(), 0);
        let more = [&part[..], &[(1, false)]].concat();
        assert_eq!(of(&more).count(), more.len());
    }
}
