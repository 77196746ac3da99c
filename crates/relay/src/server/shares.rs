//! Shares of what there is a bound of, by user id: however many take much, something is left for
//! who has little.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// A user gets this part at most of what others leave free, as a fraction. So one that takes all it
/// can get leaves the rest to the next, and that one again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) of: u64,
    pub(super) most: u64,
}

/// What is shared.
#[derive(Debug)]
pub(super) struct Shares {
    total: u64,
    part: Part,
    taken: Mutex<Taken>,
    given_back: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all: u64,
    of_users: HashMap<u32, u64>,
}

impl Shares {
    pub(super) fn new(total: u64, part: Part) -> Self {
        Self {
            total,
            part,
            taken: Mutex::default(),
            given_back: Notify::new(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A share of a user, of nothing yet.
    pub(super) fn share(&self, uid: u32) -> Share<'_> {
        Share {
            shares: self,
            uid,
            has: 0,
        }
    }

    /// Waits until something is given back from now on.
    pub(super) fn given_back(&self) -> Notified<'_> {
        self.given_back.notified()
    }
}

/// What one connection has; given back by drop.
#[derive(Debug)]
pub(super) struct Share<'s> {
    shares: &'s Shares,
    uid: u32,
    has: u64,
}

impl Share<'_> {
    /// Has so much from now on, which may be less than before; `false`: it is not to be had.
    pub(super) fn set(&mut self, wanted: u64) -> bool {
        if wanted == self.has {
            return true;
        }
        let mut taken = self.shares.taken();
        let of_user = taken.of_users.get(&self.uid).copied().unwrap_or_default();
        if wanted > self.has {
            let Part { of, most } = self.shares.part;
            let free = self.shares.total.saturating_sub(taken.all - of_user);
            // At least one, of a few.
            let limit = free - free / of * (of - most);
            if of_user - self.has + wanted > limit {
                return false;
            }
        }
        taken.all = taken.all - self.has + wanted;
        let of_user = of_user - self.has + wanted;
        if of_user == 0 {
            taken.of_users.remove(&self.uid);
        } else {
            taken.of_users.insert(self.uid, of_user);
        }
        drop(taken);
        if wanted < self.has {
            self.shares.given_back.notify_waiters();
        }
        self.has = wanted;
        true
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NINE_TENTHS: Part = Part { of: 10, most: 9 };

    fn take_all(shares: &Shares, uid: u32) -> Vec<Share<'_>> {
        let taking = std::iter::from_fn(|| {
            let mut share = shares.share(uid);
            share.set(1).then_some(share)
        });
        taking.collect()
    }

    #[test]
    fn one_user_leaves_something_to_the_next() {
        let shares = Shares::new(1000, NINE_TENTHS);
        let first = take_all(&shares, 1);
        let second = take_all(&shares, 2);
        let third = take_all(&shares, 3);
        let lengths = [&first, &second, &third].map(Vec::len);
        assert_eq!(lengths, [900, 90, 9]);
        drop(first);
        assert_eq!(take_all(&shares, 4).len(), 811);
        drop((second, third));
        assert!(shares.taken().of_users.is_empty());
        assert_eq!(shares.taken().all, 0);
    }

    #[test]
    fn of_a_few_places_one_user_gets_all() {
        assert_eq!(take_all(&Shares::new(2, NINE_TENTHS), 1).len(), 2);
        assert_eq!(take_all(&Shares::new(0, NINE_TENTHS), 1).len(), 0);
    }

    #[test]
    fn what_is_had_can_become_more_and_less() {
        let shares = Shares::new(100, Part { of: 2, most: 1 });
        let mut share = shares.share(1);
        assert!(share.set(50) && !share.set(51));
        assert!(share.set(10) && share.set(50));
        let mut other = shares.share(1);
        assert!(!other.set(1), "of the same user");
        assert!(shares.share(2).set(25));
    }
}
