//! How many records that are no notifications become dead letters: so many of each minute.

use std::time::{Duration, Instant};

use crate::locks::Lock;

/// Records of a minute that become dead letters: who sends nonsense fills no database with it.
const KEPT_A_MINUTE: u32 = 10_000;
/// The time after which so many may again.
const MINUTE: Duration = Duration::from_mins(1);

/// How many records of this minute have become dead letters.
#[derive(Debug)]
pub(crate) struct Buried(Lock<(Option<Instant>, u32)>);

impl Default for Buried {
    fn default() -> Self {
        Self(Lock::new("buried", (None, 0)))
    }
}

impl Buried {
    /// Whether one more may become a dead letter.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        let (since, count) = &mut *state;
        if since.is_none_or(|since| now.saturating_duration_since(since) >= MINUTE) {
            (*since, *count) = (Some(now), 0);
        }
        *count = count.saturating_add(1);
        *count <= KEPT_A_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_minute_so_many_records_become_dead_letters() {
        let (buried, now) = (Buried::default(), Instant::now());
        for minute in 0..3 {
            let now = now + minute * MINUTE;
            let kept = (0..3 * KEPT_A_MINUTE).filter(|_| buried.take(now));
            assert_eq!(kept.count(), KEPT_A_MINUTE as usize);
            assert!(!buried.take(now + MINUTE / 2));
        }
    }
}
