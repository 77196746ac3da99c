//! Attempts that hang, which is to say that get no answer within a moment: each is stored as still
//! to be delivered and counts as in flight no more, so that other things are read. How many there
//! may be, and how much memory they may hold, is bounded here, in all and by account.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use dovecast_notification::filter::EVERY_ACCOUNT;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::Reserved;
use crate::lane::Lane;
use crate::locks::Lock;
use crate::stats::Counters;

/// Attempts that may hang, in all: each is a connection and a body in memory. Well below the open
/// files that the service may have (65536).
const MAX_HANGING: usize = 4_096;
/// Attempts of one account that may hang, at whatever hosts: a quarter of all, so that no account
/// takes the places of the others.
const MAX_HANGING_OF_ACCOUNT: usize = MAX_HANGING / 4;
/// Attempts at one host that may hang, besides one of each endpoint: so no host takes all.
const MOST_OF_HOST: usize = 256;
/// Part of the bytes of notifications in memory that attempts that hang may hold: one in so many.
/// The rest is for what is read meanwhile.
const BYTES_SHARE: u32 = 2;
/// Part of those bytes that the attempts of one account may hold while they hang: one in so many.
const ACCOUNT_BYTES_SHARE: u32 = 8;
/// Accounts that are remembered before those of which nothing hangs are forgotten.
const KEPT_ACCOUNTS: usize = 1_000;

/// Places of attempts that hang.
#[derive(Debug)]
pub(crate) struct Hanging {
    all: Places,
    /// Places for drivers of the configuration, which no endpoint of an account takes.
    of_operator: Places,
    accounts: Lock<HashMap<Arc<str>, Arc<Places>>>,
    budget_bytes: u32,
    counters: Arc<Counters>,
}

/// Places that are shared by all, or by an account.
#[derive(Debug)]
struct Places {
    attempts: Arc<Semaphore>,
    /// One permit is a byte.
    bytes: Arc<Semaphore>,
    most_bytes: u32,
}

/// What hangs at one host, and may.
#[derive(Debug)]
pub(crate) struct AtHost {
    /// Places for all but one attempt of each endpoint.
    places: Arc<Semaphore>,
    /// Attempts that hang.
    attempts: AtomicUsize,
}

/// A place of an attempt that hangs. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Hangs {
    lane: Arc<Lane>,
    host: Option<Arc<AtHost>>,
    counters: Arc<Counters>,
    _place: OwnedSemaphorePermit,
    _of_account: OwnedSemaphorePermit,
    _at_host: Option<OwnedSemaphorePermit>,
    _bytes: Option<Arc<HangingBytes>>,
    _account: Arc<Places>,
}

/// Bytes of one notification that attempts hold which hang; shared by them.
#[derive(Debug)]
pub(crate) struct HangingBytes {
    _in_all: OwnedSemaphorePermit,
    _of_account: OwnedSemaphorePermit,
}

/// An attempt that wants to hang.
pub(crate) struct Wanted<'a> {
    pub(crate) account: &'a Arc<str>,
    /// The host, where it is known.
    pub(crate) host: Option<&'a Arc<AtHost>>,
    /// What its body takes in memory.
    pub(crate) held: Option<&'a Arc<Reserved>>,
}

/// What there is no more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Attempts,
    AttemptsOfAccount,
    AttemptsAtHost,
    Bytes,
    BytesOfAccount,
}

impl Default for AtHost {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MOST_OF_HOST)),
            attempts: AtomicUsize::new(0),
        }
    }
}

impl Places {
    fn new(attempts: usize, bytes: u32) -> Self {
        Self {
            attempts: Arc::new(Semaphore::new(attempts)),
            bytes: Arc::new(Semaphore::new(usize::try_from(bytes).unwrap_or(usize::MAX))),
            most_bytes: bytes,
        }
    }

    fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.attempts).try_acquire_owned().ok()
    }

    /// What is larger than all there is takes all of it.
    fn try_take_bytes(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        let bytes = bytes.min(self.most_bytes);
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()
    }
}

