//! What came of a transaction that was handed over.

use std::time::Duration;

/// What came of a transaction, or of a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// The script was called, and had no error.
    Done,
    /// The whole transaction is to be handed over again, from its first part on.
    Failed {
        /// Why.
        reason: String,
        /// Not before this time has passed: the script has no process until then.
        retry_after: Option<Duration>,
        /// Whether the script was called for it: it may be this transaction that it fails with.
        was_called: bool,
    },
    /// Nothing was called: the transaction has begun in a process that is gone, and is to be handed
    /// over from its first part on.
    NotBegun,
}

/// There is no process for so long.
pub(super) fn no_process(reason: &str, left: Duration) -> Handled {
    Handled::Failed {
        reason: format!("the script has no process: {reason}"),
        retry_after: Some(left),
        was_called: false,
    }
}

/// There is a process, and no time any more to call it.
pub(super) fn loaded_late() -> Handled {
    Handled::Failed {
        reason: "the script took long to load: it is called at the next attempt".to_owned(),
        retry_after: Some(Duration::ZERO),
        was_called: false,
    }
}

/// Nothing is to be waited for.
pub(super) fn failed(reason: impl Into<String>, was_called: bool) -> Handled {
    Handled::Failed {
        reason: reason.into(),
        retry_after: None,
        was_called,
    }
}
