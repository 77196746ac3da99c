//! What waits for the writer: one commit takes what waits already, and appends that are about to
//! come together with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, oneshot};

use super::together::Gathering;
use super::writer::Command;

/// What the writer takes its work from.
pub(super) struct Queue {
    commands: mpsc::Receiver<Command>,
    gathering: Arc<Gathering>,
    /// A commit takes nothing more when it has so many records.
    commit_records: usize,
    runtime: Runtime,
}

/// What is to be done next.
pub(super) enum Next {
    /// One commit; after it the log is to be closed if somebody waits for that.
    Commit(Vec<Command>, Option<oneshot::Sender<()>>),
    /// Nobody has wanted anything for this time.
    Idle,
    /// Nobody has the log any more.
    Over,
}

impl Queue {
    pub(super) fn new(
        commands: mpsc::Receiver<Command>,
        gathering: Arc<Gathering>,
        commit_records: usize,
    ) -> std::io::Result<Self> {
        Ok(Self {
            commands,
            gathering,
            commit_records,
            runtime: runtime::Builder::new_current_thread()
                .enable_time()
                .build()?,
        })
    }

    /// Waits for something to do, for `idle` at most.
    pub(super) fn next(&mut self, idle: Duration) -> Next {
        let commands = &mut self.commands;
        let first = async { tokio::time::timeout(idle, commands.recv()).await };
        match self.runtime.block_on(first) {
            Ok(Some(first)) => self.take(first),
            Ok(None) => Next::Over,
            Err(_) => Next::Idle,
        }
    }

    fn take(&mut self, first: Command) -> Next {
        let mut taken = Vec::new();
        let mut records = 0;
        let mut until = None;
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Close { reply } => return Next::Commit(taken, Some(reply)),
                Command::Append {
                    records: ref more, ..
                } => records += more.len(),
                Command::Commit { .. }
                | Command::ForgetMark { .. }
                | Command::CreateTopics { .. }
                | Command::RemoveTopic(_) => {}
            }
            taken.push(command);
            next = if records < self.commit_records {
                self.more(&mut until)
            } else {
                None
            };
        }
        Next::Commit(taken, None)
    }

    /// What waits, or what is still to come with what was taken; `until` is the end of the wait,
    /// once one has begun. What is announced meanwhile, again and again, does not put it off.
    fn more(&mut self, until: &mut Option<Instant>) -> Option<Command> {
        loop {
            // Asked before the queue is: who has appended and closed it meanwhile is in the queue.
            let announced = self.gathering.until();
            let waiting = self.commands.try_recv().ok();
            let (None, Some(announced)) = (&waiting, announced) else {
                return waiting;
            };
            let until = *until.get_or_insert(announced);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let (commands, gathering) = (&mut self.commands, &self.gathering);
            let came = self.runtime.block_on(async {
                tokio::select! {
                    command = commands.recv() => command,
                    () = gathering.closed() => None,
                    () = tokio::time::sleep(left) => None,
                }
            });
            if came.is_some() {
                return came;
            }
        }
    }
}
