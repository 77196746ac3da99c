//! Endpoints as the workers know them: how each is reached, how often it is tried, how much at a
//! time.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLockReadGuard};

use dovecast_notification::{Content, EndpointId, Filter, Index};

use crate::account_pace::AccountPace;
use crate::driver::Target;
use crate::ledger::Millis;
use crate::locks::{Held, ReadWriteLock};
use crate::permits::{Permit, Permits};
use crate::schedule::Schedule;

/// An endpoint.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a thing that may be said of an endpoint"
)]
pub struct Endpoint {
    /// Id of the endpoint.
    pub id: EndpointId,
    /// Number of the account that it belongs to; what an account may take of threads that all share
    /// is bounded.
    pub account: Arc<str>,
    /// The receiver.
    pub target: Arc<dyn Target>,
    /// Whether the endpoint receives notifications; those for one that is not active are dropped.
    pub is_active: bool,
    /// Whether deliveries wait: those to a paused endpoint are owed.
    pub is_paused: bool,
    /// When deliveries that failed are retried.
    pub schedule: Schedule,
    /// Deliveries at a time.
    pub concurrency: usize,
    /// Deliveries in a second at most, from this process.
    pub rate_limit: Option<NonZeroU32>,
    /// How many attempts all endpoints of the account may have together; `None`: any number.
    pub account_pace: Option<Arc<AccountPace>>,
    /// Whether deliveries of one key go one after the other, in the order of the log.
    pub is_ordered: bool,
    /// What the endpoint may see of a mail; `None`: everything.
    pub content: Option<Arc<Content>>,
    /// Gets what ends as a dead letter here.
    pub fallback: Option<EndpointId>,
    /// Whether a dead letter disables the endpoint, as with hooks-backend.
    pub is_disabled_by_failure: bool,
    /// When a person saved it last, or asked for all that it owes: with another one what has failed
    /// before says nothing about it.
    pub saved_ms: Millis,
}

/// All endpoints, and which notifications each wants.
#[derive(Debug)]
pub struct Directory {
    entries: ReadWriteLock<Entries>,
    /// How many endpoints want deliveries in order.
    ordered: Permits,
    /// Whether there are endpoints that are in order since the last time that was asked.
    has_news: AtomicBool,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            entries: ReadWriteLock::new("directory", Entries::default()),
            ordered: Permits::default(),
            has_news: AtomicBool::new(false),
        }
    }
}

impl Endpoint {
    /// An active endpoint that is served as is usual.
    pub fn new(id: EndpointId, account: Arc<str>, target: Arc<dyn Target>) -> Self {
        Self {
            id,
            account,
            target,
            is_active: true,
            is_paused: false,
            schedule: Schedule::default(),
            concurrency: 1,
            rate_limit: None,
            account_pace: None,
            is_ordered: false,
            content: None,
            fallback: None,
            is_disabled_by_failure: false,
            saved_ms: 0,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Entries {
    index: Index<Arc<Endpoint>>,
    endpoints: HashMap<EndpointId, Entry>,
    newly_ordered: BTreeSet<EndpointId>,
}

/// An endpoint of the directory.
#[derive(Debug)]
struct Entry {
    endpoint: Arc<Endpoint>,
    /// For one that wants deliveries in order.
    _ordered: Option<Permit>,
}

impl Directory {
    /// Takes an endpoint in, or what was changed of it.
    pub fn put(&self, endpoint: Endpoint, filter: Option<Filter>) {
        let endpoint = Arc::new(endpoint);
        let mut entries = self.entries.write();
        let ordered = endpoint.is_ordered.then(|| self.ordered.take());
        if endpoint.is_ordered && !entries.is_ordered(endpoint.id) {
            entries.newly_ordered.insert(endpoint.id);
            self.has_news.store(true, Ordering::Release);
        }
        match filter {
            Some(filter) => entries
                .index
                .insert(Arc::new(filter), Arc::clone(&endpoint)),
            None => drop(entries.index.remove(endpoint.id)),
        }
        let id = endpoint.id;
        let entry = Entry {
            endpoint,
            _ordered: ordered,
        };
        entries.endpoints.insert(id, entry);
    }

    /// Takes an endpoint out.
    pub fn remove(&self, id: EndpointId) {
        let mut entries = self.entries.write();
        entries.index.remove(id);
        entries.endpoints.remove(&id);
    }

    /// Whether an endpoint wants deliveries in order.
    pub(crate) fn is_ordered(&self, id: EndpointId) -> bool {
        self.read().is_ordered(id)
    }

    /// Whether any endpoint wants deliveries in order.
    pub(crate) fn has_ordered(&self) -> bool {
        self.ordered.is_any()
    }

    /// Endpoints that are in order since this was asked last.
    pub(crate) fn take_newly_ordered(&self) -> BTreeSet<EndpointId> {
        if !self.has_news.load(Ordering::Acquire) {
            return BTreeSet::new();
        }
        let mut entries = self.entries.write();
        self.has_news.store(false, Ordering::Release);
        std::mem::take(&mut entries.newly_ordered)
    }

    /// Takes those out that are not to be kept.
    pub fn retain(&self, is_kept: impl Fn(EndpointId) -> bool) {
        let ids: Vec<EndpointId> = self.read().endpoints.keys().copied().collect();
        for id in ids.into_iter().filter(|id| !is_kept(*id)) {
            self.remove(id);
        }
    }

    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.read().endpoints.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn read(&self) -> Held<RwLockReadGuard<'_, Entries>> {
        self.entries.read()
    }

    pub(crate) fn endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        let entries = self.read();
        let entry = entries.endpoints.get(&id)?;
        Some(Arc::clone(&entry.endpoint))
    }

    /// Endpoints of these accounts.
    pub(crate) fn endpoints_of(&self, accounts: &BTreeSet<Arc<str>>) -> Vec<EndpointId> {
        if accounts.is_empty() {
            return Vec::new();
        }
        let entries = self.read();
        let all = entries.endpoints.values().map(|entry| &entry.endpoint);
        let theirs = all.filter(|endpoint| accounts.contains(&endpoint.account));
        theirs.map(|endpoint| endpoint.id).collect()
    }

    pub(crate) fn filter(&self, id: EndpointId) -> Option<Arc<Filter>> {
        self.read().index.get(id).cloned()
    }
}

impl Entries {
    pub(crate) fn index(&self) -> &Index<Arc<Endpoint>> {
        &self.index
    }

    fn is_ordered(&self, id: EndpointId) -> bool {
        let entry = self.endpoints.get(&id);
        entry.is_some_and(|entry| entry.endpoint.is_ordered)
    }
}
