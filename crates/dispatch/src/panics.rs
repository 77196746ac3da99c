//! Panics in parts of the dispatcher: caught, logged, counted, and made good.
//!
//! A panic is a fault of the program and costs as little as can be: an attempt, a record, or a pass
//! of a loop that is begun anew. Nothing waits for what has panicked: a delivery that is dropped on
//! the way is owed (`item`), counts are given back by drop. What cannot be made good so ends the
//! dispatcher in order, and it is begun anew (`life`).

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Poll;
use std::time::Duration;

use dovecast_log::{LineLimit, LogError};

use crate::ledger::LedgerError;
use crate::locks::Lock;
use crate::stats::count;

/// How long a part rests before it is begun anew: without, a panic at its beginning would use up a
/// processor.
pub(crate) const PANIC_REST: Duration = Duration::from_secs(1);

/// What a panic has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panicked(String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Panicked {
    fn new(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self(text.unwrap_or("it does not say why").to_owned())
    }
}

/// Calls a function. What it leaves behind when it panics has to be fine for others.
pub(crate) fn caught_now<T>(act: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|payload| Panicked::new(&*payload))
}

/// Runs a future to its end, or to its panic. What it leaves behind then has to be fine for others.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    poll_fn(
        |context| match caught_now(|| future.as_mut().poll(context)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
            Err(panicked) => Poll::Ready(Err(panicked)),
        },
    )
    .await
}

/// Counts panics, and logs them.
#[derive(Debug)]
pub(crate) struct Panics {
    /// What bounds the lines about each part: a fault may be met with every record.
    lines: Lock<BTreeMap<&'static str, Arc<LineLimit>>>,
}

impl Default for Panics {
    fn default() -> Self {
        Self {
            lines: Lock::new("panics", BTreeMap::new()),
        }
    }
}

impl Panics {
    /// A part has panicked.
    pub(crate) fn note(&self, counter: &AtomicU64, part: &'static str, panicked: &Panicked) {
        count(counter, 1);
        let lines = Arc::clone(self.lines.lock().entry(part).or_default());
        if lines.take() {
            tracing::error!(part, panic = %panicked, "a part of the dispatcher has panicked, the others go on");
        }
    }
}

impl From<Panicked> for LogError {
    fn from(panicked: Panicked) -> Self {
        Self::Io {
            doing: "use",
            place: "the log".to_owned(),
            reason: format!("it has panicked: {panicked}"),
        }
    }
}

impl From<Panicked> for LedgerError {
    fn from(panicked: Panicked) -> Self {
        Self {
            doing: "do anything",
            place: "the store",
            reason: format!("it has panicked: {panicked}"),
        }
    }
}

/// What a store or a log has done, where a panic of it is an error like others.
pub(crate) async fn answered<T, E: From<Panicked>>(
    call: impl Future<Output = Result<T, E>>,
    note: impl FnOnce(&Panicked),
) -> Result<T, E> {
    caught(call).await.unwrap_or_else(|panicked| {
        note(&panicked);
        Err(panicked.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_its_text_and_nothing_else_is_changed() {
        let check = |payload: Box<dyn Any + Send>, expected: &str| {
            let panicked = caught_now(|| std::panic::resume_unwind(payload));
            assert_eq!(panicked, Err::<(), _>(Panicked(expected.to_owned())));
        };
        check(Box::new("a text"), "a text");
        check(Box::new("another".to_owned()), "another");
        check(Box::new(1), "it does not say why");
        assert_eq!(caught(async { 1 }).await, Ok(1));
        let later = caught(async {
            tokio::task::yield_now().await;
            assert_eq!(1, 2, "it is so");
        });
        let text = later.await.expect_err("a panic").to_string();
        assert!(text.contains("it is so"), "{text}");
    }
}
