//! Threads that evaluate conditions which cost too much for a thread of the runtime.
//!
//! Accounts take turns, and of each account one thread at most evaluates something: what one
//! account has evaluated costs another the wait for a turn. What one account may have waiting is
//! bounded, in the steps that conditions tell and in bytes. What exceeds that is not taken from the
//! consumer, which leaves it to a range of the log; a question whose answer is waited for is always
//! taken.

mod queue;

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use dovecast_notification::condition::{Condition, Facts, Verdict};
use dovecast_notification::filter::Mismatch;
use dovecast_notification::{Filter, Notification};
use queue::State;

/// Conditions on a notification that is no longer than this are evaluated by the task that
/// consumes the log ...
const BYTES_AT_ONCE: usize = 16 * 1024;
/// ... as long as all of them take no more steps than this: some milliseconds, at most.
const STEPS_AT_ONCE: u64 = 512 * 1024;
/// Steps that the conditions of one account which wait may take: some seconds of one thread, at
/// most.
const STEPS_OF_ACCOUNT: u64 = 1024 * 1024 * 1024;
/// Bytes of the notifications that wait, of one account ...
const BYTES_OF_ACCOUNT: usize = 16 * 1024 * 1024;
/// ... and of all.
const BYTES: usize = 64 * 1024 * 1024;
/// Steps for an account before another has its turn: a tenth of a second, at most.
const STEPS_OF_TURN: u64 = 16 * 1024 * 1024;
/// Threads, at most: a host has something else to do.
const THREADS: usize = 4;
/// The interpreter is recursive: a condition of the greatest depth takes more than a megabyte where
/// nothing was optimised.
const STACK_BYTES: usize = 4 * 1024 * 1024;

/// How much is evaluated at a time, and how much may wait.
#[derive(Clone, Copy, Debug)]
pub struct EvaluatorLimits {
    /// Threads.
    pub threads: usize,
    /// Steps that the conditions of one account which wait may take.
    pub steps_of_account: u64,
    /// Bytes of the notifications of one account that wait.
    pub bytes_of_account: usize,
    /// Bytes of the notifications of all accounts that wait.
    pub bytes: usize,
    /// Steps for an account before another has its turn.
    pub steps_of_turn: u64,
}

impl Default for EvaluatorLimits {
    /// Half of the processors.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            threads: processors.div_ceil(2).clamp(1, THREADS),
            steps_of_account: STEPS_OF_ACCOUNT,
            bytes_of_account: BYTES_OF_ACCOUNT,
            bytes: BYTES,
            steps_of_turn: STEPS_OF_TURN,
        }
    }
}

/// Evaluates conditions on threads of its own. They end when it is dropped.
#[derive(Debug)]
pub struct Evaluator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: EvaluatorLimits,
    state: Mutex<State>,
    /// There is something to do, or it is over.
    news: Condvar,
}

/// Conditions to be evaluated on one notification.
#[derive(Debug)]
struct Job {
    notification: Arc<Notification>,
    conditions: Vec<Arc<Condition>>,
    /// Verdicts of the conditions that were evaluated so far, in their order.
    verdicts: Vec<Verdict>,
    /// Steps that the conditions take, as they tell before they run.
    steps: u64,
    answer: oneshot::Sender<Vec<Verdict>>,
}

/// What conditions come to, in their order. When this is dropped nothing more is evaluated.
pub(crate) type Verdicts = oneshot::Receiver<Vec<Verdict>>;

/// What of an account's conditions on one notification is evaluated at once.
pub(crate) struct AtOnce<'a> {
    facts: Option<Facts<'a>>,
    steps_left: u64,
}

impl<'a> AtOnce<'a> {
    pub(crate) fn new(notification: &'a Notification) -> Self {
        let is_short = notification.bytes() <= BYTES_AT_ONCE;
        Self {
            facts: is_short.then(|| Facts::new(notification)),
            steps_left: STEPS_AT_ONCE,
        }
    }

    /// What a condition comes to; `None`: an [`Evaluator`] has to find out.
    pub(crate) fn evaluate(&mut self, condition: &Condition) -> Option<Verdict> {
        let facts = self.facts.as_ref()?;
        self.steps_left = self.steps_left.checked_sub(condition.cost(facts))?;
        Some(condition.evaluate(facts))
    }
}

impl Default for Evaluator {
    fn default() -> Self {
        Self::new(EvaluatorLimits::default())
    }
}

impl Evaluator {
    /// Threads are made when there is something to do.
    pub fn new(limits: EvaluatorLimits) -> Self {
        Self(Arc::new(Inner {
            limits,
            state: Mutex::default(),
            news: Condvar::new(),
        }))
    }

