//! Turns of streams that read what they have missed: few read the log at a time, and fewer of one
//! person, so that nobody keeps others from catching up. While a client is waited for another
//! reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Streams that read the log at the same time, on one node.
const READING: usize = 8;
/// Streams on one node that have begun to catch up, those included whose clients are waited for:
/// each holds a reader of the log.
const BEGUN: usize = 32;
/// Streams of one person that have: those of a phone and of a window.
const BEGUN_OF_PERSON: usize = 2;

/// How long a stream reads until others have their turn before it goes on.
const READ_AT_A_TIME: Duration = Duration::from_secs(1);

/// All turns of a node.
#[derive(Clone)]
pub(super) struct Turns {
    begun: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

/// Turns of one person.
#[derive(Clone)]
pub(super) struct TurnsOfPerson(Arc<Semaphore>);

/// A turn; the next one has it when it is dropped.
pub(super) struct Turn {
    _of_person: Option<OwnedSemaphorePermit>,
    _begun: Option<OwnedSemaphorePermit>,
    all_reading: Arc<Semaphore>,
    reading: Option<OwnedSemaphorePermit>,
    /// Since when it reads.
    since: Instant,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            begun: Arc::new(Semaphore::new(BEGUN)),
            reading: Arc::new(Semaphore::new(READING)),
        }
    }
}

impl Default for TurnsOfPerson {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BEGUN_OF_PERSON)))
    }
}

impl Turns {
    /// Waits for a turn: first among those of the person, so that many of them hold no one else's.
    pub(super) async fn take(&self, of_person: &TurnsOfPerson) -> Turn {
        Turn {
            _of_person: permit(&of_person.0).await,
            _begun: permit(&self.begun).await,
            all_reading: Arc::clone(&self.reading),
            reading: permit(&self.reading).await,
            since: Instant::now(),
        }
    }
}

impl Turn {
    /// Lets another read until something has come.
    pub(super) async fn aside<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        self.reading = None;
        let come = waiting.await;
        self.reading = permit(&self.all_reading).await;
        self.since = Instant::now();
        come
    }

    /// Lets those read who wait for it, if this one has read for long: permits are given in the
    /// order in which they are asked for.
    pub(super) async fn share(&mut self) {
        if self.since.elapsed() >= READ_AT_A_TIME {
            self.aside(async {}).await;
        }
    }
}

async fn permit(of: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    // No semaphore of these is ever closed.
    Arc::clone(of).acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_read_for_long_lets_another_read() {
        let turns = Turns::default();
        let mut all = Vec::new();
        for _ in 0..READING {
            all.push(turns.take(&TurnsOfPerson::default()).await);
        }
        let next = async { drop(turns.take(&TurnsOfPerson::default()).await) };
        tokio::pin!(next);
        let first = &mut all[0];
        first.since += READ_AT_A_TIME;
        tokio::select! {
            biased;
            () = &mut next => unreachable!("nobody has read for long"),
            () = first.share() => {}
        }
        first.since = Instant::now() - READ_AT_A_TIME;
        tokio::join!(next, first.share());
        assert!(first.reading.is_some());
    }
}
