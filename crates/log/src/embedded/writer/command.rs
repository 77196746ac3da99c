//! What the writer is asked to do, and how it answers.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::Mark;
use super::removal::RemoveTopic;
use crate::{Appended, LogError, NewRecord};

/// What the writer is asked to do.
pub(in crate::embedded) enum Command {
    Append {
        records: Vec<NewRecord>,
        mark: Option<Mark>,
        reply: oneshot::Sender<Result<Appended, LogError>>,
    },
    /// Positions by the partition's id.
    Commit {
        group: String,
        positions: Vec<(u64, u64)>,
        reply: oneshot::Sender<Result<(), LogError>>,
    },
    ForgetMark {
        name: String,
        reply: oneshot::Sender<Result<(), LogError>>,
    },
    /// Something is written as records are, in order to see whether they can be.
    Probe {
        reply: oneshot::Sender<Result<(), LogError>>,
    },
    /// Topics that are to be there, however many there are.
    CreateTopics {
        names: Vec<Arc<str>>,
        reply: oneshot::Sender<Result<(), LogError>>,
    },
    RemoveTopic(RemoveTopic),
    Close {
        reply: oneshot::Sender<()>,
    },
}

impl Command {
    /// Whether it makes the log larger.
    pub(in crate::embedded) fn grows(&self) -> bool {
        match self {
            Self::Append { records, .. } => !records.is_empty(),
            Self::CreateTopics { .. } | Self::Probe { .. } => true,
            _ => false,
        }
    }

    pub(in crate::embedded) fn answer(self, done: Result<Appended, LogError>) {
        // Whoever has gone meanwhile needs no answer.
        match self {
            Self::Append { reply, .. } => drop(reply.send(done)),
            Self::Commit { reply, .. }
            | Self::ForgetMark { reply, .. }
            | Self::Probe { reply }
            | Self::CreateTopics { reply, .. } => {
                drop(reply.send(done.map(|_| ())));
            }
            Self::RemoveTopic(_) => {}
            Self::Close { reply } => drop(reply.send(())),
        }
    }
}
