//! Connections to push services that are kept for the next push.
//!
//! They are closed when they have had nothing to do for a while, and one by one while others wait
//! for their places.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::http::Connection;
use crate::http::sockets::AccountSockets;

/// How long a connection is kept that has nothing to do: services close theirs after a minute.
const KEPT_FOR: Duration = Duration::from_secs(45);
/// Most connections to one host that are kept.
const KEPT_OF_HOST: usize = 32;
/// Most connections that are kept: endpoints of Web Push may be at very many hosts.
const KEPT: usize = 256;

/// Connections by the names of their origins.
pub(super) struct Idle {
    sockets: AccountSockets,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_origin: HashMap<String, Vec<(Instant, Connection)>>,
    count: usize,
    /// Whether a task closes what is old.
    is_swept: bool,
}

impl Idle {
    pub(super) fn new(sockets: AccountSockets) -> Self {
        Self {
            sockets,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The youngest connection to this origin.
    pub(super) fn take(&self, origin: &str) -> Option<Connection> {
        let mut kept = self.kept();
        let found = loop {
            let (since, connection) = kept.by_origin.get_mut(origin)?.pop()?;
            kept.count -= 1;
            if since.elapsed() < KEPT_FOR && connection.is_usable() {
                break connection;
            }
        };
        if kept.by_origin.get(origin).is_some_and(Vec::is_empty) {
            kept.by_origin.remove(origin);
        }
        Some(found)
    }

    /// Keeps a connection, if there is room and nobody waits for its place.
    pub(super) fn keep(self: &Arc<Self>, origin: &str, connection: Connection) {
        if !self.sockets.may_keep() {
            return;
        }
        let mut kept = self.kept();
        if kept.count >= KEPT {
            return;
        }
        let of_origin = kept.by_origin.entry(origin.to_owned()).or_default();
        if of_origin.len() >= KEPT_OF_HOST {
            return;
        }
        of_origin.push((Instant::now(), connection));
        kept.count += 1;
        if !kept.is_swept {
            kept.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self), self.sockets.clone()));
        }
    }

    /// Closes what is older than `age`, at most so many; `false`: nothing is left.
    fn close(&self, age: Duration, most: usize) -> bool {
        let mut closed = Vec::new();
        let mut kept = self.kept();
        kept.by_origin.retain(|_, connections| {
            while closed.len() < most
                && let Some((since, _)) = connections.first()
                && since.elapsed() >= age
            {
                closed.push(connections.remove(0));
            }
            !connections.is_empty()
        });
        kept.count -= closed.len();
        kept.is_swept = kept.count > 0;
        kept.is_swept
    }
}

/// Closes connections until there are none.
async fn sweep(idle: Weak<Idle>, sockets: AccountSockets) {
    loop {
        let (age, most) = tokio::select! {
            () = tokio::time::sleep(KEPT_FOR) => (KEPT_FOR, usize::MAX),
            () = sockets.wanted() => (Duration::ZERO, 1),
        };
        let is_left = idle.upgrade().is_some_and(|idle| idle.close(age, most));
        if !is_left {
            return;
        }
    }
}
