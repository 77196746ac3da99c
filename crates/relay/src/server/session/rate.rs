//! How fast a user may send: who has sent more is not read for a while. Nothing is lost by that; it
//! waits in the socket and in the mail process, which spills what it cannot hold.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::Session;

impl Session<'_> {
    /// Counts what was taken of the client for its user.
    pub(super) fn charge(&self, records: u64, bytes: u64) {
        let now = Instant::now().into_std();
        let uid = self.sender.uid;
        let wait = self.relay.rates.charge(uid, (records, bytes), now);
        if wait.is_zero() {
            return;
        }
        self.relay
            .counters
            .held_back
            .fetch_add(1, Ordering::Relaxed);
        if self.relay.peers.held_back.take(uid) {
            let limits = self.relay.rates.limits();
            tracing::warn!(
                uid,
                wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                records_per_second = limits.count,
                bytes_per_second = limits.bytes,
                "a user sends more than [quota] allows: its mail processes are read more slowly"
            );
        }
    }

    /// Until when the user is to be read no more, if it has sent too much.
    pub(super) fn held_until(&self) -> Option<Instant> {
        let now = Instant::now();
        let wait = self.relay.rates.wait(&self.sender.uid, now.into_std());
        (!wait.is_zero()).then(|| now + wait)
    }
}

/// Waits until then; for ever if there is nothing to be waited for.
pub(super) async fn until(held: Option<Instant>) {
    match held {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
