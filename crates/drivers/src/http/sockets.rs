//! Connections to endpoints, those that are idle included: each takes a descriptor of the process,
//! so there are so many in all, and so many of one account.
//!
//! Who finds no place waits for one. While somebody waits, no connection is kept for the next
//! delivery, and those that are idle are closed one by one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Connection;
use crate::by_account::ByAccount;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Part of all places that one account gets at most: one in so many, so that none takes those of
/// all others.
const ACCOUNT_SHARE: usize = 4;

/// Places of connections; clones are the same.
#[derive(Clone)]
pub struct Sockets(Arc<Inner>);

struct Inner {
    all: Arc<Pool>,
    of_account: usize,
    accounts: ByAccount<Pool>,
    waits: AtomicU64,
}

/// Places that all share, or those of an account.
struct Pool {
    most: usize,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Tells one idle connection that its place is wanted.
    wanted: Notify,
}

/// Places of the endpoints of one account.
#[derive(Clone)]
pub struct AccountSockets {
    sockets: Arc<Inner>,
    account: Arc<Pool>,
}

/// Place of one connection; free again when it is dropped.
pub struct SocketPermit {
    _of_account: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// What was counted of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketStats {
    /// Connections that are open or being opened.
    pub open: usize,
    /// How many there may be.
    pub most: usize,
    /// Times that one had to wait for another to be closed.
    pub waits: u64,
}

/// As many places as there can be.
impl Default for Sockets {
    fn default() -> Self {
        Self::new(Semaphore::MAX_PERMITS)
    }
}

impl Sockets {
    /// Makes so many places.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner {
            all: Arc::new(Pool::new(most)),
            of_account: (most / ACCOUNT_SHARE).max(1),
            accounts: ByAccount::default(),
            waits: AtomicU64::new(0),
        }))
    }

    /// Places of an account.
    pub fn of_account(&self, account: &Arc<str>) -> AccountSockets {
        let of_account = self.0.of_account;
        let pool = self.0.accounts.get(account, || Pool::new(of_account));
        AccountSockets {
            sockets: Arc::clone(&self.0),
            account: pool,
        }
    }

    /// What was counted so far.
    pub fn stats(&self) -> SocketStats {
        let all = &self.0.all;
        SocketStats {
            open: all.most - all.free.available_permits().min(all.most),
            most: all.most,
            waits: self.0.waits.load(Ordering::Relaxed),
        }
    }
}

impl AccountSockets {
    /// A place for a connection, as soon as there is one.
    pub async fn place(&self) -> SocketPermit {
        if let Some(place) = self.try_place() {
            return place;
        }
        self.sockets.waits.fetch_add(1, Ordering::Relaxed);
        SocketPermit {
            _of_account: self.account.take().await,
            _of_all: self.sockets.all.take().await,
        }
    }

    /// A place for a connection, if there is one.
    pub fn try_place(&self) -> Option<SocketPermit> {
        Some(SocketPermit {
            _of_account: self.account.try_take()?,
            _of_all: self.sockets.all.try_take()?,
        })
    }

    /// Whether a connection may be kept that has nothing to do: nobody waits for its place.
    pub fn may_keep(&self) -> bool {
        let pools = [&self.account, &self.sockets.all];
        pools
            .iter()
            .all(|pool| pool.waiting.load(Ordering::Acquire) == 0)
    }

    /// Waits until the place of an idle connection is wanted.
    pub async fn wanted(&self) {
        tokio::select! {
            () = self.account.wanted.notified() => {}
            () = self.sockets.all.wanted.notified() => {}
        }
    }

    /// Keeps an idle connection until the other side closes it, or its place is wanted; without one
    /// it never returns.
    pub async fn keep(&self, idle: &mut Option<Connection>) {
        match idle {
            Some(connection) => tokio::select! {
                () = connection.closed() => {}
                () = self.wanted() => {}
            },
            None => std::future::pending().await,
        }
        *idle = None;
    }
}

impl Pool {
    fn new(most: usize) -> Self {
        Self {
            most,
            free: Arc::new(Semaphore::new(most)),
            waiting: AtomicUsize::new(0),
            wanted: Notify::new(),
        }
    }

    fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    async fn take(&self) -> OwnedSemaphorePermit {
        if let Some(place) = self.try_take() {
            return place;
        }
        let _waiting = Waiting::new(&self.waiting);
        self.wanted.notify_one();
        match Arc::clone(&self.free).acquire_owned().await {
            Ok(place) => place,
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Count of a waiting connection, taken back when it is dropped.
struct Waiting<'p>(&'p AtomicUsize);

impl<'p> Waiting<'p> {
    fn new(count: &'p AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for AccountSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountSockets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::by_account::FIRST_SWEEP;

    #[test]
    fn an_account_leaves_places_to_others_and_is_forgotten_with_its_endpoints() {
        let sockets = Sockets::new(8);
        let (one, other) = (Arc::from("1"), Arc::from("2"));
        let first = sockets.of_account(&one);
        let places: Vec<SocketPermit> = std::iter::from_fn(|| first.try_place()).collect();
        assert_eq!(places.len(), 2);
        assert!(sockets.of_account(&one).try_place().is_none());
        assert!(sockets.of_account(&other).try_place().is_some());
        let stats = sockets.stats();
        assert_eq!((stats.open, stats.most), (2, 8));
        drop((places, first));
        for number in 0..3 * FIRST_SWEEP {
            sockets.of_account(&Arc::from(number.to_string()));
        }
        assert!(sockets.0.accounts.len() <= FIRST_SWEEP);
        assert_eq!(sockets.stats().open, 0);
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_of_an_idle_connection() {
        for most in [1, 4] {
            let sockets = Sockets::new(most).of_account(&Arc::from("1"));
            let mut idle = Some(sockets.place().await);
            assert!(sockets.may_keep());
            let waiting = sockets.place();
            let closing = async {
                sockets.wanted().await;
                assert!(!sockets.may_keep());
                drop(idle.take());
            };
            let (place, ()) = tokio::join!(waiting, closing);
            assert!(sockets.may_keep());
            drop(place);
            assert_eq!(sockets.sockets.waits.load(Ordering::Relaxed), 1);
        }
    }
}
