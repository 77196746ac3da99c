//! The workers of a lane: how many there are, and which of them sleep.
//!
//! A worker is counted by its permit from the moment at which it is called, before its task begins.
//! Whatever drops the permit on the way, because of a panic, gives it back: so it is no value under
//! the lane's lock, which may be held then.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::permits::{Permit, Permits};

/// Workers of a lane.
#[derive(Debug, Default)]
pub(super) struct Workers {
    permits: Permits,
    /// Workers that have nothing to do.
    sleepers: Vec<Arc<Notify>>,
}

impl Workers {
    /// Has so many more deliveries taken care of by no more than `most` workers: wakes those that
    /// sleep, and gives a permit for each that is to be hired.
    pub(super) fn call(&mut self, deliveries: usize, most: usize) -> Vec<Permit> {
        let mut permits = Vec::new();
        for _ in 0..deliveries {
            if !self.wake() && self.count() < most {
                permits.push(self.permits.take());
            }
        }
        permits
    }

    /// How many there are, those included that are about to be hired.
    pub(super) fn count(&self) -> usize {
        self.permits.count()
    }

    /// A worker has nothing to do: it is woken by `sleeper`.
    pub(super) fn sleep(&mut self, sleeper: &Arc<Notify>) {
        self.sleepers.push(Arc::clone(sleeper));
    }

    /// Wakes a worker; `false`: none sleeps.
    fn wake(&mut self) -> bool {
        let sleeper = self.sleepers.pop();
        if let Some(sleeper) = &sleeper {
            sleeper.notify_one();
        }
        sleeper.is_some()
    }

    /// A worker that sleeps ends, and gives its permit back before another one is called; `false`:
    /// it was woken just now.
    pub(super) fn sign_off(&mut self, sleeper: &Arc<Notify>, permit: &mut Option<Permit>) -> bool {
        let mut sleepers = self.sleepers.iter();
        let place = sleepers.position(|other| Arc::ptr_eq(other, sleeper));
        if let Some(place) = place {
            self.sleepers.swap_remove(place);
            *permit = None;
        }
        place.is_some()
    }

    /// A worker has panicked: it does not sleep.
    pub(super) fn forget_sleeper(&mut self, sleeper: &Arc<Notify>) {
        self.sleepers.retain(|other| !Arc::ptr_eq(other, sleeper));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_is_not_hired_after_all_is_counted_no_more() {
        let mut workers = Workers::default();
        let permits = workers.call(3, 2);
        assert_eq!((permits.len(), workers.count()), (2, 2));
        assert!(workers.call(1, 2).is_empty());
        drop(permits);
        assert_eq!(workers.count(), 0);
        assert_eq!(workers.call(1, 2).len(), 1);
    }

    #[test]
    fn who_sleeps_is_woken_and_signs_off_only_as_long_as_it_sleeps() {
        let mut workers = Workers::default();
        let mut permit = workers.call(1, 1).pop();
        let sleeper = Arc::new(Notify::new());
        workers.sleep(&sleeper);
        assert!(workers.call(1, 1).is_empty());
        assert!(!workers.sign_off(&sleeper, &mut permit) && workers.count() == 1);
        workers.sleep(&sleeper);
        assert!(workers.sign_off(&sleeper, &mut permit) && workers.count() == 0);
        assert_eq!(workers.call(1, 1).len(), 1);
    }
}
