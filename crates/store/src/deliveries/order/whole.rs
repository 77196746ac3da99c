//! Mailbox transactions among the owed deliveries of a key: a claim that ends between two
//! transactions has them delivered whole, and what dies meanwhile loses no beginning of one.

use std::collections::HashMap;

use dovecast_dispatch::ledger::Owed;
use dovecast_notification::transactions::Gathering;
use dovecast_notification::{Notification, Transaction};

/// How many of these, from the first on, may be claimed, so that no transaction among them is begun
/// and not ended: as many as are wanted, or fewer, or else the fewest there are; 0: there are none.
/// What is too large to be delivered together counts as ended.
pub(super) fn whole(owed: &[Owed], wanted: usize) -> usize {
    let read = owed.iter().map(|owed| {
        let notification = Notification::from_canonical(owed.notification, &owed.content);
        // What cannot be read waits for nothing.
        let transaction = notification.ok().and_then(|read| read.transaction());
        (transaction, owed.content.len())
    });
    whole_of(read, wanted)
}

fn whole_of(all: impl Iterator<Item = (Option<Transaction>, usize)>, wanted: usize) -> usize {
    let mut open = HashMap::new();
    let mut whole = 0;
    for (place, (transaction, bytes)) in all.enumerate() {
        if place >= wanted && whole > 0 {
            break;
        }
        if let Some(of) = transaction {
            let gathering = match open.remove(&of.id) {
                None => Gathering::new(transaction, bytes),
                Some(mut gathering) => {
                    Gathering::take(&mut gathering, transaction, bytes);
                    gathering
                }
            };
            if !gathering.is_ready() {
                open.insert(of.id, gathering);
            }
        }
        if open.is_empty() {
            whole = place + 1;
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use dovecast_notification::transactions::PART_EVENTS;
    use uuid::Uuid;

    use super::*;

    fn whole_among(all: &[(u128, bool)], wanted: usize) -> usize {
        let all = all.iter().map(|(id, is_last)| {
            let transaction = Transaction {
                id: Uuid::from_u128(*id),
                seq: 0,
                is_last: *is_last,
            };
            ((*id > 0).then_some(transaction), 1)
        });
        whole_of(all, wanted)
    }

    #[test]
    fn what_is_claimed_ends_where_no_transaction_is_open() {
        let alone = (0, true);
        for (all, wanted, expected) in [
            (&[alone, alone][..], 2, 2),
            (&[alone, alone], 1, 1),
            (&[(1, false)], 1, 0),
            (&[(1, false), (1, false), (1, true)], 1, 3),
            (&[(1, false), (1, true), (2, false)], 3, 2),
            (&[(1, false), (1, true), (2, true)], 1, 2),
            (&[(1, false), (2, false), (1, true), (3, true)], 4, 0),
            (&[(1, false), (2, false), (1, true), (2, true), alone], 2, 4),
            (&[(1, true), (2, false), alone], 3, 1),
        ] {
            assert_eq!(whole_among(all, wanted), expected, "{all:?} {wanted}");
        }
    }

    #[test]
    fn what_is_too_large_to_be_delivered_together_is_not_waited_for() {
        let part = vec![(1, false); PART_EVENTS];
        assert_eq!(whole_among(&part, 1), 0);
        let more = [&part[..], &[(1, false)]].concat();
        assert_eq!(whole_among(&more, 1), more.len());
    }
}
