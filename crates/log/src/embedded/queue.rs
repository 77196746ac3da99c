//! What waits for the writer: one commit takes what waits already, and appends that are about to
//! come together with it.
//!
//! Whoever appends one record after the other is answered by a commit and is back soon after it. If
//! the first that is back had a commit of its own, the others would be the next one: twice as many
//! syncs, and a few records in each. So after a commit of many appends the writer rests as long as
//! more of them come. Few, or one that comes alone, are never waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, oneshot};

use super::together::Gathering;
use super::writer::Command;

/// Appends of a commit after which more are waited for: with fewer, the wait would cost them more
/// than the syncs that it saves.
const MANY_APPENDS: usize = 12;
/// How long the writer rests before it looks whether more have come: short beside a sync.
const REST: Duration = Duration::from_micros(100);
/// How long more are waited for at most, however many come.
const LONGEST_WAIT: Duration = Duration::from_millis(1);

/// What the writer takes its work from.
pub(super) struct Queue {
    commands: mpsc::Receiver<Command>,
    gathering: Arc<Gathering>,
    /// A commit takes nothing more when it has so many records.
    commit_records: usize,
    /// Appends of the last commit.
    last_appends: usize,
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
            last_appends: 0,
            runtime: runtime::Builder::new_current_thread()
                .enable_time()
                .build()?,
        })
    }

    /// Waits for something to do, for `idle` at most.
    pub(super) fn next(&mut self, idle: Duration) -> Next {
        let free_since = Instant::now();
        let commands = &mut self.commands;
        let first = async { tokio::time::timeout(idle, commands.recv()).await };
        match self.runtime.block_on(first) {
            Ok(Some(first)) => {
                if self.last_appends >= MANY_APPENDS && free_since.elapsed() < LONGEST_WAIT {
                    self.rest();
                }
                self.take(first)
            }
            Ok(None) => Next::Over,
            Err(_) => Next::Idle,
        }
    }

    /// Lets more come, as long as they do; whoever appends is not in need of this thread.
    fn rest(&self) {
        let begun = Instant::now();
        let mut waiting = self.commands.len();
        while begun.elapsed() < LONGEST_WAIT && waiting < self.commands.max_capacity() {
            std::thread::sleep(REST);
            let before = std::mem::replace(&mut waiting, self.commands.len());
            if waiting == before {
                break;
            }
        }
    }

    fn take(&mut self, first: Command) -> Next {
        let mut taken = Vec::new();
        let mut records = 0;
        let mut until = None;
        self.last_appends = 0;
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Close { reply } => return Next::Commit(taken, Some(reply)),
                Command::Append {
                    records: ref more, ..
                } => {
                    records += more.len();
                    self.last_appends += 1;
                }
                Command::Commit { .. }
                | Command::ForgetMark { .. }
                | Command::Probe { .. }
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
