//! How many readers of the log may be open at a time for endpoints that catch up, and whose turn it
//! is: each may be a connection with its buffers. Accounts take turns, and of each account who has
//! waited longest.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::locks::Lock;

/// How long a reader is kept that others wait for.
const SLICE: Duration = Duration::from_millis(500);

/// How many may be open, and who waits for one.
#[derive(Debug)]
pub(crate) struct Readers {
    most: usize,
    state: Arc<Lock<State>>,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    waiting: HashMap<Arc<str>, VecDeque<oneshot::Sender<ReaderPlace>>>,
    /// Accounts of which somebody waits; the first is the next one.
    turns: VecDeque<Arc<str>>,
}

/// A place for an open reader. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct ReaderPlace {
    since: Instant,
    state: Arc<Lock<State>>,
}

impl Readers {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            state: Arc::new(Lock::new("readers", State::default())),
        }
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.state.lock().open
    }

    /// Whether somebody waits for one.
    pub(crate) fn are_wanted(&self) -> bool {
        !self.state.lock().turns.is_empty()
    }

    /// A place, if there is one now.
    pub(crate) fn try_take(&self) -> Option<ReaderPlace> {
        let mut state = self.state.lock();
        if state.open >= self.most {
            return None;
        }
        state.open += 1;
        drop(state);
        Some(ReaderPlace::new(Arc::clone(&self.state)))
    }

    /// Waits for a place, for an endpoint of an account; a task that waits must hold none. `None`
    /// does not happen: each that waits gets one.
    pub(crate) async fn take(&self, account: &Arc<str>) -> Option<ReaderPlace> {
        if let Some(place) = self.try_take() {
            return Some(place);
        }
        let (given, place) = oneshot::channel();
        {
            let mut state = self.state.lock();
            state.wait(account, given);
            // One may have become free meanwhile.
            if state.open < self.most {
                state.open += 1;
                drop(state);
                drop(ReaderPlace::new(Arc::clone(&self.state)));
            }
        }
        place.await.ok()
    }
}

impl State {
    fn wait(&mut self, account: &Arc<str>, given: oneshot::Sender<ReaderPlace>) {
        let waiting = self.waiting.entry(Arc::clone(account)).or_default();
        if waiting.is_empty() {
            self.turns.push_back(Arc::clone(account));
        }
        waiting.push_back(given);
    }

    /// The task that gets a place next: the accounts take turns.
    fn next(&mut self) -> Option<oneshot::Sender<ReaderPlace>> {
        let account = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&account)?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&account);
        } else {
            self.turns.push_back(account);
        }
        next
    }
}

impl ReaderPlace {
    fn new(state: Arc<Lock<State>>) -> Self {
        Self {
            since: Instant::now(),
            state,
        }
    }

    /// Whether it is another one's turn, where others wait.
    pub(crate) fn is_over(&self) -> bool {
        self.is_older_than(SLICE)
    }

    pub(crate) fn is_older_than(&self, age: Duration) -> bool {
        self.since.elapsed() > age
    }
}

impl Drop for ReaderPlace {
    fn drop(&mut self) {
        let next = {
            let mut state = self.state.lock();
            // Who waits no more is passed over.
            let next = std::iter::from_fn(|| state.next()).find(|next| !next.is_closed());
            if next.is_none() {
                state.open -= 1;
            }
            next
        };
        if let Some(next) = next {
            // Comes back here where it is not taken.
            drop(next.send(ReaderPlace::new(Arc::clone(&self.state))));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn accounts_take_turns_and_who_waits_no_more_is_passed_over() {
        let readers = Arc::new(Readers::new(1));
        let first = readers.take(&Arc::from("many")).await.expect("a place");
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting = JoinSet::new();
        for (account, count) in [("many", 50), ("one", 1)] {
            for _ in 0..count {
                let (readers, done) = (Arc::clone(&readers), done.clone());
                waiting.spawn(async move {
                    let place = readers.take(&Arc::from(account)).await;
                    done.send(account).expect("it is read");
                    drop(place);
                });
            }
            // They wait in the order in which they are made.
            tokio::task::yield_now().await;
        }
        let gone = Arc::from("gone");
        assert!(waits(readers.take(&gone)).await, "there is no place");
        assert!(readers.are_wanted() && readers.try_take().is_none());
        drop(first);
        waiting.join_all().await;
        drop(done);
        let mut accounts = Vec::new();
        while let Some(account) = order.recv().await {
            accounts.push(account);
        }
        assert_eq!(accounts.len(), 51);
        let place = accounts.iter().position(|account| *account == "one");
        assert!(place.is_some_and(|place| place <= 1), "{accounts:?}");
        assert_eq!((readers.open(), readers.are_wanted()), (0, false));
    }

    /// Whether a future has to wait; it is dropped then.
    async fn waits(future: impl Future) -> bool {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(future.as_mut().poll(context).is_pending())
        })
        .await
    }
}
