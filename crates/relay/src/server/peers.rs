//! Whose processes may send.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use dovecast_log::LineLimit;

/// Most users of whom it is remembered that they were logged; others are not logged.
const REMEMBERED: usize = 1000;

/// User ids that may send.
pub(super) struct Peers {
    allow: Vec<RangeInclusive<u32>>,
    own: u32,
    lines: Mutex<HashMap<u32, LineLimit>>,
}

impl Peers {
    pub(super) fn new(allow: &[RangeInclusive<u32>]) -> Self {
        Self {
            allow: allow.to_vec(),
            own: rustix::process::geteuid().as_raw(),
            lines: Mutex::default(),
        }
    }

    pub(super) fn may_send(&self, uid: u32) -> bool {
        uid == self.own || self.allow.iter().any(|range| range.contains(&uid))
    }

    /// Whether it is time to tell that this user was refused.
    pub(super) fn is_to_be_told(&self, uid: u32) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= REMEMBERED && !lines.contains_key(&uid) {
            return false;
        }
        lines.entry(uid).or_default().take()
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
