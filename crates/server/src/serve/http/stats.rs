//! What is counted of HTTP: connections, clients that were too slow, requests by route, method and
//! class of status.
//!
//! Routes are patterns of the program and methods those that it knows, so that nobody outside can
//! make up more of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode};

/// Upper bounds of the buckets of durations, in microseconds; one more is without a bound.
pub(crate) const BUCKETS_US: [u64; 7] = [
    1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000,
];
/// What has no route.
const NO_ROUTE: &str = "none";

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct HttpStats {
    connections: AtomicU64,
    slow: [AtomicU64; 4],
    /// Connections that were closed because their address has as many as it may have.
    refused: AtomicU64,
    /// Times that no connection could be accepted.
    not_accepted: AtomicU64,
    requests: Mutex<BTreeMap<Kind, Durations>>,
}

/// Who was waited for too long.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slow {
    /// A client that did not send the head of its first request, or only half of one's.
    Head,
    /// A client that sent no further request.
    Idle,
    /// A request that was not answered, or whose body did not come.
    Request,
    /// A client that did not read its answer.
    Reader,
}

impl Slow {
    pub(crate) const ALL: [Self; 4] = [Self::Head, Self::Idle, Self::Request, Self::Reader];

    /// What it is called in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Request => "request",
            Self::Reader => "reader",
        }
    }
}

/// Requests that are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// The pattern, such as `/api/hooks/endpoints/{id}`.
    pub(crate) route: String,
    /// `other`: none that is in use here.
    pub(crate) method: &'static str,
    /// `2xx`.
    pub(crate) status: &'static str,
}

/// How long requests took until their answer began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durations {
    /// By [`BUCKETS_US`], each without those before.
    pub(crate) buckets: [u64; BUCKETS_US.len() + 1],
    /// All together.
    pub(crate) sum_us: u64,
}

/// What was counted so far.
#[derive(Debug, Default)]
pub(crate) struct HttpCounts {
    pub(crate) connections: u64,
    /// In the order of [`Slow::ALL`].
    pub(crate) slow: [u64; 4],
    pub(crate) refused: u64,
    pub(crate) not_accepted: u64,
    pub(crate) requests: BTreeMap<Kind, Durations>,
}

/// A connection, as long as it is there.
pub(super) struct Connected(Arc<HttpStats>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Kind {
    pub(super) fn new(route: Option<&str>, method: &Method, status: StatusCode) -> Self {
        let known = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ];
        let names = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        let place = known.iter().position(|known| known == method);
        Self {
            route: route.unwrap_or(NO_ROUTE).to_owned(),
            method: place.map_or("other", |place| names[place]),
            status: match status.as_u16() / 100 {
                2 => "2xx",
                3 => "3xx",
                4 => "4xx",
                5 => "5xx",
                _ => "1xx",
            },
        }
    }
}

impl HttpStats {
    pub(super) fn connected(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }

    pub(super) fn was_not_accepted(&self) {
        self.not_accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn was_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn was_slow(&self, slow: Slow) {
        self.slow[slow as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, kind: Kind, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.iter().position(|bound| us <= *bound);
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let durations = requests.entry(kind).or_default();
        durations.buckets[bucket.unwrap_or(BUCKETS_US.len())] += 1;
        durations.sum_us = durations.sum_us.saturating_add(us);
    }

    pub(crate) fn counts(&self) -> HttpCounts {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        HttpCounts {
            connections: self.connections.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            not_accepted: self.not_accepted.load(Ordering::Relaxed),
            slow: Slow::ALL.map(|slow| self.slow[slow as usize].load(Ordering::Relaxed)),
            requests: requests.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_the_program_knows() {
        let stats = HttpStats::default();
        let made_up = Method::from_bytes(b"BREW").expect("a method");
        for (route, method, status, ms) in [
            (Some("/a/{id}"), Method::GET, StatusCode::OK, 1),
            (Some("/a/{id}"), Method::GET, StatusCode::NO_CONTENT, 2),
            (Some("/a/{id}"), Method::GET, StatusCode::NOT_FOUND, 600_000),
            (None, made_up, StatusCode::NOT_FOUND, 0),
        ] {
            stats.answered(Kind::new(route, &method, status), Duration::from_millis(ms));
        }
        let shown: Vec<_> = stats
            .counts()
            .requests
            .into_iter()
            .map(|(kind, durations)| {
                let Kind {
                    route,
                    method,
                    status,
                } = kind;
                (
                    format!("{method} {route} {status}"),
                    durations.buckets,
                    durations.sum_us,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                (
                    "GET /a/{id} 2xx".to_owned(),
                    [1, 1, 0, 0, 0, 0, 0, 0],
                    3_000
                ),
                (
                    "GET /a/{id} 4xx".to_owned(),
                    [0, 0, 0, 0, 0, 0, 0, 1],
                    600_000_000
                ),
                ("other none 4xx".to_owned(), [1, 0, 0, 0, 0, 0, 0, 0], 0),
            ]
        );
    }

    #[test]
    fn a_connection_counts_as_long_as_it_is_there() {
        let stats = Arc::<HttpStats>::default();
        let one = stats.connected();
        let other = stats.connected();
        drop(one);
        assert_eq!(stats.counts().connections, 1);
        drop(other);
        assert_eq!(stats.counts().connections, 0);
        stats.was_slow(Slow::Reader);
        assert_eq!(stats.counts().slow, [0, 0, 0, 1]);
    }
}
