//! Ranges of the log that this process has claimed because no dispatcher delivers them (`take_up`),
//! by endpoint, and the endpoints that want more.

use std::collections::{HashMap, VecDeque};
use std::sync::MutexGuard;

use dovecast_notification::EndpointId;
use tokio::sync::Notify;

use crate::ledger::OwedRange;
use crate::locks::{Held, Lock};

/// What was taken up, by endpoint. An endpoint is in it as long as its task runs.
#[derive(Debug)]
pub(crate) struct TakenUp {
    endpoints: Lock<HashMap<EndpointId, Taken>>,
    /// Endpoints that have come to the end of what was claimed for them.
    wanting: Lock<Vec<EndpointId>>,
    /// An endpoint has come to be among those.
    pub(crate) is_wanted: Notify,
}

/// What was claimed for an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Not begun, each with the number of our life in which it was claimed.
    pub(crate) queue: VecDeque<(OwedRange, u64)>,
    /// Whether there may be more.
    pub(crate) is_more: bool,
}

impl Default for TakenUp {
    fn default() -> Self {
        Self {
            endpoints: Lock::new("taken up", HashMap::new()),
            wanting: Lock::new("wanting", Vec::new()),
            is_wanted: Notify::new(),
        }
    }
}

impl TakenUp {
    pub(crate) fn endpoints(&self) -> Held<MutexGuard<'_, HashMap<EndpointId, Taken>>> {
        self.endpoints.lock()
    }

    pub(crate) fn wanting(&self) -> Held<MutexGuard<'_, Vec<EndpointId>>> {
        self.wanting.lock()
    }

    /// Whether more is to be claimed for an endpoint.
    pub(crate) fn has_room(&self, endpoint: EndpointId) -> bool {
        let endpoints = self.endpoints();
        let taken = endpoints.get(&endpoint);
        taken.is_none_or(|taken| taken.queue.is_empty())
    }
}
