//! Records that the target never takes: each is named in the log, counted, and, where somebody keeps them, a dead letter.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use dovecast_event::header_name;
use dovecast_log::{LogError, Record};

use super::again::{AGAIN_FIRST, AGAIN_SLOWEST, Again};

/// How often it is tried to keep a record: a minute in all, with the delays of an append. Its topic is not shipped meanwhile.
const KEEP_TRIES: u32 = 16;

/// What becomes of a record that the target never takes; `Err`: why it was not kept, to be tried again.
pub type Kept<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Keeps records that the target never takes.
pub trait KeepLost: fmt::Debug + Send + Sync + 'static {
    /// Keeps a record, as it is in the spool, with the reason. May come again for one that was kept, after a crash.
    fn keep<'a>(&'a self, record: &'a Record, reason: &'a str) -> Kept<'a>;
}

/// Names a record that is lost, and keeps it. An error only where the shipper is being stopped: it is refused again after the
/// next start.
pub(super) async fn keep(again: &Again, record: &Record, reason: &str) -> Result<(), LogError> {
    let mut tries = 0;
    let mut delay = AGAIN_FIRST;
    let is_kept = loop {
        let Some(letters) = &again.letters else {
            break false;
        };
        let Err(error) = letters.keep(record, reason).await else {
            break true;
        };
        if again.is_stopping() {
            return Err(LogError::Closed);
        }
        tries += 1;
        tracing::warn!(
            error,
            tries,
            "a record that kafka never takes cannot be kept as a dead letter"
        );
        if tries == KEEP_TRIES {
            break false;
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(AGAIN_SLOWEST);
    };
    let counters = &again.counters;
    let id = record.header(header_name::ID).map(String::from_utf8_lossy);
    let key = record.key.as_deref().map(String::from_utf8_lossy);
    let becomes = if is_kept {
        counters.kept.fetch_add(1, Ordering::Relaxed);
        "it is a dead letter"
    } else {
        "it is lost"
    };
    tracing::error!(
        reason,
        topic = &*record.topic,
        partition = record.partition,
        offset = record.offset,
        id = id.as_deref(),
        key = key.as_deref(),
        bytes = record.value.len(),
        "kafka never takes a record: {becomes}"
    );
    Ok(())
}
