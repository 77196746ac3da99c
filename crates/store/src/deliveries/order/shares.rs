//! How much each key may have of what is claimed at a time. Where accounts have shares a key has
//! its part of that; else keys have the same share, and what another one leaves of its own.

use std::collections::BTreeMap;

use dovecast_dispatch::ledger::Owed;
use dovecast_notification::EndpointId;

use super::run::{Limit, PART};

/// How much is claimed at most.
pub(in crate::deliveries) struct Rooms {
    /// Deliveries in all.
    pub(in crate::deliveries) most: usize,
    /// Bytes of them in all.
    pub(in crate::deliveries) bytes: usize,
    /// Deliveries of endpoints; the keys of others have the same share of what there is.
    pub(in crate::deliveries) of_endpoints: BTreeMap<EndpointId, usize>,
}

/// What there is for the keys that are still to come.
pub(super) struct Shares {
    /// Deliveries in all.
    left: usize,
    /// Bytes of what follows the first ones, in all.
    bytes: usize,
    /// Deliveries of endpoints that have rooms, and how many keys share them.
    rooms: BTreeMap<EndpointId, (usize, usize)>,
    /// Deliveries in all rooms.
    reserved: usize,
    /// Keys without a room.
    others: usize,
    has_key: bool,
}

impl Shares {
    /// For these deliveries, which are claimed.
    pub(super) fn new(most: &Rooms, first: &[Owed]) -> Self {
        let mut rooms: BTreeMap<EndpointId, (usize, usize)> = BTreeMap::new();
        let mut others = 0;
        let mut without_order = 0;
        for owed in first {
            if owed.place.is_none() {
                without_order += 1;
            } else if let Some(room) = most.of_endpoints.get(&owed.endpoint) {
                rooms.entry(owed.endpoint).or_insert((*room, 0)).1 += 1;
            } else {
                others += 1;
            }
        }
        let bytes: usize = first.iter().map(|owed| owed.content.len()).sum();
        Self {
            left: most.most.saturating_sub(without_order),
            bytes: most.bytes.saturating_sub(bytes),
            reserved: rooms.values().map(|(room, _)| room).sum(),
            rooms,
            others,
            has_key: false,
        }
    }

    /// The share of the next key, of this endpoint; `None`: there is nothing left. The first key
    /// may have more than there is, so that any transaction is claimed one day; another one no more
    /// than those leave that are to come.
    pub(super) fn next(&mut self, endpoint: EndpointId) -> Option<Limit> {
        let share = if let Some((room, keys)) = self.rooms.get_mut(&endpoint) {
            let share = room.div_ceil((*keys).max(1));
            *room -= share;
            *keys = keys.saturating_sub(1);
            self.reserved -= share;
            share
        } else {
            let free = self.left.saturating_sub(self.reserved);
            let share = free.div_ceil(self.others.max(1));
            self.others = self.others.saturating_sub(1);
            share
        };
        if self.left == 0 {
            return None;
        }
        let share = share.clamp(1, self.left);
        let free = self.left.saturating_sub(self.reserved + self.others);
        let enough = if self.has_key { free.min(PART) } else { PART };
        Some(Limit {
            share,
            bytes: part(self.bytes, share, self.left),
            enough: enough.max(share),
        })
    }

