//! The transport `kafka`: librdkafka inside the mail process.

mod cluster;
mod properties;
mod queue;
mod reports;

use std::time::Instant;

pub(crate) use cluster::Cluster;
pub(crate) use properties::PropertyError;

/// Destroys all producers; each has its configured time, and these overlap.
pub(crate) fn destroy<'a>(clusters: impl Iterator<Item = &'a Cluster>) {
    let destroying: Vec<_> = clusters.filter_map(Cluster::destroy).collect();
    for (done, deadline) in destroying {
        // A thread that hangs, in a name look-up for example, is left behind: the process ends with
        // it.
        let _ = done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}
