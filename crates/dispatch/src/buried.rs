//! Which records that are no notifications were met, and how many of them become dead letters, and
//! are logged: so many of each minute.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use dovecast_log::LineLimit;

use crate::ledger::RecordPlace;
use crate::locks::Lock;

/// Records of a minute that become dead letters: who sends nonsense fills no database with it.
const KEPT_A_MINUTE: u32 = 10_000;
/// Time after which as many records again may become dead letters.
const MINUTE: Duration = Duration::from_mins(1);
/// Places of records that are remembered: each endpoint that owes a range may meet them once more.
const PLACES: usize = 10_000;

/// How many records of this minute have become dead letters, and which were met at all.
#[derive(Debug)]
pub(crate) struct Buried {
    kept: Lock<(Option<Instant>, u32)>,
    met: Lock<HashSet<RecordPlace>>,
    /// About records that become no dead letter.
    lines: LineLimit,
}

impl Default for Buried {
    fn default() -> Self {
        Self {
            kept: Lock::new("buried", (None, 0)),
            met: Lock::new("met", HashSet::new()),
            lines: LineLimit::default(),
        }
    }
}

impl Buried {
    /// Whether one more may become a dead letter.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let mut state = self.kept.lock();
        let (since, count) = &mut *state;
        if since.is_none_or(|since| now.saturating_duration_since(since) >= MINUTE) {
            (*since, *count) = (Some(now), 0);
        }
        *count = count.saturating_add(1);
        *count <= KEPT_A_MINUTE
    }

    /// How many records that become no dead letter were not logged, if one is to be logged now.
    pub(crate) fn take_line(&self) -> Option<u64> {
        self.lines.take_counted()
    }

    /// A record is met; `true`: for the first time, as far as is remembered. When there are very
    /// many, those before are forgotten.
    pub(crate) fn meet(&self, place: RecordPlace) -> bool {
        let mut met = self.met.lock();
        if met.len() >= PLACES {
            met.clear();
        }
        met.insert(place)
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
