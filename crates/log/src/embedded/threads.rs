//! Threads that read the log, and do nothing else: what else blocks in the process keeps no reader
//! waiting.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// Reads under way at a time. Most find their pages in memory, and take less than a millisecond.
pub(super) const THREADS: usize = 8;

type Work = Box<dyn FnOnce() + Send>;

/// Threads that read; made when there is something to do, and ended when this is dropped.
#[derive(Default)]
pub(super) struct Threads(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// There is something to do, or it is over.
    news: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    threads: usize,
    idle: usize,
    is_over: bool,
}

impl Threads {
    /// Runs `read`; the answer fails if it panics, or if there is no thread for it.
    pub(super) fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, done) = oneshot::channel();
        let work = Box::new(move || {
            // Whoever has asked may be gone.
            if !answer.is_closed() {
                let _ = answer.send(read());
            }
        });
        let mut state = self.0.state();
        state.waiting.push_back(work);
        if state.idle < state.waiting.len() && state.threads < THREADS {
            let inner = Arc::clone(&self.0);
            let thread = thread::Builder::new()
                .name("log-reader".to_owned())
                .spawn(move || inner.work());
            match thread {
                Ok(_) => state.threads += 1,
                Err(error) => {
                    tracing::error!(%error, "cannot start a thread that reads the log");
                    if state.threads == 0 {
                        state.waiting.clear();
                    }
                }
            }
        }
        self.0.news.notify_one();
        done
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.state().is_over = true;
        self.0.news.notify_all();
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                drop(state);
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    tracing::error!("a thread that reads the log has panicked");
                }
                state = self.state();
            } else if state.is_over {
                return;
            } else {
                state.idle += 1;
                state = self
                    .news
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}
