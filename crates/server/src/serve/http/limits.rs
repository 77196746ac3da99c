//! What bounds the connections of one listener.

use std::time::Duration;

use ipnet::IpNet;

use crate::config::Http;

/// Most connections to the listener of health and metrics: many times what probes and scrapers of
/// one host have open, and few enough to cost nothing.
const MONITOR_PLACES: usize = 100;
/// Most of them from one address, so that nobody who may connect keeps all others from asking.
const MONITOR_PLACES_PER_ADDRESS: usize = 50;

/// Bounds of the connections of one listener.
pub(crate) struct Limits {
    /// Most connections at a time; those beyond wait in the backlog of the socket.
    pub(super) places: usize,
    /// Most connections from one address.
    pub(super) per_address: Option<usize>,
    /// What that bound is called in the log.
    pub(super) per_address_is: &'static str,
    /// Who may have all places.
    pub(super) trusted: Vec<IpNet>,
    pub(super) times: Times,
    /// Whether its connections are those that metrics count.
    pub(super) is_counted: bool,
}

/// How long a client may take.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// For the head of a request: the first from when it is connected, others from their first
    /// byte.
    pub(super) head: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
    /// For the body of a request, until its answer, and to read that.
    pub(super) request: Duration,
}

impl Limits {
    /// Bounds of the connections to the API.
    pub(crate) fn of_api(config: &Http) -> Self {
        let per_address = config.max_connections_per_address.get_usize();
        Self {
            places: config.max_connections.get_usize(),
            per_address: (per_address > 0).then_some(per_address),
            per_address_is: "`max_connections_per_address` of [http]",
            trusted: config.trusted_proxies.clone(),
            times: Times::new(config),
            is_counted: true,
        }
    }

    /// Bounds of the connections to health and metrics.
    pub(crate) fn of_monitor(config: &Http) -> Self {
        Self {
            places: MONITOR_PLACES,
            per_address: Some(MONITOR_PLACES_PER_ADDRESS),
            per_address_is: "all connections for health and metrics that one may have",
            trusted: Vec::new(),
            times: Times::new(config),
            is_counted: false,
        }
    }
}

impl Times {
    fn new(config: &Http) -> Self {
        let head = config.header_timeout_seconds.get();
        // One that was raised for a proxy with long idle connections still serves it.
        let idle = config.idle_timeout_seconds.get().max(head);
        Self {
            head: Duration::from_secs(head),
            idle: Duration::from_secs(idle),
            request: Duration::from_secs(config.request_timeout_seconds.get()),
        }
    }
}