    /// The first reason why a notification does not match a filter; `None`: it does. Waits for its
    /// account's turn where the condition takes longer than a thread of the runtime has time for.
    pub async fn mismatch(&self, filter: &Filter, notification: &Notification) -> Option<Mismatch> {
        let of_sets = filter.mismatch_of_sets(notification);
        let (None, Some(condition)) = (of_sets, &filter.condition) else {
            return of_sets;
        };
        let at_once = AtOnce::new(notification).evaluate(condition);
        if let Some(verdict) = at_once {
            return Mismatch::of(verdict);
        }
        let waits = self.take(notification, vec![Arc::clone(condition)]);
        let verdicts = waits.await.unwrap_or_default();
        // Without an evaluator there is no answer.
        Mismatch::of(verdicts.first().copied().unwrap_or(Verdict::Fails))
    }

    /// Takes the first of these conditions, as many as the account may have waiting; how many that
    /// are is told by the answer.
    pub(crate) fn offer(
        &self,
        notification: &Notification,
        mut conditions: Vec<Arc<Condition>>,
    ) -> Option<(usize, Verdicts)> {
        let mut state = self.0.state();
        let mut room = state.room(&notification.account, notification.bytes(), &self.0.limits)?;
        room = room.saturating_sub(Facts::cost(notification));
        let fits = conditions.iter().take_while(|condition| {
            let left = room.checked_sub(condition.cost_unread(notification));
            room = left.unwrap_or(0);
            left.is_some()
        });
        let count = fits.count();
        if count == 0 {
            return None;
        }
        conditions.truncate(count);
        Some((count, self.0.put(&mut state, notification, conditions)))
    }

    /// Takes conditions, whatever waits already.
    fn take(&self, notification: &Notification, conditions: Vec<Arc<Condition>>) -> Verdicts {
        self.0.put(&mut self.0.state(), notification, conditions)
    }

    /// Notifications that wait for the evaluation of a condition.
    pub(crate) fn waiting(&self) -> usize {
        self.0.state().waiting()
    }
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        self.0.state().is_over = true;
        self.0.news.notify_all();
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(
        self: &Arc<Self>,
        state: &mut State,
        notification: &Notification,
        conditions: Vec<Arc<Condition>>,
    ) -> Verdicts {
        let (answer, verdicts) = oneshot::channel();
        let steps = conditions
            .iter()
            .map(|condition| condition.cost_unread(notification))
            .fold(Facts::cost(notification), u64::saturating_add);
        state.put(Job {
            notification: Arc::new(notification.clone()),
            verdicts: Vec::with_capacity(conditions.len()),
            conditions,
            steps,
            answer,
        });
        if state.idle == 0 && state.threads < self.limits.threads {
            let inner = Arc::clone(self);
            let thread = thread::Builder::new()
                .name("condition".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || inner.work());
            match thread {
                Ok(_) => state.threads += 1,
                // Another one does it; if there is none, the next that is put in tries again.
                Err(error) => tracing::error!(%error, "cannot make a thread for conditions"),
            }
        }
        self.news.notify_one();
        verdicts
    }

    /// A thread: one turn after the other.
    fn work(&self) {
        let mut state = self.state();
        while !state.is_over {
            let Some(mut job) = state.take_turn() else {
                state.idle += 1;
                state = self
                    .news
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            drop(state);
            job.evaluate(self.limits.steps_of_turn);
            let is_done = job.is_done();
            state = self.state();
            if is_done {
                state.end(&job);
                // The task that waits is woken without the lock.
                drop(state);
                job.answer();
                state = self.state();
            } else {
                state.put_back(job);
            }
        }
    }
}

impl Job {
    /// Evaluates conditions until so many steps were taken.
    fn evaluate(&mut self, most: u64) {
        let notification = Arc::clone(&self.notification);
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            let facts = Facts::new(&notification);
            let mut taken = 0_u64;
            while taken < most
                && !self.is_done()
                && let Some(condition) = self.conditions.get(self.verdicts.len())
            {
                taken = taken.saturating_add(condition.cost(&facts));
                self.verdicts.push(condition.evaluate(&facts));
            }
        }));
        if evaluated.is_err() {
            let condition = self.conditions.get(self.verdicts.len());
            tracing::error!(
                condition = condition.map(|condition| condition.text()),
                notification.id = %self.notification.id,
                "a condition has panicked, it does not hold"
            );
            self.verdicts.push(Verdict::Fails);
        }
    }

    /// Whether nothing is left to evaluate, or the answer is not waited for any more.
    fn is_done(&self) -> bool {
        self.verdicts.len() == self.conditions.len() || self.answer.is_closed()
    }

    fn answer(self) {
        // It may not be waited for any more.
        let _ = self.answer.send(self.verdicts);
    }
}
