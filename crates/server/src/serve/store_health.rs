//! Whether the store answers: asked when somebody wants to know, and at most once a second.

use std::time::{Duration, Instant};

use dovecast_store::Store;
use tokio::sync::Mutex;

/// An answer is as good for so long.
const KEPT: Duration = Duration::from_secs(1);
/// A store that takes longer does not answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A store, and what it said last.
pub(super) struct StoreHealth {
    store: Store,
    last: Mutex<Option<Last>>,
}

struct Last {
    asked: Instant,
    answers: bool,
}

impl StoreHealth {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            last: Mutex::new(None),
        }
    }

    /// Whoever asks meanwhile waits for the same answer.
    pub(super) async fn answers(&self) -> bool {
        let mut last = self.last.lock().await;
        if let Some(known) = &*last
            && known.asked.elapsed() < KEPT
        {
            return known.answers;
        }
        let did = last.as_ref().is_none_or(|last| last.answers);
        let asked = tokio::time::timeout(TIMEOUT, self.store.last_change()).await;
        let error = match asked {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!("{:#}", anyhow::Error::from(error))),
            Err(_) => Some(format!("no answer within {} s", TIMEOUT.as_secs())),
        };
        match &error {
            Some(error) if did => tracing::warn!(error, "the store does not answer"),
            None if !did => tracing::info!("the store answers again"),
            _ => {}
        }
        *last = Some(Last {
            asked: Instant::now(),
            answers: error.is_none(),
        });
        error.is_none()
    }
}
