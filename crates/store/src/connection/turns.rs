//! The turns of those who write to a file of SQLite, which takes one at a time.
//!
//! SQLite itself has no queue: who finds the file locked tries again after a while, and whoever
//! comes meanwhile is faster. So all who write in this process wait here, whether they write in a
//! transaction or a single statement. There are several lines, by what is written; of each the
//! first waits for the turn, and of these whoever came first has it. So deliveries go on however
//! many change what is configured, and the other way round. A turn is taken before a connection is:
//! else those who wait could have all connections, and who has the turn none.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Longest wait for a turn.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The turn of one writer, until it is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

/// The lines. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    turn: Arc<Semaphore>,
    usual: Arc<Semaphore>,
    deliveries: Arc<Semaphore>,
    life: Arc<Semaphore>,
}

/// Where a writer waits: when it is the first of its line, it has the turn after who has it now and
/// at most one of each other line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// What is asked for by somebody, or is in no hurry.
    Usual,
    /// What happens to deliveries.
    Deliveries,
    /// That this process lives: a late word is worth nothing.
    Life,
}

impl Turns {
    pub(super) fn new() -> Self {
        let line = || Arc::new(Semaphore::new(1));
        Self {
            turn: line(),
            usual: line(),
            deliveries: line(),
            life: line(),
        }
    }

    /// Waits for a turn. Who has waited for [`LONGEST_WAIT`] goes on without one, and waits for the
    /// lock of the file.
    pub(super) async fn take(&self, line: Line) -> Option<Turn> {
        let turn = async {
            let line = match line {
                Line::Usual => &self.usual,
                Line::Deliveries => &self.deliveries,
                Line::Life => &self.life,
            };
            let _first = line.acquire().await.ok()?;
            Arc::clone(&self.turn).acquire_owned().await.ok()
        };
        tokio::time::timeout(LONGEST_WAIT, turn).await.ok()?
    }
}
