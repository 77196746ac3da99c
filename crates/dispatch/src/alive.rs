//! Until when the other dispatchers believe that this one lives, and which of its lives it lives.
//!
//! What is claimed is ours while they believe that. Where a heartbeat was late they may have taken
//! all of it: with the next heartbeat another life begins, to which nothing of it belongs.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::locks::Lock;

/// The life of a dispatcher, as others know of it.
#[derive(Debug)]
pub(crate) struct Alive {
    /// Until when they believe in it, by its last heartbeat.
    until: Lock<Option<Instant>>,
    /// Number of this life among those of the dispatcher.
    life: AtomicU64,
}

impl Default for Alive {
    fn default() -> Self {
        Self {
            until: Lock::new("alive", None),
            life: AtomicU64::new(0),
        }
    }
}

impl Alive {
    /// A heartbeat that was begun at `now` is stored: they believe in it until then. Another life
    /// has begun where they may not have done so before.
    pub(crate) fn beat(&self, now: Instant, until: Instant) {
        let before = self.until.lock().replace(until);
        if before.is_none_or(|before| before < now) {
            self.life.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether what we have claimed is still ours; else others may be at it.
    pub(crate) fn is_believed(&self) -> bool {
        let until = *self.until.lock();
        until.is_some_and(|until| Instant::now() <= until)
    }

    /// Number of the life that is lived now.
    pub(crate) fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_heartbeat_that_is_late_begins_another_life() {
        let (alive, second) = (Alive::default(), Duration::from_secs(1));
        assert_eq!((alive.is_believed(), alive.life()), (false, 0));
        let now = Instant::now();
        alive.beat(now, now + 100 * second);
        assert_eq!((alive.is_believed(), alive.life()), (true, 1));
        alive.beat(now + 100 * second, now + 200 * second);
        assert_eq!(alive.life(), 1);
        alive.beat(now + 201 * second, now + 300 * second);
        assert_eq!((alive.is_believed(), alive.life()), (true, 2));
    }
}
