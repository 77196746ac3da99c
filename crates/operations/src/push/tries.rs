//! Tries to log in, bounded within a minute for each login and each address.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time in which tries are counted.
const WINDOW: Duration = Duration::from_mins(1);
/// Most names of whom tries are counted; with more, those of whom least is known are forgotten,
/// which bounds memory under a flood of names. Addresses are counted apart from logins.
const MAX_NAMES: usize = 50_000;

/// Tries within the minute, by name.
pub(super) struct Tries {
    most: u64,
    windows: Mutex<HashMap<Box<str>, (Instant, u64)>>,
}

impl Tries {
    pub(super) fn new(most: u64) -> Self {
        Self {
            most,
            windows: Mutex::default(),
        }
    }

    /// Counts a try; refused with the time after which the next one is taken.
    pub(super) fn take(&self, name: &str, now: Instant) -> Result<(), Duration> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_NAMES && !windows.contains_key(name) {
            windows.retain(|_, (begun, _)| now.saturating_duration_since(*begun) < WINDOW);
            if windows.len() >= MAX_NAMES {
                windows.retain(|_, (_, count)| *count > 1);
            }
            if windows.len() >= MAX_NAMES {
                windows.clear();
            }
        }
        let window = windows.entry(name.into()).or_insert((now, 0));
        if now.saturating_duration_since(window.0) >= WINDOW {
            *window = (now, 0);
        }
        if window.1 >= self.most {
            return Err(WINDOW.saturating_sub(now.saturating_duration_since(window.0)));
        }
        window.1 += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_tries_are_taken_within_a_minute_for_each_name() {
        let tries = Tries::new(2);
        let now = Instant::now();
        for _ in 0..2 {
            assert_eq!(tries.take("joe", now), Ok(()));
        }
        let later = now + Duration::from_secs(20);
        assert_eq!(tries.take("joe", later), Err(Duration::from_secs(40)));
        assert_eq!(tries.take("ann", later), Ok(()));
        assert_eq!(tries.take("joe", now + WINDOW), Ok(()));
    }

    #[test]
    fn a_flood_of_names_takes_no_more_memory() {
        let tries = Tries::new(10);
        let now = Instant::now();
        for name in 0..2 * MAX_NAMES {
            assert_eq!(tries.take(&name.to_string(), now), Ok(()));
        }
        let known = tries.windows.lock().expect("a lock").len();
        assert!(known <= MAX_NAMES, "{known}");
    }
}
