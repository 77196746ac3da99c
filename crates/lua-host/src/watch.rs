//! A thread that says which function of the script is late, while that function runs.
//!
//! Neither a hook of the interpreter nor a limit of steps ends a pattern that never ends, or a loop
//! of `pcall`: the process is killed. What is killed says nothing any more, so this says it before.
//!
//! Who calls a function only notes it. The thread looks once in a time limit, and sleeps for good
//! when nothing was called since; then the next call wakes it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dovecast_host_process::child::kill_own_group;

use crate::output::Output;
use crate::wire::Answer;

/// How much longer a function may take whose interpreter has a hook.
const TRACE_GRACE: Duration = Duration::from_secs(1);

/// Tenths of the time of a function that it may wait for an answer.
const WAIT_TENTHS: u32 = 9;

/// The function that runs.
struct Current {
    name: String,
    since: Instant,
    is_reported: bool,
}

#[derive(Default)]
struct State {
    current: Option<Current>,
    /// Whether something was called since the thread has looked.
    is_busy: bool,
    is_asleep: bool,
}

struct Shared {
    state: Mutex<State>,
    woken: Condvar,
    limit: Duration,
    /// How much later than the limit a function is reported.
    grace: Duration,
}

/// Knows what runs; clones are the same.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Shared>);

impl Watch {
    /// Starts the thread. Where a hook looks for what is late, that has a second to say so first.
    pub(crate) fn start(
        limit: Duration,
        is_traced: bool,
        output: Arc<Output>,
    ) -> std::io::Result<Self> {
        let grace = if is_traced {
            TRACE_GRACE
        } else {
            Duration::ZERO
        };
        let watch = Self(Arc::new(Shared {
            state: Mutex::default(),
            woken: Condvar::new(),
            limit,
            grace,
        }));
        let own = watch.clone();
        let thread = std::thread::Builder::new().name("watch".to_owned());
        thread.spawn(move || own.run(&output))?;
        Ok(watch)
    }

    /// Notes a function while it runs.
    pub(crate) fn during<T>(&self, name: &str, call: impl FnOnce() -> T) -> T {
        {
            let mut state = self.state();
            state.current = Some(Current {
                name: name.to_owned(),
                since: Instant::now(),
                is_reported: false,
            });
            state.is_busy = true;
            if state.is_asleep {
                self.0.woken.notify_one();
            }
        }
        let returned = call();
        self.state().current = None;
        returned
    }

    /// Name of the function that runs, if it is late.
    pub(crate) fn late(&self) -> Option<String> {
        let state = self.state();
        let current = state.current.as_ref()?;
        (current.since.elapsed() >= self.0.limit).then(|| current.name.clone())
    }

    /// How long what the function that runs waits for may take, so that the function has time left
    /// to see that it did not come.
    pub(crate) fn time_to_wait(&self) -> Duration {
        let waits = self.0.limit / 10 * WAIT_TENTHS;
        let state = self.state();
        let ran = state.current.as_ref();
        let ran = ran.map_or(Duration::ZERO, |current| current.since.elapsed());
        waits.saturating_sub(ran)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, output: &Output) {
        let mut state = self.state();
        loop {
            let limit = self.0.limit + self.0.grace;
            let left = state.current.as_ref().map(|current| {
                let left = limit.saturating_sub(current.since.elapsed());
                (left, current.is_reported)
            });
            state = match left {
                Some((Duration::ZERO, false)) => {
                    let function = state.current.as_mut().map(|current| {
                        current.is_reported = true;
                        current.name.clone()
                    });
                    drop(state);
                    let function = function.unwrap_or_default();
                    if output.send(&Answer::Late { function }).is_err() {
                        // Nobody is there who could kill this process, and what it has started.
                        kill_own_group();
                        std::process::abort();
                    }
                    self.state()
                }
                Some((left, false)) => self.wait(state, left),
                None if state.is_busy => {
                    state.is_busy = false;
                    self.wait(state, limit)
                }
                // Nothing runs, or what runs was reported, and will be killed.
                None | Some((_, true)) => self.sleep(state),
            };
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let waited = self.0.woken.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn sleep<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.is_asleep = true;
        let waited = self.0.woken.wait(state);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_asleep = false;
        state
    }
}
