//! Which conditions are evaluated next: accounts in turn, and of each account what has waited
//! longest for its turn.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{EvaluatorLimits, Job};

/// Everything that waits, or has its turn.
#[derive(Debug, Default)]
pub(crate) struct State {
    accounts: HashMap<Arc<str>, Account>,
    /// Accounts of which something waits and nothing has its turn; the first is the next one.
    turns: VecDeque<Arc<str>>,
    bytes: usize,
    pub(crate) threads: usize,
    /// Threads that have nothing to do.
    pub(crate) idle: usize,
    pub(crate) is_over: bool,
}

#[derive(Debug, Default)]
struct Account {
    jobs: VecDeque<Job>,
    has_its_turn: bool,
    /// Steps of what waits or has its turn.
    steps: u64,
    bytes: usize,
}

impl State {
    /// Steps that an account may have waiting besides what it has, on a notification of so many
    /// bytes; `None`: none.
    pub(crate) fn room(
        &self,
        account: &str,
        bytes: usize,
        limits: &EvaluatorLimits,
    ) -> Option<u64> {
        let of = self.accounts.get(account);
        let (steps_waiting, bytes_waiting) = of.map_or((0, 0), |of| (of.steps, of.bytes));
        let has_room =
            bytes_waiting + bytes <= limits.bytes_of_account && self.bytes + bytes <= limits.bytes;
        has_room.then(|| limits.steps_of_account.saturating_sub(steps_waiting))
    }

    pub(crate) fn waiting(&self) -> usize {
        let of = self.accounts.values();
        of.map(|of| of.jobs.len() + usize::from(of.has_its_turn))
            .sum()
    }

    pub(crate) fn put(&mut self, job: Job) {
        let bytes = job.notification.bytes();
        let account: Arc<str> = Arc::from(&*job.notification.account);
        let of = self.accounts.entry(Arc::clone(&account)).or_default();
        if of.jobs.is_empty() && !of.has_its_turn {
            self.turns.push_back(account);
        }
        of.steps = of.steps.saturating_add(job.steps);
        of.bytes += bytes;
        self.bytes += bytes;
        of.jobs.push_back(job);
    }

    /// The next job, which has its turn until [`State::put_back`] or [`State::end`].
    pub(crate) fn take_turn(&mut self) -> Option<Job> {
        let account = self.turns.pop_front()?;
        let of = self.accounts.get_mut(&account)?;
        of.has_its_turn = true;
        of.jobs.pop_front()
    }

    /// Ends the turn of a job of which more is to be evaluated.
    pub(crate) fn put_back(&mut self, job: Job) {
        let account: Arc<str> = Arc::from(&*job.notification.account);
        if let Some(of) = self.accounts.get_mut(&account) {
            of.has_its_turn = false;
            of.jobs.push_back(job);
            self.turns.push_back(account);
        }
    }

    /// Ends the turn of a job that is done.
    pub(crate) fn end(&mut self, job: &Job) {
        let bytes = job.notification.bytes();
        self.bytes -= bytes;
        let Some(of) = self.accounts.get_mut(&*job.notification.account) else {
            return;
        };
        of.has_its_turn = false;
        of.steps = of.steps.saturating_sub(job.steps);
        of.bytes -= bytes;
        if of.jobs.is_empty() {
            self.accounts.remove(&*job.notification.account);
        } else {
            self.turns.push_back(Arc::from(&*job.notification.account));
        }
    }
}
