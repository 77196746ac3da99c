//! Lines about what may happen very often: logged once a minute, with how often it has happened
//! since.

use std::time::{Duration, Instant};

use crate::locks::Lock;

/// How long until the next line.
const INTERVAL: Duration = Duration::from_mins(1);

/// When something was last logged, and how often it has happened since.
#[derive(Debug)]
pub(crate) struct Told(Lock<(Option<Instant>, u64)>);

impl Default for Told {
    fn default() -> Self {
        Self(Lock::new("told", (None, 0)))
    }
}

impl Told {
    /// Whether it is to be logged now: how often it was not since the last time.
    pub(crate) fn tell(&self) -> Option<u64> {
        let mut told = self.0.lock();
        let (last, untold) = &mut *told;
        if last.is_some_and(|last| last.elapsed() < INTERVAL) {
            *untold += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(untold))
    }
}
