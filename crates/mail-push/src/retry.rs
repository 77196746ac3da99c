//! When a push that failed is due again, and when it is given up.

use std::time::Duration;

/// Longest time that a push waits to be accepted: who reads mail later opens the mailbox anyway.
pub const DEADLINE: Duration = Duration::from_hours(5);
/// How long a push counts as shown after its service has accepted it: until then it can be closed.
pub const SHOWN: Duration = Duration::from_hours(24);

/// Delays after the first failures, in seconds.
const FIRST: [u64; 6] = [10, 30, 60, 5 * 60, 15 * 60, 30 * 60];
/// The delay after each further failure.
const THEN: Duration = Duration::from_hours(1);

/// The delay after the `failures`-th failure, from 1. A service that names a later time is believed
/// instead, see [`due_after`].
pub fn delay(failures: u32) -> Duration {
    let place = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    FIRST
        .get(place)
        .map_or(THEN, |seconds| Duration::from_secs(*seconds))
}

/// How long a failed push waits: the delay, or what the service has asked for if that is longer.
pub fn due_after(failures: u32, retry_after: Option<Duration>) -> Duration {
    delay(failures).max(retry_after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_retried_less_and_less_often() {
        let seconds: Vec<u64> = (0..9).map(|failures| delay(failures).as_secs()).collect();
        assert_eq!(seconds, [10, 10, 30, 60, 300, 900, 1800, 3600, 3600]);
        assert_eq!(delay(u32::MAX), THEN);
    }

    #[test]
    fn a_service_may_ask_for_more_time_and_not_for_less() {
        for (asked, expected) in [(None, 10), (Some(1), 10), (Some(120), 120)] {
            let waits = due_after(1, asked.map(Duration::from_secs));
            assert_eq!(waits.as_secs(), expected, "{asked:?}");
        }
    }
}
