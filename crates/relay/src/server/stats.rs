//! What the relay has counted since it was started.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::wire::Refusal;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters, as they are counted.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
        }

        /// Counters of a relay, at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct RelayStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> RelayStats {
                RelayStats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

impl Counters {
    pub(super) fn count_refusal(&self, reason: Refusal) {
        let counter = match reason {
            Refusal::Peer => &self.refused_peers,
            Refusal::Busy => &self.refused_busy,
            Refusal::Version => &self.refused_version,
            Refusal::Malformed => &self.malformed,
            Refusal::Stopping => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

counters! {
    /// Clients that are connected now.
    clients,
    /// Connections that were accepted.
    accepted,
    /// Clients whose user may not send.
    refused_peers,
    /// Clients that were too many, or sent a frame too slowly, or whose spill file or name could
    /// not be looked at just then.
    refused_busy,
    /// Clients of another version of the protocol.
    refused_version,
    /// Clients that sent what is no frame, or said nothing at all.
    malformed,
    /// Clients that did not read their acknowledgements.
    unread,
    /// Records that clients have sent and that are durable, those that were there already included.
    records,
    /// Records from clients and spill files that were there already.
    duplicates,
    /// Records of clients and spill files that are not taken; they are lost.
    dropped,
    /// Bytes that clients have sent.
    bytes,
    /// Times that a client was held back because its user sends too much.
    held_back,
    /// Times that a client could not be accepted.
    accept_errors,
    /// Appends that failed and were tried again.
    append_errors,
    /// Spill files that were taken in to their end.
    spill_files,
    /// Records from spill files.
    spill_records,
    /// Times that spill files were held back because their user sends too much.
    spill_held_back,
    /// Spill files that ended within a record.
    spill_torn,
    /// Records of spill files that the configuration refuses; their files are kept.
    spill_kept,
    /// Files with such records that were too many and were removed.
    spill_kept_removed,
    /// Spill files that are not taken in: of a user who may not send, or no proper files.
    spill_refused,
    /// Spill files that are there now.
    spill_pending,
}
