//! Whether something takes writes: one is made when somebody wants to know, and at most once a
//! second, however many ask.
//!
//! A write that is not answered is not broken off, which would leave a connection in the middle of
//! it: it ends by a limit of its own, and until then no other one is begun.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// An answer is as good for so long.
const KEPT: Duration = Duration::from_secs(1);
/// What takes longer takes no writes.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a write has come to: an error says why.
pub(super) type Written = Result<(), String>;

/// What is asked, and what it said last.
pub(super) struct Probe {
    /// As log lines name it.
    name: &'static str,
    state: Mutex<State>,
}

struct State {
    asked: Option<Instant>,
    takes_writes: bool,
    /// A write that has not ended.
    open: Option<JoinHandle<Written>>,
}

impl Probe {
    pub(super) fn new(name: &'static str) -> Self {
        let state = State {
            asked: None,
            takes_writes: true,
            open: None,
        };
        Self {
            name,
            state: Mutex::new(state),
        }
    }

    /// Whether it takes writes: `write` makes one, if it is run. Whoever asks meanwhile waits for
    /// the same answer.
    pub(super) async fn takes_writes<F>(&self, write: F) -> bool
    where
        F: Future<Output = Written> + Send + 'static,
    {
        let mut state = self.state.lock().await;
        if state.asked.is_none_or(|asked| asked.elapsed() >= KEPT) {
            let error = ask(&mut state.open, write).await.err();
            match &error {
                Some(error) if state.takes_writes => {
                    tracing::warn!(error, "{} takes no writes", self.name);
                }
                None if !state.takes_writes => tracing::info!("{} takes writes again", self.name),
                _ => {}
            }
            state.takes_writes = error.is_none();
            state.asked = Some(Instant::now());
        }
        state.takes_writes
    }
}

async fn ask<F>(open: &mut Option<JoinHandle<Written>>, write: F) -> Written
where
    F: Future<Output = Written> + Send + 'static,
{
    let asking = open.get_or_insert_with(|| tokio::spawn(write));
    let Ok(answered) = tokio::time::timeout(TIMEOUT, asking).await else {
        return Err(format!("no answer within {} s", TIMEOUT.as_secs()));
    };
    *open = None;
    answered.unwrap_or_else(|error| Err(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_write_is_made_a_second_and_none_while_one_is_open() {
        let (probe, writes) = (Probe::new("it"), Arc::<AtomicU64>::default());
        let room = Arc::new(Semaphore::new(3));
        let ask = async || {
            let (writes, room) = (Arc::clone(&writes), Arc::clone(&room));
            let write = async move {
                writes.fetch_add(1, Ordering::Relaxed);
                room.acquire().await.expect("it is open").forget();
                Ok(())
            };
            probe.takes_writes(write).await
        };
        for _ in 0..100 {
            assert!(ask().await);
        }
        assert_eq!(writes.load(Ordering::Relaxed), 1);
        tokio::time::advance(KEPT).await;
        assert!(ask().await);
        assert_eq!(writes.load(Ordering::Relaxed), 2);
        room.forget_permits(1);
        for _ in 0..5 {
            tokio::time::advance(KEPT).await;
            assert!(!ask().await);
        }
        assert_eq!(writes.load(Ordering::Relaxed), 3);
        room.add_permits(1);
        tokio::time::advance(KEPT).await;
        assert!(ask().await);
        assert_eq!(writes.load(Ordering::Relaxed), 3);
    }
}
