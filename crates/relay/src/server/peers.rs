//! Whose processes may send, and what is logged of a user.

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
    /// Lines about clients that are sent away.
    pub(super) refused: UserLines,
    /// Lines about records that are not taken.
    pub(super) rejected: UserLines,
    /// Lines about spill files that are not taken in.
    pub(super) files: UserLines,
}

impl Peers {
    pub(super) fn new(allow: &[RangeInclusive<u32>]) -> Self {
        Self {
            allow: allow.to_vec(),
            own: rustix::process::geteuid().as_raw(),
            refused: UserLines::default(),
            rejected: UserLines::default(),
            files: UserLines::default(),
        }
    }

    pub(super) fn may_send(&self, uid: u32) -> bool {
        uid == self.own || self.allow.iter().any(|range| range.contains(&uid))
    }

    /// The relay's own user id.
    pub(super) fn own(&self) -> u32 {
        self.own
    }
}

/// A bound on the lines about one subject: one a minute and user.
#[derive(Debug, Default)]
pub(super) struct UserLines(Mutex<HashMap<u32, LineLimit>>);

impl UserLines {
    /// Whether one about this user may be logged now.
    pub(super) fn take(&self, uid: u32) -> bool {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        assert!(peers.refused.take(33) && !peers.refused.take(33));
        assert!(peers.refused.take(34) && peers.rejected.take(34));
    }
}
