//! Records that the target never takes: each is named in the log, counted, and, where somebody
//! keeps them, a dead letter.
//!
//! Those of one append are kept together, in one series of tries: their topic is not shipped
//! meanwhile. A store that is away is waited for, as the target is; one that answers and does not
//! keep a record is tried for a while.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dovecast_event::header_name;
use dovecast_log::{LogError, Record, now_ms};

use super::retry::{RETRY_FIRST, RETRY_SLOWEST, Retry};

/// Tries to keep the records of one append where a store answers that it cannot: a minute in all,
/// with the delays of an append.
const KEEP_TRIES: u32 = 16;
/// Records that are kept in one transaction at most, so that none takes long.
const KEEP_RECORDS: usize = 500;

/// A record that the target never takes.
#[derive(Clone, Copy, Debug)]
pub struct Lost<'a> {
    /// As it is in the spool.
    pub record: &'a Record,
    /// Why it is not taken.
    pub reason: &'a str,
}

/// Why records were not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// Nothing can be kept now: it is tried until it can.
    Unavailable(String),
    /// These records are not kept.
    Failed(String),
}

/// What becomes of records that the target never takes; `Err`: none of them was kept, or that is
/// not known.
pub type Kept<'a> = Pin<Box<dyn Future<Output = Result<(), NotKept>> + Send + 'a>>;

/// Keeps records that the target never takes.
pub trait KeepLost: fmt::Debug + Send + Sync + 'static {
    /// Keeps records, all or none. `time_ms`, in milliseconds since the epoch, is when they were
    /// refused: a try that is repeated has the same, so that what was kept before is known. After a
    /// crash they may come again with another.
    fn keep<'a>(&'a self, lost: &'a [Lost<'a>], time_ms: i64) -> Kept<'a>;
}

/// Names the records of an append that are lost, and keeps them. An error only where the shipper is
/// being stopped: they are refused again after the next start.
pub(super) async fn keep(retry: &mut Retry, mut lost: Vec<Lost<'_>>) -> Result<(), LogError> {
    let letters = retry.letters.clone();
    let mut tries = Tries::new();
    while let Some(letters) = letters.as_deref() {
        let failed = tries.keep(retry, letters, &mut lost).await;
        if lost.is_empty() {
            return Ok(());
        }
        if retry.is_stopping() {
            return Err(LogError::Closed);
        }
        if !tries.go_on(retry, failed, lost.len()).await {
            break;
        }
    }
    for lost in &lost {
        tell(lost, "it is lost");
    }
    Ok(())
}

/// The tries to keep the records of one append.
struct Tries {
    time_ms: i64,
    /// Tries that a store has answered.
    answered: u32,
    delay: Duration,
}

impl Tries {
    fn new() -> Self {
        Self {
            time_ms: now_ms(),
            answered: 0,
            delay: RETRY_FIRST,
        }
    }

    /// Tries to keep all, once; leaves those that were not kept, and says why.
    async fn keep(
        &self,
        retry: &Retry,
        letters: &dyn KeepLost,
        lost: &mut Vec<Lost<'_>>,
    ) -> Option<NotKept> {
        let mut left = Vec::new();
        let mut failed = None;
        let mut waiting: VecDeque<&[Lost<'_>]> = lost.chunks(KEEP_RECORDS).collect();
        while let Some(some) = waiting.pop_front() {
            if matches!(failed, Some(NotKept::Unavailable(_))) {
                left.extend_from_slice(some);
                continue;
            }
            match letters.keep(some, self.time_ms).await {
                Ok(()) => kept(retry, some),
                // A record that cannot be kept costs no other.
                Err(NotKept::Failed(_)) if some.len() > 1 => waiting.extend(some.chunks(1)),
                Err(error) => {
                    failed = Some(error);
                    left.extend_from_slice(some);
                }
            }
        }
        *lost = left;
        failed
    }

    /// Waits until the next try; `false`: there is none.
    async fn go_on(&mut self, retry: &mut Retry, failed: Option<NotKept>, records: usize) -> bool {
        let (error, is_answered) = match failed {
            Some(NotKept::Unavailable(error)) => (error, false),
            Some(NotKept::Failed(error)) => (error, true),
            None => return true,
        };
        if retry.counters.unkept_lines.take() {
            tracing::warn!(
                error,
                records,
                "records that kafka refuses cannot be stored as dead letters; this is retried"
            );
        }
        self.answered += u32::from(is_answered);
        if self.answered >= KEEP_TRIES {
            return false;
        }
        retry.wait(self.delay).await;
        self.delay = (self.delay * 2).min(RETRY_SLOWEST);
        true
    }
}

fn kept(retry: &Retry, some: &[Lost<'_>]) {
    for lost in some {
        retry.counters.kept.fetch_add(1, Ordering::Relaxed);
        tell(lost, "it is a dead letter");
    }
}

fn tell(Lost { record, reason }: &Lost<'_>, becomes: &str) {
    let id = record.header(header_name::ID).map(String::from_utf8_lossy);
    let key = record.key.as_deref().map(String::from_utf8_lossy);
    tracing::error!(
        reason,
        topic = &*record.topic,
        partition = record.partition,
        offset = record.offset,
        id = id.as_deref(),
        key = key.as_deref(),
        bytes = record.value.len(),
        "kafka refuses a record for good: {becomes}"
    );
}

#[cfg(test)]
mod tests;
