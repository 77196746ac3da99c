//! The turns of those who write to a file of SQLite, which takes one at a time.
//!
//! SQLite itself has no queue: who finds the file locked tries again after a while, and whoever
//! comes meanwhile is faster. So all who write in this process wait here, in the order in which
//! they came, whether they write in a transaction or a single statement; only what says that this
//! process lives goes before the others, for which a late word is worth nothing. A turn is taken
//! before a connection is: else those who wait could have all connections, and who has the turn
//! none.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Longest wait for a turn.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The turn of one writer, until it is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

/// The queue. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    /// Where all wait but those who are in a hurry: of them only the first waits for the turn, so
    /// that who is in a hurry waits for two others at most.
    usual: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hurry {
    /// Nobody waits for it longer than for the others.
    None,
    /// What is worth nothing later.
    Great,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            usual: Arc::new(Semaphore::new(1)),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Waits for a turn. Who has waited for [`LONGEST_WAIT`] goes on without one, and waits for the
    /// lock of the file.
    pub(super) async fn take(&self, hurry: Hurry) -> Option<Turn> {
        let turn = async {
            let _first = match hurry {
                Hurry::None => Some(self.usual.acquire().await.ok()?),
                Hurry::Great => None,
            };
            Arc::clone(&self.turn).acquire_owned().await.ok()
        };
        tokio::time::timeout(LONGEST_WAIT, turn).await.ok()?
    }
}
