//! The time of day, which may be set, and what has to hold all the same.
//!
//! Whatever waits or compares durations here uses [`Instant`]. The time of day is for what others
//! read: when something happened, when it is due, until when a dispatcher lives. A due time that
//! was written before the clock was set is not right after that: [`Waits`] knows how long each has
//! still to wait, and `retrier` writes them anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::ledger::{Millis, OwedId};
use crate::locks::Lock;

/// Due times that are remembered. Others are right again when the clock is.
const MOST_WAITS: usize = 100_000;
/// How long a due time is remembered after it has passed: it may be another dispatcher's delivery
/// by now.
const PASSED_KEPT: Duration = Duration::from_mins(1);
/// A clock that differs by less was not set; the difference is of threads that had to wait.
const SLIGHT_MS: u64 = 1_000;

/// The system's clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    ahead_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The time of day.
    pub fn now_ms(&self) -> Millis {
        dovecast_log::now_ms().saturating_add(self.ahead_ms.load(Ordering::Acquire))
    }

    /// Sets it, for those who hold this clock or a clone of it: forth, or back. For tests.
    pub fn step(&self, by_ms: i64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::AcqRel);
    }
}

/// Milliseconds of a duration.
pub(crate) fn ms(duration: Duration) -> Millis {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Finds out that a clock was set.
#[derive(Debug)]
pub(crate) struct Steps {
    clock: Clock,
    seen: (Instant, Millis),
}

impl Steps {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            seen: (Instant::now(), clock.now_ms()),
        }
    }

    /// By how much it was set since the last time.
    pub(crate) fn step_ms(&mut self) -> Option<i64> {
        let (before, before_ms) = self.seen;
        self.seen = (Instant::now(), self.clock.now_ms());
        let by_ms = self.seen.1 - before_ms - ms(self.seen.0.duration_since(before));
        (by_ms.unsigned_abs() >= SLIGHT_MS).then_some(by_ms)
    }
}

/// How long deliveries that are owed have still to wait, whatever the clock says.
#[derive(Debug)]
pub(crate) struct Waits(Lock<HashMap<OwedId, Instant>>);

impl Default for Waits {
    fn default() -> Self {
        Self(Lock::new("waits", HashMap::new()))
    }
}

impl Waits {
    pub(crate) fn begin(&self, id: OwedId, delay: Duration) {
        let now = Instant::now();
        let mut waits = self.0.lock();
        if waits.len() >= MOST_WAITS {
            waits.retain(|_, due| now.saturating_duration_since(*due) < PASSED_KEPT);
        }
        if let Some(due) = now.checked_add(delay)
            && (waits.len() < MOST_WAITS || waits.contains_key(&id))
        {
            waits.insert(id, due);
        }
    }

    /// Forgets a delivery that is claimed by this process, or gone.
    pub(crate) fn end(&self, id: OwedId) {
        self.0.lock().remove(&id);
    }

    /// When each is due, by a clock that says `now_ms`.
    pub(crate) fn due(&self, now_ms: Millis) -> Vec<(OwedId, Millis)> {
        let now = Instant::now();
        let mut waits = self.0.lock();
        waits.retain(|_, due| now.saturating_duration_since(*due) < PASSED_KEPT);
        let due = |(id, due): (&OwedId, &Instant)| {
            let left = due.saturating_duration_since(now);
            (*id, now_ms.saturating_add(ms(left)))
        };
        waits.iter().map(due).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use dovecast_notification::{EndpointId, NotificationId};

    const DAY_MS: i64 = 24 * 60 * 60 * 1000;

    #[test]
    fn a_clock_that_is_set_is_found_out_once_and_one_that_goes_on_is_not() {
        let clock = Clock::default();
        let mut steps = Steps::new(&clock);
        assert_eq!(steps.step_ms(), None);
        for by_ms in [6 * DAY_MS, -7_200_000] {
            clock.step(by_ms);
            let found = steps.step_ms().expect("it was set");
            assert!((found - by_ms).abs() < 1_000, "{found}");
            assert_eq!(steps.step_ms(), None);
        }
    }

    #[test]
    fn what_waits_waits_as_long_whatever_the_clock_says() {
        let waits = Waits::default();
        let id = (
            EndpointId(Uuid::from_u128(1)),
            NotificationId(Uuid::from_u128(2)),
        );
        waits.begin(id, Duration::from_hours(1));
        for now_ms in [0, 6 * DAY_MS] {
            let due = waits.due(now_ms);
            assert_eq!((due.len(), due[0].0), (1, id));
            let left = due[0].1 - now_ms;
            assert!((3_540_000..=3_600_000).contains(&left), "{left}");
        }
        waits.end(id);
        assert_eq!(waits.due(0), []);
    }
}
