//! How long attempts take, by what was answered, and how long it is from an event to its delivery.
//!
//! Classes of answers are few and fixed, so that no one outside can make up more of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dovecast_notification::NotificationId;

use crate::ledger::Millis;

/// Upper bounds of the buckets of durations, in milliseconds; one more is without a bound. From an
/// answer of the same host to a delivery that was retried for a day.
pub const TIMING_BUCKETS_MS: [u64; 10] = [
    5, 25, 100, 500, 2_500, 10_000, 60_000, 600_000, 3_600_000, 86_400_000,
];
/// Classes of what endpoints answer, by the status of HTTP; `none`: no answer, or a driver that
/// knows no status.
pub const ANSWER_CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "none"];

const BUCKETS: usize = TIMING_BUCKETS_MS.len() + 1;
const CLASSES: usize = ANSWER_CLASSES.len();

/// Durations, counted in buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// How many there were between one bound of [`TIMING_BUCKETS_MS`] and the next.
    pub buckets: [u64; BUCKETS],
    /// Sum of all durations, in microseconds.
    pub sum_us: u64,
}

/// Durations since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Durations of attempts, in the order of [`ANSWER_CLASSES`].
    pub attempts: [Timing; CLASSES],
    /// Durations from an event, or from when a notification was made, until an endpoint has it.
    pub deliveries: Timing,
}

#[derive(Debug, Default)]
struct Counted {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// Durations while they are counted.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    attempts: [Counted; CLASSES],
    deliveries: Counted,
}

impl Counted {
    fn add(&self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = TIMING_BUCKETS_MS.partition_point(|bound| *bound < ms);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    fn read(&self) -> Timing {
        Timing {
            buckets: std::array::from_fn(|place| self.buckets[place].load(Ordering::Relaxed)),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

impl Counting {
    /// An attempt has ended, with this status of HTTP.
    pub(crate) fn attempt(&self, status: Option<u16>, took: Duration) {
        let class = match status {
            Some(status @ 200..=599) => usize::from(status / 100 - 2),
            _ => CLASSES - 1,
        };
        if let Some(of) = self.attempts.get(class) {
            of.add(took);
        }
    }

    /// An endpoint has a notification. Ids of version 7 say when it was made (RFC 9562 section
    /// 5.7).
    pub(crate) fn delivered(&self, notification: NotificationId, now_ms: Millis) {
        if notification.0.get_version_num() != 7 {
            return;
        }
        let made_ms = u64::try_from(notification.0.as_u128() >> 80).unwrap_or(u64::MAX);
        let now_ms = u64::try_from(now_ms).unwrap_or_default();
        // Clocks of hosts differ.
        self.deliveries
            .add(Duration::from_millis(now_ms.saturating_sub(made_ms)));
    }

    pub(crate) fn read(&self) -> Timings {
        Timings {
            attempts: std::array::from_fn(|class| self.attempts[class].read()),
            deliveries: self.deliveries.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn attempts_are_counted_by_class_and_deliveries_from_the_time_in_the_id() {
        let counting = Counting::default();
        for (status, ms) in [
            (Some(204), 3),
            (Some(204), 5),
            (Some(503), 6),
            (None, 99),
            (Some(99), 1),
        ] {
            counting.attempt(status, Duration::from_millis(ms));
        }
        let made_ms = 1_795_210_528_120_u128;
        let id = |version: u128| {
            NotificationId(Uuid::from_u128(made_ms << 80 | version << 76 | 1 << 63))
        };
        let now_ms = Millis::try_from(made_ms).expect("a time") + 30_000;
        counting.delivered(id(7), now_ms);
        counting.delivered(id(8), now_ms);
        counting.delivered(id(7), 0);
        let read = counting.read();
        let counts = read.attempts.map(|of| of.buckets.iter().sum::<u64>());
        assert_eq!(counts, [2, 0, 0, 1, 2]);
        assert_eq!(
            (read.attempts[0].buckets[0], read.attempts[0].sum_us),
            (2, 8_000)
        );
        assert_eq!(read.attempts[3].buckets[1], 1);
        let deliveries = read.deliveries;
        assert_eq!(
            (
                deliveries.buckets[0],
                deliveries.buckets[6],
                deliveries.sum_us
            ),
            (1, 1, 30_000_000)
        );
    }
}
