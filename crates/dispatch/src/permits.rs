//! How many there are of something: each is counted by a permit, from before it begins. Whatever
//! drops the permit gives it back, a panic too, and takes no lock for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many permits there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Permits(Arc<AtomicUsize>);

/// Counts one until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Permits);

impl Permits {
    /// One more.
    pub(crate) fn take(&self) -> Permit {
        self.0.fetch_add(1, Ordering::AcqRel);
        Permit(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn is_any(&self) -> bool {
        self.count() > 0
    }
}

impl Permit {
    /// Another one of the same.
    pub(crate) fn another(&self) -> Self {
        self.0.take()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}
