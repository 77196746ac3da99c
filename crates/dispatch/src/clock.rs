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
/// How long until due times that have passed are looked for again, where there is no room: all of
/// them are looked at, and every delivery that fails waits for that.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
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
pub(crate) struct Waits(Lock<Waiting>);

/// What waits, and until when.
#[derive(Debug, Default)]
struct Waiting {
    due: HashMap<OwedId, Instant>,
    /// When what had passed was last looked for.
    swept: Option<Instant>,
}

impl Default for Waits {
    fn default() -> Self {
        Self(Lock::new("waits", Waiting::default()))
    }
}

impl Waits {
    pub(crate) fn begin(&self, id: OwedId, delay: Duration) {
        self.0.lock().begin(id, delay, Instant::now());
    }

    /// Forgets a delivery that is claimed by this process, or gone.
    pub(crate) fn end(&self, id: OwedId) {
        self.0.lock().due.remove(&id);
    }

    /// When each is due, by a clock that says `now_ms`.
    pub(crate) fn due(&self, now_ms: Millis) -> Vec<(OwedId, Millis)> {
        let now = Instant::now();
        let mut waits = self.0.lock();
        waits.sweep(now);
        let due = |(id, due): (&OwedId, &Instant)| {
            let left = due.saturating_duration_since(now);
            (*id, now_ms.saturating_add(ms(left)))
        };
        waits.due.iter().map(due).collect()
    }
}

impl Waiting {
    /// Remembers when a delivery is due, if there is room; `true`: room was looked for.
    fn begin(&mut self, id: OwedId, delay: Duration, now: Instant) -> bool {
        let is_full = self.due.len() >= MOST_WAITS;
        let last = self.swept;
        let may_sweep =
            last.is_none_or(|last| now.saturating_duration_since(last) >= SWEEP_INTERVAL);
        if is_full && may_sweep {
            self.sweep(now);
        }
        if let Some(due) = now.checked_add(delay)
            && (self.due.len() < MOST_WAITS || self.due.contains_key(&id))
        {
            self.due.insert(id, due);
        }
        is_full && may_sweep
    }

    /// Forgets what has passed.
    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        self.due
            .retain(|_, due| now.saturating_duration_since(*due) < PASSED_KEPT);
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

    #[test]
    fn where_very_many_wait_room_is_looked_for_once_a_second() {
        let mut waiting = Waiting::default();
        let id = |number: usize| {
            let number = Uuid::from_u128(number as u128);
            (EndpointId(number), NotificationId(number))
        };
        let (now, hour) = (Instant::now(), Duration::from_hours(1));
        for number in 0..MOST_WAITS {
            assert!(!waiting.begin(id(number), hour, now));
        }
        for second in 0..3 {
            let now = now + second * SWEEP_INTERVAL;
            let more = MOST_WAITS..MOST_WAITS + 10_000;
            let looked = more.filter(|number| waiting.begin(id(*number), hour, now));
            assert_eq!(looked.count(), 1);
        }
        assert_eq!(waiting.due.len(), MOST_WAITS);
        // When they have passed there is room again.
        let later = now + hour + PASSED_KEPT;
        assert!(waiting.begin(id(MOST_WAITS), hour, later));
        assert_eq!(waiting.due.len(), 1);
    }
}
