//! Attempts that hang: what does not answer within a moment is owed and counts as in flight no more, so that other things are read; how many there may be
//! is bounded here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lane::Lane;
use super::stats::Counters;

/// Attempts that may hang, in all: each is a connection and a body in memory. Well below the open files that the service may have (65536).
const MOST: usize = 4_096;
/// Attempts at one host that may hang, besides one of each endpoint: so no host takes all.
const MOST_OF_HOST: usize = 256;

/// Places of attempts that hang.
#[derive(Debug)]
pub(super) struct Hanging {
    places: Arc<Semaphore>,
    counters: Arc<Counters>,
}

/// A place of an attempt that hangs. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Hangs {
    lane: Arc<Lane>,
    counters: Arc<Counters>,
    _place: OwnedSemaphorePermit,
    _at_host: Option<OwnedSemaphorePermit>,
}

/// Places of a host.
pub(super) fn of_host() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MOST_OF_HOST))
}

impl Hanging {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(MOST)),
            counters: Arc::clone(counters),
        }
    }

    /// A place for an attempt of a lane, if there is one.
    pub(super) fn try_take(
        &self,
        lane: &Arc<Lane>,
        host: Option<&Arc<Semaphore>>,
    ) -> Option<Hangs> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        // Of two workers that come here at a time one is the first.
        let first = lane
            .hanging
            .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
        let at_host = match host {
            Some(host) if first.is_err() => Some(Arc::clone(host).try_acquire_owned().ok()?),
            _ => None,
        };
        if first.is_err() {
            lane.hanging.fetch_add(1, Ordering::AcqRel);
        }
        self.counters.hanging.fetch_add(1, Ordering::AcqRel);
        Some(Hangs {
            lane: Arc::clone(lane),
            counters: Arc::clone(&self.counters),
            _place: place,
            _at_host: at_host,
        })
    }
}

impl Drop for Hangs {
    fn drop(&mut self) {
        self.lane.hanging.fetch_sub(1, Ordering::AcqRel);
        self.counters.hanging.fetch_sub(1, Ordering::AcqRel);
    }
}
