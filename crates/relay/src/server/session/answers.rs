//! What a client is told: acknowledgements, and what of its records is not taken.

use std::sync::atomic::Ordering;
use std::time::Instant;

use dovecast_log::LogError;

use super::{Appended, End, Session};
use crate::server::batch::Batch;
use crate::wire::{self, OLDEST_VERSION, Refusal};

impl Session<'_> {
    /// Tells the client what has become of its records; returns why it is to be sent away then.
    pub(super) fn acknowledge(&mut self, appended: Appended) -> Option<End> {
        let Appended {
            records,
            rejections,
            done,
        } = appended;
        // The log is closed: the client sends them again to the next relay.
        if matches!(done, Err(LogError::Closed)) {
            self.is_at_end = true;
            // What came behind it must not take its place.
            self.batch = Batch::default();
            return None;
        }
        let counters = &self.relay.counters;
        let rejected = rejections.count();
        let duplicates = done.map_or(0, |appended| appended.duplicates as u64);
        // A client of version 1 keeps what is rejected; its spill file is where that counts.
        let is_told = self.version > OLDEST_VERSION;
        for (counter, count) in [
            (&counters.duplicates, duplicates),
            (&counters.dropped, if is_told { rejected } else { 0 }),
            (&counters.records, records - rejected),
        ] {
            counter.fetch_add(count, Ordering::Relaxed);
        }
        if let Some(reason) = rejections.reason() {
            if self.relay.peers.rejected.take(self.sender.uid) {
                tracing::warn!(
                    uid = self.sender.uid,
                    pid = self.pid,
                    records = rejected,
                    reason,
                    "records of a client are not taken"
                );
            }
            if !is_told {
                // It would take an acknowledgement for all of them. What it keeps now it leaves in
                // a spill file.
                self.batch = Batch::default();
                return Some(End::Refused(Refusal::Malformed, reason.to_owned()));
            }
        }
        self.durable += records;
        rejections.write(&mut self.outbox, self.durable);
        // Of several acknowledgements that wait only the last one says something; a half-written
        // one has to stay.
        if rejected > 0 || self.outbox.len() < 64 {
            wire::write_ack(&mut self.outbox, self.durable);
        } else {
            let last = self.outbox.len() - 8;
            self.outbox[last..].copy_from_slice(&self.durable.to_le_bytes());
        }
        None
    }

    /// Writes as much as the client takes.
    pub(super) fn write(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        if let Ok(written) = self.socket.try_write(&self.outbox) {
            self.outbox.drain(..written);
        } else {
            // The client has gone; what it sent before is appended all the same.
            self.outbox.clear();
        }
        if self.outbox.is_empty() {
            if self.stuck_since.take().is_some() {
                self.socket.watch_writing(false);
            }
            self.outbox = Vec::new();
        } else {
            self.stuck_since.get_or_insert_with(Instant::now);
            self.socket.watch_writing(true);
        }
    }

    /// Waits until the client has left its answers unread for too long.
    pub(super) async fn stuck_too_long(&self) {
        match self.stuck_since {
            None => std::future::pending().await,
            Some(since) => {
                let until = since + self.relay.options.unread_time;
                tokio::time::sleep_until(until.into()).await;
            }
        }
    }
}
