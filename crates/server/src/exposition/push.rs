//! What mail push has done.

use super::Exposition;

pub(super) fn pushes(out: &mut Exposition, (counts, streams): &(Vec<(&'static str, u64)>, u64)) {
    if counts.is_empty() {
        return;
    }
    out.counter(
        "dovecast_push_total",
        "What mail push has read, written, sent and dropped, by what it was.",
    );
    for (what, count) in counts {
        out.sample(&[("of", what)], *count);
    }
    out.gauge("dovecast_push_streams", "Streams that are open now.");
    out.sample(&[], *streams);
}
