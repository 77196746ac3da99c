//! What can go wrong with a log, told apart where a caller can act on the difference.

use std::ops::Range;

/// An error of a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// No room on the device. Nothing is damaged; the same append succeeds when there is room
    /// again.
    #[error("no space left for the log at `{place}`")]
    Full {
        /// Which file.
        place: String,
    },
    /// Reading or writing failed. Nothing is known to be damaged.
    #[error("cannot {doing} the log at `{place}`: {reason}")]
    Io {
        /// `read`, `append to`...
        doing: &'static str,
        /// Which file or cluster.
        place: String,
        /// As the system or the library says it.
        reason: String,
    },
    /// Records are damaged. The reader goes on behind them.
    #[error("offsets {} to {} of `{topic}` partition {partition} are damaged: {reason}", offsets.start, offsets.end.saturating_sub(1))]
    Corrupt {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
        /// Which records.
        offsets: Range<u64>,
        /// What is wrong with them.
        reason: String,
    },
    /// Records were removed, by retention or by hand, before this reader came to them. The reader
    /// goes on behind them.
    #[error("offsets {} to {} of `{topic}` partition {partition} were removed from the log before they were read", offsets.start, offsets.end.saturating_sub(1))]
    Expired {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
        /// Which records.
        offsets: Range<u64>,
    },
    /// Another process has the store.
    #[error("another process uses the log at `{place}`; there can be only one")]
    Locked {
        /// Which directory.
        place: String,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The log is being closed.
    #[error("the log is closed")]
    Closed,
}
