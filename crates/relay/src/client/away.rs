//! How long a client stays away from a relay that has not welcomed it.

use std::time::{Duration, Instant};

/// How long after a failed attempt the next one is made: at first, and at most.
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(250);
pub(super) const RETRY_SLOWEST: Duration = Duration::from_secs(30);
/// How long after a relay has turned it away a process that has something to send makes the next
/// attempt.
pub(super) const RETRY_BUSY: Duration = Duration::from_millis(500);

/// A time without a relay.
pub(super) struct Away {
    /// When the timer tries again.
    until: Instant,
    delay: Duration,
    /// When the last attempt was made.
    tried: Instant,
    /// Whether nobody listened: that costs a few microseconds to find out.
    is_deserted: bool,
}

impl Away {
    /// From now on, after an attempt.
    pub(super) fn of(delay: Duration) -> Self {
        let now = Instant::now();
        Self {
            until: now + delay,
            delay,
            tried: now,
            is_deserted: false,
        }
    }

    /// A time without a relay that begins where nobody listened.
    pub(super) fn deserted(self) -> Self {
        Self {
            is_deserted: true,
            ..self
        }
    }

    /// Whether the next attempt is due.
    ///
    /// What is spilled beside a relay that is back is behind what other processes send it of the
    /// same users. So whoever has something to send looks each time whether somebody listens, and
    /// tries again soon with one who turns it away.
    pub(super) fn is_due(&self, has_something_to_send: bool) -> bool {
        let is_worth_it =
            self.is_deserted || self.delay < RETRY_SLOWEST && self.tried.elapsed() >= RETRY_BUSY;
        Instant::now() >= self.until || is_worth_it && has_something_to_send
    }

    /// Whether nobody listened the last time, and the timer has not run off since.
    pub(super) fn is_deserted(&self) -> bool {
        self.is_deserted && Instant::now() < self.until
    }

    /// How long until the timer tries again.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// The delay after one more attempt that no relay has welcomed.
pub(super) fn next_delay(last: Option<Duration>) -> Duration {
    last.map_or(RETRY_FIRST, |last| (last * 2).min(RETRY_SLOWEST))
}
