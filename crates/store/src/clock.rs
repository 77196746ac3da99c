//! The time: of the wall, as rows hold it, and one that is never set.
//!
//! Whoever sets a machine's clock must not disable, drop or hold up anything by that. So a duration
//! that decides something is measured by the steady clock where one process sees both of its ends,
//! and a time of the wall that lies ahead of now is never waited for. What several nodes wait for
//! is in the time of their database (`deliveries/due_time.rs`): their own clocks differ.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use dovecast_log::now_ms;

/// How far a time may lie ahead of this node's clock and still be believed: clocks of nodes differ,
/// and are set by little all the time. What is further ahead was written before the clock was set
/// back.
pub(crate) const SKEW_MS: i64 = 60_000;

/// Where the time comes from. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Hands>>);

/// Times that a clock for tests shows.
#[derive(Debug)]
struct Hands {
    wall_ms: AtomicI64,
    steady_ms: AtomicI64,
    /// Whether the clock shows the time of the system and so much more; else it stands until it is
    /// moved.
    is_running: bool,
}

impl Clock {
    /// A clock that shows this time until it is moved, for tests of what happens when time passes
    /// or is set. The clock of the database is taken to show the same.
    pub fn standing(wall_ms: i64) -> Self {
        Self::of_hands(wall_ms, false)
    }

    /// The clock of a node that is ahead of the system's by so much, for tests of nodes whose
    /// clocks differ from that of their database.
    pub fn ahead(by_ms: i64) -> Self {
        Self::of_hands(by_ms, true)
    }

    fn of_hands(wall_ms: i64, is_running: bool) -> Self {
        Self(Some(Arc::new(Hands {
            wall_ms: AtomicI64::new(wall_ms),
            steady_ms: AtomicI64::new(0),
            is_running,
        })))
    }

    /// Time passes. The system's clock does so by itself.
    pub fn pass(&self, ms: i64) {
        self.set(ms);
        if let Some(hands) = &self.0 {
            hands.steady_ms.fetch_add(ms, Ordering::AcqRel);
        }
    }

    /// The clock is set, forward or back, and no time passes. The system's clock is not set.
    pub fn set(&self, by_ms: i64) {
        if let Some(hands) = &self.0 {
            hands.wall_ms.fetch_add(by_ms, Ordering::AcqRel);
        }
    }

    /// Milliseconds since 1970, as far as the clock is right.
    pub(crate) fn now_ms(&self) -> i64 {
        match &self.0 {
            Some(hands) if hands.is_running => now_ms() + hands.wall_ms.load(Ordering::Acquire),
            Some(hands) => hands.wall_ms.load(Ordering::Acquire),
            None => now_ms(),
        }
    }

    /// Whether it stands, for the database as well.
    pub(crate) fn is_standing(&self) -> bool {
        self.0.as_ref().is_some_and(|hands| !hands.is_running)
    }

    /// Milliseconds since some moment in the life of this process.
    pub(crate) fn steady_ms(&self) -> i64 {
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        let passed_ms = || i64::try_from(BEGINNING.elapsed().as_millis()).unwrap_or(i64::MAX);
        match &self.0 {
            Some(hands) if hands.is_running => {
                passed_ms() + hands.steady_ms.load(Ordering::Acquire)
            }
            Some(hands) => hands.steady_ms.load(Ordering::Acquire),
            None => passed_ms(),
        }
    }
}
