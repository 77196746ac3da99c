//! What endpoints owe, for metrics: counted now and then, however often somebody asks.
//!
//! Counting reads an entry of an index for each delivery that is owed, of which there may be a
//! million. Labels are bounded: an installation may have a hundred thousand endpoints.

use std::time::{Duration, Instant};

use dovecast_store::{EndpointId, Store};
use tokio::sync::Mutex;

/// An answer is as good for so long: backlogs change by the minute.
const KEPT: Duration = Duration::from_secs(10);
/// A store that takes longer is asked again when the next one asks.
const TIMEOUT: Duration = Duration::from_secs(2);
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
    last: Mutex<Option<(Instant, Backlog)>>,
}

impl Backlogs {
    pub(super) fn new(store: Store) -> Self {
        let last = Mutex::new(None);
        Self { store, last }
    }

    /// What is owed; `None`: the store does not say it in time.
    pub(super) async fn ask(&self) -> Option<Backlog> {
        let mut last = self.last.lock().await;
        if let Some((asked, backlog)) = &*last
            && asked.elapsed() < KEPT
        {
            return Some(backlog.clone());
        }
        let counting = tokio::time::timeout(TIMEOUT, self.store.owed_counts());
        let counts = counting.await.ok()?.ok()?;
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
        *last = Some((Instant::now(), backlog.clone()));
        Some(backlog)
    }
}
