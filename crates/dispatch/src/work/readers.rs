//! Readers of ranges: each may be a connection with its buffers, so there are only so many, and they go round among those who
//! catch up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a reader is kept that others wait for.
const SLICE: Duration = Duration::from_millis(500);

/// How many may be open, and who waits for one.
#[derive(Debug)]
pub(super) struct Readers {
    most: usize,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A place for an open reader. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Readers {
    pub(super) fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            most,
            places: Arc::new(Semaphore::new(most)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.most.saturating_sub(self.places.available_permits())
    }

    /// Whether somebody waits for one.
    pub(super) fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// A place, if there is one now.
    pub(super) fn try_take(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place::new(permit))
    }

    /// Waits for a place; whoever does must hold none. `None` does not happen: the semaphore is never closed.
    pub(super) async fn take(&self) -> Option<Place> {
        let _waiting = Waiting::new(&self.waiting);
        let permit = Arc::clone(&self.places).acquire_owned().await.ok()?;
        Some(Place::new(permit))
    }
}

impl Place {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self {
            since: Instant::now(),
            _permit: permit,
        }
    }

    /// Whether it is another one's turn, where others wait.
    pub(super) fn is_over(&self) -> bool {
        self.is_older_than(SLICE)
    }

    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        self.since.elapsed() > age
    }
}

/// Counts as waiting until it is dropped, whoever drops it.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
