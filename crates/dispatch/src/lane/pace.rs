//! How fast an endpoint is served, where it has a limit: deliveries are spread evenly, and none is
//! saved up for later.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// How early a delivery may be, because timers are not exact.
const EARLY: Duration = Duration::from_millis(10);

/// When the next delivery is due, if it is to be in time and not early.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    due: Option<Instant>,
}

impl Pace {
    /// Whether one more may begin now; else when to ask again.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Instant> {
        let due = self.due(now);
        if due > now + EARLY {
            return Err(due.checked_sub(EARLY).unwrap_or(due));
        }
        Ok(())
    }

    /// One more begins now, with so many in a second.
    pub(crate) fn take(&mut self, per_second: NonZeroU32, now: Instant) {
        self.due = Some(self.due(now) + Duration::from_secs(1) / per_second.get());
    }

    fn due(&self, now: Instant) -> Instant {
        self.due.map_or(now, |due| due.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are taken within a time by somebody who asks as soon as he may.
    fn taken(pace: &mut Pace, per_second: u32, start: Instant, time: Duration) -> u32 {
        let per_second = NonZeroU32::new(per_second).expect("a rate");
        let (mut now, mut count) = (start, 0);
        while now < start + time {
            match pace.check(now) {
                Ok(()) => {
                    pace.take(per_second, now);
                    count += 1;
                }
                Err(at) => {
                    assert!(at > now);
                    now = at;
                }
            }
        }
        count
    }

    #[test]
    fn no_second_has_more_than_the_rate_and_what_timers_need() {
        for rate in [1, 3, 50, 1_000, 10_000] {
            let start = Instant::now();
            let mut pace = Pace::default();
            for second in 0..5 {
                let from = start + Duration::from_secs(second);
                let count = taken(&mut pace, rate, from, Duration::from_secs(1));
                let most = rate + rate / 100 + 1;
                assert!(
                    (rate.saturating_sub(1)..=most).contains(&count),
                    "{rate}: {count}"
                );
            }
        }
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(taken(&mut pace, 10, start, Duration::from_millis(1)), 1);
        let later = start + Duration::from_mins(1);
        assert_eq!(taken(&mut pace, 10, later, Duration::from_millis(1)), 1);
    }
}
