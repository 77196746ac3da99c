//! What was found to be claimed, and how much more may be: deliveries, bytes and keys.

use std::collections::{BTreeMap, BTreeSet};

use dovecast_dispatch::ledger::{Millis, OwedId};
use dovecast_notification::EndpointId;

use super::Looking;

/// Keys that are claimed at a time: each takes some statements of the transaction.
const KEYS: usize = 100;

/// A delivery that is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct DueRow {
    pub(super) id: OwedId,
    pub(super) due_ms: Millis,
    /// Whether it waits for others of its key.
    pub(super) has_order: bool,
    /// How many its content has.
    pub(super) bytes: usize,
}

/// What was found to be claimed.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) ids: Vec<OwedId>,
    /// How many may be claimed of each endpoint in order: with the first ones of its keys what
    /// follows them.
    pub(super) rooms: BTreeMap<EndpointId, usize>,
    /// How much more may be claimed.
    pub(super) left: usize,
    left_bytes: usize,
    left_keys: usize,
    /// Whether more is due than there is room for.
    pub(super) is_cut: bool,
}

impl Found {
    pub(super) fn new(looking: &Looking<'_>) -> Self {
        Self {
            ids: Vec::new(),
            rooms: BTreeMap::new(),
            left: looking.most,
            left_bytes: looking.bytes,
            left_keys: KEYS,
            is_cut: false,
        }
    }

    /// Adds a delivery if there is room for it, or it is the first one.
    pub(super) fn add(&mut self, row: &DueRow) -> bool {
        let keys = usize::from(row.has_order);
        let has_room = row.bytes <= self.left_bytes && keys <= self.left_keys;
        let is_added = has_room || self.ids.is_empty();
        if is_added {
            self.left_bytes = self.left_bytes.saturating_sub(row.bytes);
            self.left_keys = self.left_keys.saturating_sub(keys);
            self.ids.push(row.id);
        }
        self.is_cut |= !is_added;
        is_added
    }

    /// Adds what was found of accounts, in this order, behind what is due for longest. Each has the
    /// same share of bytes and keys, and what is left is for those who need more.
    pub(super) fn add_all(&mut self, mut rows: Vec<(usize, DueRow)>) {
        let longest = (0..rows.len()).min_by_key(|place| rows[*place].1.due_ms);
        if let Some(place) = longest {
            self.add(&rows.remove(place).1);
        }
        let accounts: BTreeSet<usize> = rows.iter().map(|(account, _)| *account).collect();
        let share_of_bytes = self.left_bytes / accounts.len().max(1);
        let share_of_keys = self.left_keys.div_ceil(accounts.len().max(1));
        let mut taken: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        let mut rest = Vec::new();
        for (account, row) in rows {
            let (bytes, keys) = taken.entry(account).or_default();
            let with = (
                bytes.saturating_add(row.bytes),
                *keys + usize::from(row.has_order),
            );
            if with.0 <= share_of_bytes && with.1 <= share_of_keys && self.add(&row) {
                (*bytes, *keys) = with;
            } else {
                rest.push(row);
            }
        }
        for row in rest {
            self.add(&row);
        }
    }
}

#[cfg(test)]
mod tests {
    use dovecast_notification::NotificationId;
    use uuid::Uuid;

    use super::*;

    fn row(number: u128, due_ms: Millis, has_order: bool, bytes: usize) -> DueRow {
        let id = (
            EndpointId(Uuid::nil()),
            NotificationId(Uuid::from_u128(number)),
        );
        DueRow {
            id,
            due_ms,
            has_order,
            bytes,
        }
    }

    fn found(bytes: usize, rows: Vec<(usize, DueRow)>) -> (Vec<u128>, bool) {
        let looking = Looking {
            now_ms: 0,
            most: 1_000,
            bytes,
            except: &BTreeSet::new(),
            partitions: &BTreeSet::new(),
        };
        let mut found = Found::new(&looking);
        found.add_all(rows);
        let ids = found.ids.iter().map(|(_, id)| id.0.as_u128());
        (ids.collect(), found.is_cut)
    }

    #[test]
    fn what_is_due_for_longest_is_added_however_large_it_is() {
        let small = (1..=20).map(|number| (1, row(number, 5, false, 10)));
        let large = (2, row(99, 1, false, 1_000));
        assert_eq!(
            found(100, small.clone().chain([large]).collect()),
            (vec![99], true)
        );
        // It waits where something else is due for longer, until it is the one.
        let (ids, is_cut) = found(100, small.chain([(2, row(99, 6, false, 1_000))]).collect());
        assert_eq!((ids, is_cut), ((1..=10).collect(), true));
    }

    #[test]
    fn accounts_have_the_same_share_of_keys() {
        let many = (1..=200).map(|number| (1, row(number, 1, true, 1)));
        let few = (201..=210).map(|number| (2, row(number, 2, true, 1)));
        let without = (301..=400).map(|number| (2, row(number, 3, false, 1)));
        let (ids, is_cut) = found(10_000, many.chain(few).chain(without).collect());
        let of = |range: std::ops::Range<u128>| ids.iter().filter(|id| range.contains(id)).count();
        assert_eq!((of(1..201), of(201..211), of(301..401)), (90, 10, 100));
        assert!(is_cut);
    }
}
