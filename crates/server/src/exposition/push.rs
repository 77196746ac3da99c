//! What mail push has done.

use super::Exposition;
use crate::push::counters::Shown;

pub(super) fn pushes(out: &mut Exposition, shown: &Shown) {
    out.counter(
        "dovecast_push_total",
        "What mail push has read, written, sent and dropped, by what it was.",
    );
    for (what, count) in &shown.counts {
        out.sample(&[("of", what)], *count);
    }
    out.gauge("dovecast_push_streams", "Streams that are open now.");
    out.sample(&[], shown.streams);
    if shown.sources.is_empty() {
        return;
    }
    out.counter(
        "dovecast_push_sources_total",
        "What listeners have done at mailboxes, by source and by what it was.",
    );
    for (source, what, count) in &shown.sources {
        out.sample(&[("source", source.name()), ("of", what)], *count);
    }
    out.gauge(
        "dovecast_push_listening",
        "Mailboxes in which a listener waits for what happens, by IMAP IDLE.",
    );
    out.sample(&[], shown.listening);
}
