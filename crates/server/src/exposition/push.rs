//! What mail push has done.

use super::Exposition;

pub(super) fn pushes(out: &mut Exposition, counts: &[(&'static str, u64)]) {
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
}
