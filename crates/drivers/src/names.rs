//! Addresses of names, asked of the system's resolver on threads of their own.
//!
//! `getaddrinfo` reads what operators expect it to read (`/etc/hosts`, `nsswitch.conf`, search
//! domains), and blocks for as long as the name servers let it: tens of seconds where they do not
//! answer. So lookups have threads that serve nothing else, and
//!
//! - there are only so many of them, in all and for each account, and accounts take turns;
//! - names that were found promptly before have some of the threads to themselves: names that hang
//!   cannot take those;
//! - whoever asks for a name that is being looked up waits for that lookup;
//! - what was found is kept for some seconds, and so is that nothing was found;
//! - a lookup that nobody waits for any more is not begun. One that was begun ends when
//!   `getaddrinfo` returns.

mod queue;

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::guard::{Lookup, Resolve};
use queue::{Answer, Asked, Job, State};

/// How much is looked up at a time, and how long it is kept.
#[derive(Clone, Copy, Debug)]
pub struct NameLimits {
    /// Lookups under way at a time, each with a thread.
    pub lookups: usize,
    /// Lookups under way at a time for one account.
    pub lookups_of_account: usize,
    /// How long addresses are kept. `getaddrinfo` does not tell what the name servers allow.
    pub found_for: Duration,
    /// How long is kept that a name has no address, or that none could be found.
    pub missing_for: Duration,
    /// Names that are kept.
    pub kept: usize,
    /// A name whose lookup has taken longer goes behind others.
    pub slow: Duration,
}

impl Default for NameLimits {
    fn default() -> Self {
        Self {
            lookups: 256,
            lookups_of_account: 16,
            found_for: Duration::from_secs(30),
            missing_for: Duration::from_secs(5),
            kept: 10_000,
            slow: Duration::from_secs(2),
        }
    }
}

/// Counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameStats {
    /// Lookups that have ended.
    pub lookups: u64,
    /// Lookups that have found no address.
    pub failed: u64,
    /// Times that a name had to wait because as many lookups were under way as there may be.
    pub held_back: u64,
    /// Lookups under way, now.
    pub under_way: u64,
    /// Names that wait for their lookup, now.
    pub waiting: u64,
}

/// The resolver of this process.
pub fn system() -> &'static Arc<Names> {
    static SYSTEM: LazyLock<Arc<Names>> = LazyLock::new(|| {
        let find = |name: &str| {
            let found = (name, 0).to_socket_addrs()?;
            Ok(found.map(|address| address.ip()).collect())
        };
        Arc::new(Names::new(find, NameLimits::default()))
    });
    &SYSTEM
}

/// Looks names up with a function that blocks.
pub struct Names(Arc<Inner>);

struct Inner {
    find: Box<Find>,
    limits: NameLimits,
    state: Mutex<State>,
    lookups: AtomicU64,
    failed: AtomicU64,
    held_back: AtomicU64,
}

type Find = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

impl Names {
    /// Asks `find`, which may block, on threads of its own.
    pub fn new(
        find: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
        limits: NameLimits,
    ) -> Self {
        Self(Arc::new(Inner {
            find: Box::new(find),
            limits,
            state: Mutex::default(),
            lookups: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
        }))
    }

    /// What was done so far.
    pub fn stats(&self) -> NameStats {
        let (under_way, waiting) = self.0.state().counts();
        NameStats {
            lookups: self.0.lookups.load(Ordering::Relaxed),
            failed: self.0.failed.load(Ordering::Relaxed),
            held_back: self.0.held_back.load(Ordering::Relaxed),
            under_way: u64::try_from(under_way).unwrap_or(u64::MAX),
            waiting: u64::try_from(waiting).unwrap_or(u64::MAX),
        }
    }

    async fn find(&self, account: &str, name: &str) -> Answer {
        let asked = {
            let mut state = self.0.state();
            let asked = state.ask(account, name, &self.0.limits);
            if let Asked::Wait { .. } = &asked {
                self.0.begin(&mut state);
            }
            asked
        };
        let (mut answer, waiting) = match asked {
            Asked::Known(answer) => return answer,
            Asked::Wait { answer, flight } => {
                let inner = Arc::clone(&self.0);
                let name = Arc::from(name);
                (
                    answer,
                    Waiting {
                        inner,
                        name,
                        flight,
                    },
                )
            }
        };
        if self.0.state().is_held_back(&waiting.name) {
            self.0.held_back.fetch_add(1, Ordering::Relaxed);
        }
        answered(&mut answer).await
    }
}

async fn answered(answer: &mut watch::Receiver<Option<Answer>>) -> Answer {
    match answer.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(answer)) => answer.clone(),
        // Does not happen: each lookup that somebody waits for is answered.
        Ok(None) | Err(_) => Err(Arc::new(io::Error::other("the lookup was given up"))),
    }
}

impl Resolve for Names {
    fn lookup<'a>(&'a self, account: &'a str, host: &'a str, port: u16) -> Lookup<'a> {
        Box::pin(async move {
            match self.find(account, host).await {
                Ok(found) => {
                    let found = found.iter();
                    Ok(found.map(|ip| SocketAddr::from((*ip, port))).collect())
                }
                Err(error) => Err(io::Error::new(error.kind(), error)),
            }
        })
    }
}

/// Whoever waits for a lookup; where nobody does, it is not begun.
struct Waiting {
    inner: Arc<Inner>,
    name: Arc<str>,
    flight: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.inner.state().leave(&self.name, self.flight);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins as many lookups as may be under way.
    fn begin(self: &Arc<Self>, state: &mut State) {
        while let Some(job) = state.next(&self.limits) {
            let (inner, of) = (Arc::clone(self), job.clone());
            let thread = thread::Builder::new()
                .name("lookup".to_owned())
                .spawn(move || inner.work(job));
            if let Err(error) = thread {
                self.failed.fetch_add(1, Ordering::Relaxed);
                // Says nothing about the name: it is not kept.
                state.give_up(&of, Arc::new(error));
            }
        }
    }

    /// A thread: one lookup after the other, as long as there is one.
    fn work(&self, mut job: Job) {
        loop {
            let began = Instant::now();
            let found = catch_unwind(AssertUnwindSafe(|| (self.find)(&job.name)))
                .unwrap_or_else(|_| Err(io::Error::other("the resolver has panicked")));
            let answer: Answer = found.map(Arc::from).map_err(Arc::new);
            self.lookups.fetch_add(1, Ordering::Relaxed);
            if answer.is_err() {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            let mut state = self.state();
            state.end(&job, answer, began, &self.limits);
            match state.next(&self.limits) {
                Some(next) => job = next,
                None => return,
            }
        }
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names")
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}
