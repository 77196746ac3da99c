//! Whether the store takes writes: one row is written when somebody wants to know, and at most once
//! a second, however many ask.
//!
//! A write that is not answered is not broken off, which would leave a connection in the middle of
//! it: it ends by the store's own limit, and until then no other one is begun.

use std::time::{Duration, Instant};

use dovecast_store::{Result, Store, Trimmed};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// An answer is as good for so long.
const KEPT: Duration = Duration::from_secs(1);
/// A store that takes longer takes no writes.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A store, and what it said last.
pub(super) struct StoreHealth {
    store: Store,
    state: Mutex<State>,
}

struct State {
    asked: Option<Instant>,
    takes_writes: bool,
    /// A write that has not ended.
    open: Option<JoinHandle<Result<()>>>,
}

impl StoreHealth {
    pub(super) fn new(store: Store) -> Self {
        let state = State {
            asked: None,
            takes_writes: true,
            open: None,
        };
        Self {
            store,
            state: Mutex::new(state),
        }
    }

    /// Statements that this process has sent to the store.
    pub(super) fn statements(&self) -> u64 {
        self.store.statements()
    }

    /// What was removed because its account had too much of it.
    pub(super) fn trimmed(&self) -> Trimmed {
        self.store.trimmed()
    }

    /// Whoever asks meanwhile waits for the same answer.
    pub(super) async fn takes_writes(&self) -> bool {
        let mut state = self.state.lock().await;
        if state.asked.is_none_or(|asked| asked.elapsed() >= KEPT) {
            let error = self.ask(&mut state.open).await;
            match &error {
                Some(error) if state.takes_writes => {
                    tracing::warn!(error, "the store takes no writes");
                }
                None if !state.takes_writes => tracing::info!("the store takes writes again"),
                _ => {}
            }
            state.takes_writes = error.is_none();
            state.asked = Some(Instant::now());
        }
        state.takes_writes
    }

    /// What is wrong.
    async fn ask(&self, open: &mut Option<JoinHandle<Result<()>>>) -> Option<String> {
        let asking = open.get_or_insert_with(|| {
            let store = self.store.clone();
            tokio::spawn(async move { store.check_writable().await })
        });
        let Ok(answered) = tokio::time::timeout(TIMEOUT, asking).await else {
            return Some(format!("no answer within {} s", TIMEOUT.as_secs()));
        };
        *open = None;
        match answered {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{:#}", anyhow::Error::from(error))),
            Err(error) => Some(error.to_string()),
        }
    }
}
