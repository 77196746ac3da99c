//! Endpoints as the workers know them: how each is reached, how often it is tried, how much at a
//! time.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, RwLockReadGuard};

use crate::driver::Target;
use crate::locks::{Held, ReadWriteLock};
use crate::schedule::Schedule;
use dovecast_notification::{EndpointId, Filter, Index};

/// An endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Id of the endpoint.
    pub id: EndpointId,
    /// Number of the account that it belongs to; what an account may take of threads that all share
    /// is bounded.
    pub account: Arc<str>,
    /// The receiver; where the settings are wrong, why.
    pub target: Result<Arc<dyn Target>, String>,
    /// Whether the endpoint receives notifications; those for one that is not active are dropped.
    pub is_active: bool,
    /// Whether deliveries wait: those to a paused endpoint are owed.
    pub is_paused: bool,
    /// When failures are tried again.
    pub schedule: Schedule,
    /// Deliveries at a time.
    pub concurrency: usize,
    /// Deliveries in a second at most, from this process.
    pub rate_limit: Option<NonZeroU32>,
    /// Gets what ends as a dead letter here.
    pub fallback: Option<EndpointId>,
    /// Whether a dead letter ends the use of the endpoint, as with hooks-backend.
    pub is_switched_off_by_failure: bool,
}

/// All endpoints, and which notifications each wants.
#[derive(Debug)]
pub struct Directory(ReadWriteLock<Entries>);

impl Default for Directory {
    fn default() -> Self {
        Self(ReadWriteLock::new("directory", Entries::default()))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Entries {
    index: Index<Arc<Endpoint>>,
    endpoints: HashMap<EndpointId, Arc<Endpoint>>,
}

impl Directory {
    /// Takes an endpoint in, or what was changed of it.
    pub fn put(&self, endpoint: Endpoint, filter: Option<Filter>) {
        let endpoint = Arc::new(endpoint);
        let mut entries = self.0.write();
        match filter {
            Some(filter) => entries
                .index
                .insert(Arc::new(filter), Arc::clone(&endpoint)),
            None => drop(entries.index.remove(endpoint.id)),
        }
        entries.endpoints.insert(endpoint.id, endpoint);
    }

    /// Takes an endpoint out.
    pub fn remove(&self, id: EndpointId) {
        let mut entries = self.0.write();
        entries.index.remove(id);
        entries.endpoints.remove(&id);
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
        self.0.read()
    }

    pub(crate) fn endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        self.read().endpoints.get(&id).cloned()
    }

    pub(crate) fn filter(&self, id: EndpointId) -> Option<Arc<Filter>> {
        self.read().index.get(id).cloned()
    }
}

impl Entries {
    pub(crate) fn index(&self) -> &Index<Arc<Endpoint>> {
        &self.index
    }
}
