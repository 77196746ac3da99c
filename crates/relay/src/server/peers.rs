//! Whose processes may send.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A user who is refused is told of once in this time.
const REPEAT: Duration = Duration::from_mins(1);
/// Most users of whom it is remembered that they were logged; others are not logged.
const REMEMBERED: usize = 1000;

/// User ids that may send.
pub(super) struct Peers {
    allow: Vec<RangeInclusive<u32>>,
    own: u32,
    told: Mutex<HashMap<u32, Instant>>,
}

impl Peers {
    pub(super) fn new(allow: &[RangeInclusive<u32>]) -> Self {
        Self {
            allow: allow.to_vec(),
            own: rustix::process::geteuid().as_raw(),
            told: Mutex::default(),
        }
    }

    pub(super) fn may_send(&self, uid: u32) -> bool {
        uid == self.own || self.allow.iter().any(|range| range.contains(&uid))
    }

    /// Whether it is time to tell that this user was refused.
    pub(super) fn is_to_be_told(&self, uid: u32) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_due = told
            .get(&uid)
            .is_none_or(|last| now.duration_since(*last) >= REPEAT);
        if is_due && (told.len() < REMEMBERED || told.contains_key(&uid)) {
            told.insert(uid, now);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_named_may_send_and_refusals_are_told_once_a_minute() {
        let peers = Peers::new(&[5000..=5000, 10_000..=19_999]);
        let may = [4999, 5000, 5001, 10_000, 19_999, 20_000].map(|uid| peers.may_send(uid));
        assert_eq!(may, [false, true, false, true, true, false]);
        assert!(peers.may_send(rustix::process::geteuid().as_raw()));
        assert!(peers.is_to_be_told(33) && !peers.is_to_be_told(33));
        assert!(peers.is_to_be_told(34));
    }
}
