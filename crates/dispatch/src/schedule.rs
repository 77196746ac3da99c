//! When a delivery that failed is retried.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The delays after each failure; after the last one the delivery is a dead letter. Clones share
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    delays: Arc<[Duration]>,
    /// Most that is added to a delay or taken off it, in percent.
    jitter_percent: u32,
}

impl Default for Schedule {
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h: a day and three hours.
    fn default() -> Self {
        static SHARED: LazyLock<Schedule> = LazyLock::new(|| {
            let delays = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];
            Schedule::new(delays.map(Duration::from_secs).to_vec(), 20)
        });
        SHARED.clone()
    }
}

impl Schedule {
    /// Delays of one's own.
    pub fn new(delays: Vec<Duration>, jitter_percent: u32) -> Self {
        Self {
            delays: delays.into(),
            jitter_percent: jitter_percent.min(100),
        }
    }

    /// That of hooks-backend: two more tries, soon, and then the endpoint is not active any more.
    pub fn hooks() -> Self {
        Self::new([3, 18].map(Duration::from_secs).to_vec(), 0)
    }

    /// Attempts after the first.
    pub(crate) fn retries(&self) -> u32 {
        u32::try_from(self.delays.len()).unwrap_or(u32::MAX)
    }

    /// How long after `failures` of them (1: the first) the next attempt is made; `None`: there is
    /// none. `chance` is any number, and decides the jitter. An endpoint that asks for more time
    /// gets it.
    pub fn delay(
        &self,
        failures: u32,
        retry_after: Option<Duration>,
        chance: u64,
    ) -> Option<Duration> {
        let place = usize::try_from(failures.checked_sub(1)?).ok()?;
        let delay = *self.delays.get(place)?;
        let percent = u64::from(self.jitter_percent);
        let share = 100 + chance % (2 * percent + 1) - percent;
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let delay = Duration::from_millis(ms.saturating_mul(share) / 100);
        Some(delay.max(retry_after.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delays_are_those_of_the_schedule_give_or_take() {
        let schedule = Schedule::default();
        let seconds = |failures, chance| {
            let delay = schedule.delay(failures, None, chance)?;
            Some(delay.as_secs_f64())
        };
        assert_eq!(seconds(1, 20), Some(5.0));
        assert_eq!(seconds(1, 0), Some(4.0));
        assert_eq!(seconds(1, 40), Some(6.0));
        assert_eq!(seconds(1, 41), Some(4.0));
        assert_eq!(seconds(7, 20), Some(36_000.0));
        assert_eq!(seconds(8, 20), None);
        assert_eq!(seconds(0, 20), None);
        let hooks = Schedule::hooks();
        let all: Vec<Option<Duration>> = (1..=3).map(|n| hooks.delay(n, None, 7)).collect();
        assert_eq!(
            all,
            [
                Some(Duration::from_secs(3)),
                Some(Duration::from_secs(18)),
                None
            ]
        );
    }

    #[test]
    fn an_endpoint_that_asks_for_time_gets_it() {
        let minute = Some(Duration::from_mins(1));
        assert_eq!(Schedule::default().delay(1, minute, 20), minute);
        let second = Some(Duration::from_secs(1));
        let delay = Schedule::default().delay(1, second, 20);
        assert_eq!(delay, Some(Duration::from_secs(5)));
        assert_eq!(Schedule::default().delay(8, minute, 20), None);
    }
}
