//! How fast the spill files of a user are taken in: what is in them counts for the user like what
//! its mail processes send. A user who has sent too much waits, and loses nothing: its files stay.
//!
//! A user whose mail processes spend all that it may would never have a file taken in. So whoever
//! has waited once for as long as the rate says takes a slice, whatever was spent meanwhile.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::server::Relay;

/// The least time from one look at the spill directory to an earlier one than configured, because
/// a user has waited long enough.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// What a file without records counts, in records: about the work that it is.
const FILE_RECORDS: u64 = 1;
/// How long a turn that nobody has taken is remembered: the file has gone, or another look at the
/// directory comes.
const REMEMBERED: Duration = Duration::from_mins(10);

/// When users who have sent too much have their next turn.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<HashMap<u32, Instant>>);

impl Pace {
    fn turns(&self) -> MutexGuard<'_, HashMap<u32, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when a user has to wait for its next slice, which is counted by `wait`; `None`: the
    /// turn is taken.
    fn turn(&self, uid: u32, now: Instant, wait: impl FnOnce() -> Duration) -> Option<Instant> {
        let mut turns = self.turns();
        if let Some(until) = turns.get(&uid).copied() {
            if now < until {
                return Some(until);
            }
            turns.remove(&uid);
            return None;
        }
        let wait = wait();
        if wait.is_zero() {
            return None;
        }
        turns.insert(uid, now + wait);
        Some(now + wait)
    }

    /// How long until the spill directory is looked at again.
    pub(super) fn next_look(&self, interval: Duration, now: Instant) -> Duration {
        let mut turns = self.turns();
        turns.retain(|_, until| now.saturating_duration_since(*until) < REMEMBERED);
        let first = turns.values().min();
        let first = first.map(|until| until.saturating_duration_since(now).max(LEAST_INTERVAL));
        first.map_or(interval, |first| first.min(interval))
    }
}

/// Until when a file of this user is to be left alone; `None`: a slice of it is to be taken now.
pub(super) fn held_until(relay: &Relay, uid: u32) -> Option<Instant> {
    let now = Instant::now();
    let wait = || relay.rates.wait(&uid, now);
    relay.intake.pace.turn(uid, now, wait)
}

/// Counts a slice for its user.
pub(super) fn charge(relay: &Relay, uid: u32, spent: (u64, u64)) {
    let wait = relay.rates.charge(uid, spent, Instant::now());
    if wait.is_zero() {
        return;
    }
    let counter = &relay.counters.spill_held_back;
    counter.fetch_add(1, Ordering::Relaxed);
    if relay.peers.held_back.take(uid) {
        let limits = relay.rates.limits();
        tracing::warn!(
            uid,
            wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            records_per_second = limits.count,
            bytes_per_second = limits.bytes,
            "a user spills more than [quota] allows: its spill files are taken in more slowly"
        );
    }
}

/// Counts a file that had nothing for its user: it was opened all the same.
pub(super) fn charge_in_vain(relay: &Relay, owner: Option<u32>) {
    if let Some(uid) = owner {
        charge(relay, uid, (FILE_RECORDS, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_has_waited_has_a_turn_whatever_was_spent_meanwhile() {
        let pace = Pace::default();
        let now = Instant::now();
        assert_eq!(pace.turn(1, now, || Duration::ZERO), None);
        let until = now + 3 * SECOND;
        assert_eq!(pace.turn(1, now, || 3 * SECOND), Some(until));
        assert_eq!(pace.turn(1, now + SECOND, || 90 * SECOND), Some(until));
        assert_eq!(pace.turn(2, now, || Duration::ZERO), None, "another");
        assert_eq!(pace.turn(1, until, || 90 * SECOND), None);
        let next = until + 90 * SECOND;
        assert_eq!(pace.turn(1, until, || 90 * SECOND), Some(next));
    }

    #[test]
    fn the_directory_is_looked_at_when_somebody_has_waited_and_not_all_the_time() {
        let pace = Pace::default();
        let now = Instant::now();
        assert_eq!(pace.next_look(5 * SECOND, now), 5 * SECOND);
        for (wait, expected) in [(9, 5), (3, 3), (0, 1)] {
            pace.turns().insert(wait, now + SECOND * wait);
            assert_eq!(pace.next_look(5 * SECOND, now), SECOND * expected);
        }
        assert_eq!(pace.next_look(SECOND / 20, now), SECOND / 20);
        let later = now + REMEMBERED + 10 * SECOND;
        assert_eq!(pace.next_look(5 * SECOND, later), 5 * SECOND);
        assert!(pace.turns().is_empty());
    }
}