    /// Whether there is room for what was claimed of a key; it is taken.
    pub(super) fn take(&mut self, run: &[Owed]) -> bool {
        let bytes = run.iter().skip(1).map(|owed| owed.content.len()).sum();
        if self.has_key && bytes > self.bytes {
            return false;
        }
        self.has_key = true;
        // What the first one has more than there is takes nothing from rooms.
        self.left = self.left.saturating_sub(run.len()).max(self.reserved);
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

/// Some of `all` parts of something, rounded down.
fn part(of: usize, parts: usize, all: usize) -> usize {
    let part = (of as u128) * (parts as u128) / (all.max(1) as u128);
    usize::try_from(part).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dovecast_dispatch::ledger::{KeyPlace, TopicPartition};
    use dovecast_notification::{NotificationId, OrderKey};
    use uuid::Uuid;

    use super::*;

    const BYTES: usize = 10;

    fn endpoint(number: u128) -> EndpointId {
        EndpointId(Uuid::from_u128(number))
    }

    fn owed(of: u128, has_order: bool) -> Owed {
        let place = KeyPlace {
            of: TopicPartition {
                topic: "t".into(),
                partition: 0,
            },
            key: OrderKey(Uuid::nil()),
            offset: 0,
            log: None,
        };
        Owed {
            note: String::new(),
            endpoint: endpoint(of),
            notification: NotificationId(Uuid::nil()),
            content: Bytes::from_static(&[b'x'; BYTES]),
            failures: 0,
            due_ms: 0,
            reason: String::new(),
            place: has_order.then_some(place),
        }
    }

    /// Shares and most deliveries of keys of these endpoints, each of which takes all it may.
    fn taken(rooms: &Rooms, keys: &[u128]) -> Vec<Option<(usize, usize)>> {
        let first: Vec<Owed> = keys.iter().map(|of| owed(*of, true)).collect();
        let mut shares = Shares::new(rooms, &first);
        let next = |of: &u128| {
            let limit = shares.next(endpoint(*of))?;
            let run = vec![owed(*of, true); limit.enough];
            shares.take(&run).then_some((limit.share, limit.enough))
        };
        keys.iter().map(next).collect()
    }

    fn rooms(most: usize, of_endpoints: &[(u128, usize)]) -> Rooms {
        let of_endpoints = of_endpoints.iter();
        Rooms {
            most,
            bytes: usize::MAX,
            of_endpoints: of_endpoints
                .map(|(number, room)| (endpoint(*number), *room))
                .collect(),
        }
    }

    #[test]
    fn a_key_has_its_room_whatever_those_before_it_need() {
        let rooms = rooms(500, &[(1, 250), (2, 250)]);
        let mut keys = vec![1; 50];
        keys.push(2);
        let taken = taken(&rooms, &keys);
        assert_eq!(taken[..3], [Some((5, PART)), Some((5, 5)), Some((5, 5))]);
        assert_eq!(taken[50], Some((250, 250)));
    }

    #[test]
    fn what_the_first_one_needs_more_than_there_is_takes_nothing_from_others() {
        let rooms = rooms(20, &[(1, 10), (2, 10)]);
        assert_eq!(
            taken(&rooms, &[1, 1, 2]),
            [Some((5, PART)), Some((5, 5)), Some((10, 10))]
        );
    }

    #[test]
    fn without_rooms_keys_have_the_same_share_and_what_others_leave() {
        let rooms = rooms(9, &[]);
        let first: Vec<Owed> = [true, true, false, true]
            .map(|has_order| owed(1, has_order))
            .into();
        let mut shares = Shares::new(&rooms, &first);
        let limit = shares.next(endpoint(1)).expect("room");
        assert_eq!((limit.share, limit.enough), (3, PART));
        assert!(shares.take(&first[..1]));
        let limit = shares.next(endpoint(1)).expect("room");
        assert_eq!((limit.share, limit.enough), (4, 6));
        assert!(shares.take(&vec![owed(1, true); 6]));
        let limit = shares.next(endpoint(1)).expect("room");
        assert_eq!((limit.share, limit.enough), (1, 1));
        assert!(shares.take(&first[..1]));
        assert!(shares.next(endpoint(1)).is_none());
    }

    #[test]
    fn bytes_go_with_shares_and_what_exceeds_them_is_not_taken() {
        let mut rooms = rooms(10, &[(1, 8), (2, 2)]);
        rooms.bytes = 4 * BYTES;
        let first = [owed(1, true), owed(2, true)];
        let mut shares = Shares::new(&rooms, &first);
        // Two are claimed, and two more have room.
        assert_eq!(shares.next(endpoint(1)).expect("room").bytes, 16);
        assert!(shares.take(&vec![owed(1, true); 2]));
        assert_eq!(shares.next(endpoint(2)).expect("room").bytes, BYTES * 2 / 8);
        assert!(!shares.take(&vec![owed(2, true); 3]));
        assert!(shares.take(&vec![owed(2, true); 2]));
    }
}
