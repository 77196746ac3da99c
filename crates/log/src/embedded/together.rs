//! Appends of several tasks that are about to come, as one commit: as soon as the writer has
//! something to commit it waits for them, until the last one has come or their time is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Embedded;
use crate::{Appended, LogError, NewRecord};

impl Embedded {
    /// Begins appends that are about to come from several tasks, and waits for one commit of them,
    /// for `limit` at most. What else is appended meanwhile is in it, too.
    pub fn together(&self, limit: Duration) -> Together {
        self.handle.shared.gathering.open(limit)
    }

    /// Appends records in one commit with those of others. They are durable when this returns, as
    /// with [`Log::append`](crate::Log::append).
    pub async fn append_together(
        &self,
        records: Vec<NewRecord>,
        together: Arc<Together>,
    ) -> Result<Appended, LogError> {
        self.send_append(records, None, Some(together)).await
    }
}

/// Appends that are about to come, as one commit: the writer waits until the last owner of this has
/// appended and dropped it, or until its time is over.
#[derive(Debug)]
pub struct Together {
    gathering: Arc<Gathering>,
    number: u64,
}

impl Drop for Together {
    fn drop(&mut self) {
        self.gathering.close(self.number);
    }
}

/// Which appends the writer waits for.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    latest: Mutex<Latest>,
    closed: Notify,
}

/// The appends that come together next; those before them are waited for no more.
#[derive(Debug, Default)]
struct Latest {
    number: u64,
    /// `None`: all have come.
    until: Option<Instant>,
}

impl Gathering {
    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(self: &Arc<Self>, limit: Duration) -> Together {
        let mut latest = self.latest();
        latest.number += 1;
        latest.until = Some(Instant::now() + limit);
        Together {
            gathering: Arc::clone(self),
            number: latest.number,
        }
    }

    fn close(&self, number: u64) {
        let mut latest = self.latest();
        if latest.number == number {
            latest.until = None;
            drop(latest);
            self.closed.notify_one();
        }
    }

    /// Waits until one is closed; at once if one was since this was waited for last.
    pub(super) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Until when those are waited for that come together next; `None`: all have come.
    pub(super) fn until(&self) -> Option<Instant> {
        self.latest().until
    }
}