impl Hanging {
    /// `budget_bytes`: bytes of notifications that may be in memory at a time.
    pub(crate) fn new(budget_bytes: u32, counters: &Arc<Counters>) -> Self {
        Self {
            all: Places::new(MAX_HANGING, budget_bytes / BYTES_SHARE),
            of_operator: Places::new(MAX_HANGING_OF_ACCOUNT, budget_bytes / ACCOUNT_BYTES_SHARE),
            accounts: Lock::new("hanging", HashMap::new()),
            budget_bytes,
            counters: Arc::clone(counters),
        }
    }

    /// A place for an attempt of a lane, or what there is no more of.
    pub(crate) fn try_take(
        &self,
        lane: &Arc<Lane>,
        wanted: &Wanted<'_>,
    ) -> Result<Hangs, Exhausted> {
        let account = self.account(wanted.account);
        let all = if **wanted.account == *EVERY_ACCOUNT {
            &self.of_operator
        } else {
            &self.all
        };
        let place = all.try_take().ok_or(Exhausted::Attempts)?;
        let of_account = account.try_take().ok_or(Exhausted::AttemptsOfAccount)?;
        let bytes = match wanted.held {
            Some(held) => Some(bytes(all, &account, held)?),
            None => None,
        };
        // Of two workers that come here at a time one is the first.
        let first = lane
            .hanging
            .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
        let at_host = match wanted.host {
            Some(host) if first.is_err() => {
                let place = Arc::clone(&host.places).try_acquire_owned();
                Some(place.map_err(|_| Exhausted::AttemptsAtHost)?)
            }
            _ => None,
        };
        if first.is_err() {
            lane.hanging.fetch_add(1, Ordering::AcqRel);
        }
        self.counters.hanging.fetch_add(1, Ordering::AcqRel);
        if let Some(host) = wanted.host {
            host.attempts.fetch_add(1, Ordering::AcqRel);
        }
        Ok(Hangs {
            lane: Arc::clone(lane),
            host: wanted.host.cloned(),
            counters: Arc::clone(&self.counters),
            _place: place,
            _of_account: of_account,
            _at_host: at_host,
            _bytes: bytes,
            _account: account,
        })
    }

    /// Whether an attempt that is not made yet would be cut off if it hung, as others do at its
    /// host: it would be a connection for nothing.
    pub(crate) fn is_in_vain(&self, account: &Arc<str>, host: &AtHost) -> bool {
        host.attempts.load(Ordering::Acquire) > 0
            && self.account(account).attempts.available_permits() == 0
    }

    /// The places of an account. Those of accounts of which nothing hangs are forgotten now and
    /// then.
    fn account(&self, account: &Arc<str>) -> Arc<Places> {
        let mut accounts = self.accounts.lock();
        if let Some(places) = accounts.get(account) {
            return Arc::clone(places);
        }
        if accounts.len() >= KEPT_ACCOUNTS {
            accounts.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let bytes = self.budget_bytes / ACCOUNT_BYTES_SHARE;
        let places = Arc::new(Places::new(MAX_HANGING_OF_ACCOUNT, bytes));
        accounts.insert(Arc::clone(account), Arc::clone(&places));
        places
    }
}

/// The bytes of a notification, which count once however many attempts share them.
fn bytes(
    all: &Places,
    account: &Places,
    held: &Arc<Reserved>,
) -> Result<Arc<HangingBytes>, Exhausted> {
    let mut hanging = held.hanging.lock();
    if let Some(bytes) = hanging.upgrade() {
        return Ok(bytes);
    }
    let in_all = all.try_take_bytes(held.bytes());
    let in_all = in_all.ok_or(Exhausted::Bytes)?;
    let of_account = account.try_take_bytes(held.bytes());
    let bytes = Arc::new(HangingBytes {
        _in_all: in_all,
        _of_account: of_account.ok_or(Exhausted::BytesOfAccount)?,
    });
    *hanging = Arc::downgrade(&bytes);
    Ok(bytes)
}

impl Drop for Hangs {
    fn drop(&mut self) {
        self.lane.hanging.fetch_sub(1, Ordering::AcqRel);
        if let Some(host) = &self.host {
            host.attempts.fetch_sub(1, Ordering::AcqRel);
        }
        self.counters.hanging.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What no attempt that hangs holds.
pub(crate) fn not_hanging() -> Lock<Weak<HangingBytes>> {
    Lock::new("hanging bytes", Weak::new())
}

#[cfg(test)]
mod tests;
