//! Names of users, where records are bound to them: looked up in a bounded time, by a bounded
//! number of threads, and remembered for a while.
//!
//! The host may ask a directory over the network for a name. One that does not answer must hold up
//! neither clients whose names are known nor the threads that others need.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::admission::{Sender, UserNames};

/// Threads that look names up at a time, of the 512 that tokio has for all that blocks.
const LOOKUPS_AT_A_TIME: usize = 8;
/// How long a name is remembered: a mail process connects for each session of a user.
const REMEMBERED: Duration = Duration::from_mins(1);
/// Most names that are remembered, some hundred bytes each.
const MAX_REMEMBERED: usize = 10_000;
/// How long after a lookup that took too long others fail at once: who waits for each of many is
/// held up as long as all of them take.
const BREAK: Duration = Duration::from_secs(5);

/// Senders by user id.
pub(super) struct Senders {
    own: u32,
    /// `None`: records are not bound to users.
    names: Option<UserNames>,
    longest: Duration,
    turns: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<u32, (Instant, Option<String>)>,
    /// No name is looked up before.
    broken_until: Option<Instant>,
}

impl Senders {
    /// Senders of whom each is looked up within `longest`.
    pub(super) fn new(own: u32, names: Option<UserNames>, longest: Duration) -> Self {
        Self {
            own,
            names,
            longest,
            turns: Arc::new(Semaphore::new(LOOKUPS_AT_A_TIME)),
            state: Mutex::default(),
        }
    }

    /// The sender of a user id. Root and the relay's own user may become anybody, so they are bound
    /// to no name.
    pub(super) async fn get(&self, uid: u32, until: Instant) -> io::Result<Sender> {
        let Some(names) = self.names.as_ref().filter(|_| uid != 0 && uid != self.own) else {
            return Ok(Sender::unbound(uid));
        };
        if let Some(sender) = self.known(uid)? {
            return Ok(sender);
        }
        let looked = timeout_at(until, self.look_up(uid, names)).await;
        looked.unwrap_or_else(|_| {
            self.state().broken_until = Some(Instant::now() + BREAK);
            Err(too_slow())
        })
    }

    /// Like [`Senders::get`], for threads that may block.
    pub(super) fn get_blocking(&self, uid: u32) -> io::Result<Sender> {
        let until = Instant::now() + self.longest;
        Handle::current().block_on(self.get(uid, until))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sender, if its name is remembered; an error while lookups take too long.
    fn known(&self, uid: u32) -> io::Result<Option<Sender>> {
        let (now, state) = (Instant::now(), self.state());
        if let Some((at, name)) = state.known.get(&uid)
            && now.duration_since(*at) < REMEMBERED
        {
            return Ok(Some(Sender::bound(uid, name.clone())));
        }
        if state.broken_until.is_some_and(|until| now < until) {
            return Err(too_slow());
        }
        Ok(None)
    }

    async fn look_up(&self, uid: u32, names: &UserNames) -> io::Result<Sender> {
        let turns = Arc::clone(&self.turns);
        let turn = turns.acquire_owned().await.map_err(io::Error::other)?;
        // Others of this user may have waited for the same.
        if let Some(sender) = self.known(uid)? {
            return Ok(sender);
        }
        let names = names.clone();
        let looking = tokio::task::spawn_blocking(move || {
            // Taken as long as the thread is, whoever waits for it.
            let _turn = turn;
            names.look_up(uid)
        });
        let name = looking.await.map_err(io::Error::other).flatten()?;
        let now = Instant::now();
        let mut state = self.state();
        if state.known.len() >= MAX_REMEMBERED {
            let is_fresh = |at: &Instant| now.duration_since(*at) < REMEMBERED;
            state.known.retain(|_, (at, _)| is_fresh(at));
        }
        if state.known.len() < MAX_REMEMBERED {
            state.known.insert(uid, (now, name.clone()));
        }
        Ok(Sender::bound(uid, name))
    }
}

fn too_slow() -> io::Error {
    let text = "the host has not told the name of a user id in time";
    io::Error::new(io::ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(5);

    fn until() -> Instant {
        Instant::now() + LONGEST
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_once_a_minute_and_those_who_may_be_anybody_have_none() {
        let asked = Arc::<AtomicUsize>::default();
        let counting = Arc::clone(&asked);
        let names = UserNames::new(move |uid| {
            counting.fetch_add(1, Ordering::Relaxed);
            Ok((uid == 10_001).then(|| "joe".to_owned()))
        });
        let senders = Senders::new(990, Some(names), LONGEST);
        let get = async |uid| senders.get(uid, until()).await.expect("a sender");
        let joe = Sender::bound(10_001, Some("joe".to_owned()));
        let nobody = Sender::bound(10_002, None);
        for (sender, expected) in [
            (Sender::unbound(0), 0),
            (Sender::unbound(990), 0),
            (joe.clone(), 1),
            (joe, 1),
            (nobody.clone(), 2),
            (nobody, 2),
        ] {
            let uid = sender.uid;
            assert_eq!(get(uid).await, sender, "{uid}");
            assert_eq!(asked.load(Ordering::Relaxed), expected, "{uid}");
        }
        tokio::time::advance(REMEMBERED).await;
        get(10_001).await;
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_host_that_tells_no_names_holds_up_few_threads_and_none_whose_name_is_known() {
        let (release, hangs) = mpsc::channel::<()>();
        let hangs = Mutex::new(hangs);
        let asked = Arc::<AtomicUsize>::default();
        let counting = Arc::clone(&asked);
        let names = UserNames::new(move |uid| {
            if uid != 1 {
                counting.fetch_add(1, Ordering::Relaxed);
                // Until the test is over.
                let _ = hangs.lock().expect("not poisoned").recv();
            }
            Ok(Some("joe".to_owned()))
        });
        let senders = Senders::new(990, Some(names), LONGEST);
        senders.get(1, until()).await.expect("a name");
        // At once: they have begun, and nobody waits for them.
        for uid in 100..150 {
            senders.state().broken_until = None;
            let until = Instant::now() + Duration::from_millis(1);
            let error = senders.get(uid, until).await.expect_err("no name");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        let begun = asked.load(Ordering::Relaxed);
        assert!(begun <= LOOKUPS_AT_A_TIME, "{begun}");
        let error = senders.get(200, until()).await.expect_err("no name");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "without waiting");
        senders.get(1, until()).await.expect("it is known");
        senders.get(0, until()).await.expect("it is not bound");
        drop(release);
    }
}
