//! When a consumer that has failed for good is replaced: each time later, until one has lived for a
//! while.
//!
//! Two members with one `group.instance.id` replace each other, and each reads some records
//! meanwhile: so that a consumer reads does not mean that it stays.

use std::time::{Duration, Instant};

/// How long until a consumer that has failed for good is replaced: at first, and at most.
const FIRST: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_mins(1);
/// How long a consumer has to live before the next is made soon: longer than [`SLOWEST`], after
/// which another that replaces it is back.
const SETTLED: Duration = Duration::from_mins(5);

/// The delays of one consumer's replacements.
#[derive(Debug)]
pub(super) struct Renewal {
    delay: Duration,
    made: Instant,
}

impl Renewal {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            delay: FIRST,
            made: now,
        }
    }

    /// The consumer has failed for good.
    pub(super) fn failed(&mut self, now: Instant) {
        if now.saturating_duration_since(self.made) >= SETTLED {
            self.delay = FIRST;
        }
    }

    /// How long to wait before another one is made.
    pub(super) fn next_delay(&mut self) -> Duration {
        let delay = self.delay;
        self.delay = (delay * 2).min(SLOWEST);
        delay
    }

    /// Another one was made.
    pub(super) fn made(&mut self, now: Instant) {
        self.made = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The delays before the replacements of consumers that live for so many seconds each.
    fn check(lived: &[u64], expected: &[u64]) {
        let mut now = Instant::now();
        let mut renewal = Renewal::new(now);
        let mut delays = Vec::new();
        for seconds in lived {
            now += Duration::from_secs(*seconds);
            renewal.failed(now);
            let delay = renewal.next_delay();
            now += delay;
            renewal.made(now);
            delays.push(delay.as_secs());
        }
        assert_eq!(delays, expected, "{lived:?}");
    }

    #[test]
    fn consumers_that_replace_each_other_do_so_ever_more_seldom() {
        check(&[1; 8], &[1, 2, 4, 8, 16, 32, 60, 60]);
        check(&[60; 8], &[1, 2, 4, 8, 16, 32, 60, 60]);
        // One that has lived for a while is replaced soon.
        check(&[1, 1, 1, 300, 1], &[1, 2, 4, 1, 2]);
    }

    #[test]
    fn a_cluster_that_is_away_is_asked_ever_more_seldom_however_long_the_consumer_has_lived() {
        let begin = Instant::now();
        let mut renewal = Renewal::new(begin);
        renewal.failed(begin + SETTLED);
        let delays = [(); 4].map(|()| renewal.next_delay().as_secs());
        assert_eq!(delays, [1, 2, 4, 8]);
    }
}
