//! Lines of the server's own log that others can cause, or that repeat: so many in a time, once a
//! minute where nothing else is said.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long until what repeats is logged again.
const INTERVAL: Duration = Duration::from_mins(1);

/// A bound on the lines about one subject.
#[derive(Debug)]
pub struct LineLimit {
    lines: u32,
    time: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    taken: u32,
}

impl Default for LineLimit {
    /// One line a minute.
    fn default() -> Self {
        Self::a_minute(1)
    }
}

impl LineLimit {
    /// A number of lines a minute.
    pub fn a_minute(lines: u32) -> Self {
        Self::new(lines, INTERVAL)
    }

    fn new(lines: u32, time: Duration) -> Self {
        Self {
            lines,
            time,
            state: Mutex::default(),
        }
    }

    /// Whether one more may be logged now.
    pub fn take(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| since.elapsed() >= self.time) {
            *state = State {
                since: Some(Instant::now()),
                taken: 0,
            };
        }
        state.taken = state.taken.saturating_add(1);
        state.taken <= self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_are_logged_and_no_more() {
        let limit = LineLimit::a_minute(2);
        assert_eq!([(); 4].map(|()| limit.take()), [true, true, false, false]);
        let limit = LineLimit::default();
        assert_eq!([(); 2].map(|()| limit.take()), [true, false]);
        let limit = LineLimit::new(1, Duration::ZERO);
        assert_eq!([(); 2].map(|()| limit.take()), [true, true]);
    }
}
