//! Whose processes may send, and what is logged of a user.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dovecast_log::LineLimit;

/// Most users of whom it is remembered that they were logged, of a subject: some ten kilobytes.
/// Others share one line a minute.
const REMEMBERED: usize = 1000;
/// How long a user who was logged is not logged again.
const LINE_INTERVAL: Duration = Duration::from_mins(1);

/// User ids that may send.
pub(super) struct Peers {
    allow: Vec<RangeInclusive<u32>>,
    own: u32,
    /// Lines about clients that are sent away.
    pub(super) refused: UserLines,
    /// Lines about records that are not taken.
    pub(super) rejected: UserLines,
    /// Lines about records of spill files that are kept.
    pub(super) kept: UserLines,
    /// Lines about spill files that are not taken in.
    pub(super) files: UserLines,
    /// Lines about users who send too much.
    pub(super) held_back: UserLines,
}

impl Peers {
    pub(super) fn new(allow: &[RangeInclusive<u32>]) -> Self {
        Self {
            allow: allow.to_vec(),
            own: rustix::process::geteuid().as_raw(),
            refused: UserLines::default(),
            rejected: UserLines::default(),
            kept: UserLines::default(),
            files: UserLines::default(),
            held_back: UserLines::default(),
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
pub(super) struct UserLines(Mutex<Logged>);

/// Users who were logged within the last minute.
#[derive(Debug, Default)]
struct Logged {
    users: HashMap<u32, Instant>,
    /// Lines about users for whom there is no place.
    others: LineLimit,
}

impl UserLines {
    /// Whether one about this user may be logged now.
    pub(super) fn take(&self, uid: u32) -> bool {
        self.take_at(uid, Instant::now())
    }

    fn take_at(&self, uid: u32, now: Instant) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < LINE_INTERVAL;
        if logged.users.get(&uid).copied().is_some_and(is_fresh) {
            return false;
        }
        if logged.users.len() >= REMEMBERED {
            logged.users.retain(|_, at| is_fresh(*at));
        }
        if logged.users.len() >= REMEMBERED {
            return logged.others.take();
        }
        logged.users.insert(uid, now);
        true
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

    #[test]
    fn however_many_users_are_logged_others_are_too() {
        let lines = UserLines::default();
        let begin = Instant::now();
        let remembered = u32::try_from(REMEMBERED).expect("a thousand");
        assert!((0..remembered).all(|uid| lines.take_at(uid, begin)));
        let more: Vec<bool> = (1..4)
            .map(|more| lines.take_at(remembered + more, begin))
            .collect();
        assert_eq!(more, [true, false, false], "one line about all others");
        let later = begin + LINE_INTERVAL;
        assert!(lines.take_at(remembered + 5, later));
        assert!(lines.take_at(0, later) && !lines.take_at(0, later));
        assert_eq!(lines.0.lock().expect("it").users.len(), 2);
    }
}
