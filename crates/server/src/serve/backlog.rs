//! What endpoints owe, for metrics: counted now and then, however often somebody asks, and the more
//! seldom the longer it takes.
//!
//! Counting reads an entry of an index for each delivery that is owed, of which there may be a
//! million. Labels are bounded: an installation may have a hundred thousand endpoints.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dovecast_store::{EndpointId, OwedCount, Store};
use tokio::sync::Mutex;

/// An answer is as good for so long: backlogs change by the minute.
const KEPT: Duration = Duration::from_secs(10);
/// A store that takes longer does not say it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Counting takes one part of the time in so many, whether it comes to an end or not.
const PART: u32 = 50;
/// Most endpoints that are named: those that owe most.
const NAMED: usize = 50;

/// What endpoints owe.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) deliveries: u64,
    pub(crate) ranges: u64,
    /// Endpoints with the deliveries that they owe, the most first.
    pub(crate) largest: Vec<(EndpointId, u64)>,
}

/// A store, and what it said last.
pub(super) struct Backlogs {
    store: Store,
    last: Mutex<Option<Counted>>,
}

/// What was counted.
struct Counted {
    at: Instant,
    /// How long it took.
    took: Duration,
    /// `None`: the store did not say it in time.
    backlog: Option<Backlog>,
}

impl Counted {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.at) < KEPT.max(self.took * PART)
    }
}

impl Backlogs {
    pub(super) fn new(store: Store) -> Self {
        let last = Mutex::new(None);
        Self { store, last }
    }

    /// What is owed; `None`: the store does not say it in time.
    pub(super) async fn ask(&self) -> Option<Backlog> {
        let mut last = self.last.lock().await;
        if let Some(counted) = &*last
            && counted.is_fresh(Instant::now())
        {
            return counted.backlog.clone();
        }
        let begin = Instant::now();
        let counting = tokio::time::timeout(TIMEOUT, self.store.owed_counts());
        let counts = counting.await.ok().and_then(Result::ok);
        let backlog = counts.map(Backlog::of);
        *last = Some(Counted {
            at: Instant::now(),
            took: begin.elapsed(),
            backlog: backlog.clone(),
        });
        backlog
    }
}

impl Backlog {
    fn of(counts: BTreeMap<EndpointId, OwedCount>) -> Self {
        let mut backlog = Backlog::default();
        for (endpoint, owed) in counts {
            backlog.deliveries += owed.deliveries;
            backlog.ranges += owed.ranges;
            if owed.deliveries > 0 {
                backlog.largest.push((endpoint, owed.deliveries));
            }
        }
        backlog
            .largest
            .sort_by_key(|(_, owed)| std::cmp::Reverse(*owed));
        backlog.largest.truncate(NAMED);
        backlog
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_counted_seldom_also_where_it_fails() {
        let begin = Instant::now();
        for (took_ms, kept_s) in [(0, 10), (100, 10), (1_000, 50), (2_000, 100)] {
            let counted = Counted {
                at: begin,
                took: Duration::from_millis(took_ms),
                backlog: None,
            };
            let after_ms = |ms| begin + Duration::from_millis(ms);
            assert!(counted.is_fresh(after_ms(kept_s * 1_000 - 1)));
            assert!(!counted.is_fresh(after_ms(kept_s * 1_000)), "{took_ms} ms");
        }
    }

    #[test]
    fn those_that_owe_most_are_named() {
        let id = |number| EndpointId(uuid::Uuid::from_u128(number));
        let owed = |number: u128| OwedCount {
            deliveries: u64::try_from(number).unwrap_or_default(),
            ranges: 1,
        };
        let backlog = Backlog::of((0..60).map(|number| (id(number), owed(number))).collect());
        assert_eq!((backlog.deliveries, backlog.ranges), (1_770, 60));
        assert_eq!(backlog.largest.len(), NAMED);
        assert_eq!(backlog.largest.first(), Some(&(id(59), 59)));
    }
}
