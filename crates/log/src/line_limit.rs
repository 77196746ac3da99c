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

#[derive(Debug)]
struct State {
    since: Option<Instant>,
    taken: u32,
    /// Since the last line that was logged.
    withheld: u64,
}

impl Default for LineLimit {
    /// One line a minute.
    fn default() -> Self {
        Self::a_minute(1)
    }
}

impl LineLimit {
    /// A number of lines a minute.
    pub const fn a_minute(lines: u32) -> Self {
        Self::new(lines, INTERVAL)
    }

    const fn new(lines: u32, time: Duration) -> Self {
        Self {
            lines,
            time,
            state: Mutex::new(State {
                since: None,
                taken: 0,
                withheld: 0,
            }),
        }
    }

    /// Whether one more may be logged now.
    pub fn take(&self) -> bool {
        self.take_counted().is_some()
    }

    /// The number of lines that were withheld since the last one, if one more may be logged now.
    pub fn take_counted(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| since.elapsed() >= self.time) {
            state.since = Some(Instant::now());
            state.taken = 0;
        }
        if state.taken < self.lines {
            state.taken += 1;
            return Some(std::mem::take(&mut state.withheld));
        }
        state.withheld += 1;
        None
    }

    /// What was logged is over: the next line may be logged at once.
    pub fn reset(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.since, state.withheld) = (None, 0);
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

    #[test]
    fn lines_that_are_withheld_are_counted_until_the_next() {
        let limit = LineLimit::a_minute(1);
        assert_eq!(
            [(); 3].map(|()| limit.take_counted()),
            [Some(0), None, None]
        );
        // As if the minute were over.
        limit.state.lock().expect("not poisoned").since = None;
        assert_eq!([(); 2].map(|()| limit.take_counted()), [Some(2), None]);
        limit.reset();
        assert_eq!(limit.take_counted(), Some(0));
    }
}
