//! Lines of the log that others can cause: so many in some time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bound on lines about one subject.
pub(super) struct LineLimit {
    lines: u32,
    time: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    taken: u32,
}

impl LineLimit {
    pub(super) fn new(lines: u32, time: Duration) -> Self {
        Self {
            lines,
            time,
            state: Mutex::default(),
        }
    }

    /// Whether one more may be logged now.
    pub(super) fn take(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| since.elapsed() >= self.time) {
            *state = State {
                since: Some(Instant::now()),
                taken: 0,
            };
        }
        state.taken += 1;
        state.taken <= self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_are_logged_and_no_more() {
        let limit = LineLimit::new(2, Duration::from_hours(1));
        assert_eq!([(); 4].map(|()| limit.take()), [true, true, false, false]);
        let limit = LineLimit::new(1, Duration::ZERO);
        assert_eq!([(); 2].map(|()| limit.take()), [true, true]);
    }
}
