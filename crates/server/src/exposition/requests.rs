//! What is counted of HTTP.

use super::{Exposition, seconds};
use crate::serve::http::stats::{BUCKETS_US, HttpCounts, Slow};

pub(super) fn requests(out: &mut Exposition, counts: &HttpCounts) {
    out.gauge(
        "dovecast_http_connections",
        "Connections that are open now.",
    );
    out.sample(&[], counts.connections);
    out.count(
        "dovecast_http_refused_connections_total",
        "Connections that were closed because their address has as many as it may have.",
        counts.refused,
    );
    out.count(
        "dovecast_http_accept_errors_total",
        "Times that no connection could be accepted, for want of descriptors for example.",
        counts.not_accepted,
    );
    out.counter(
        "dovecast_http_timeouts_total",
        "Connections and requests that were ended by a timeout, by what was waited for.",
    );
    for (slow, count) in Slow::ALL.into_iter().zip(counts.slow) {
        out.sample(&[("of", slow.as_str())], count);
    }
    out.family(
        "dovecast_http_request_seconds",
        "histogram",
        "How long requests took until their answer began, by route, method and class of status.",
    );
    for (kind, durations) in &counts.requests {
        let labels = [
            ("route", kind.route.as_str()),
            ("method", kind.method),
            ("status", kind.status),
        ];
        let mut so_far = 0;
        for (bucket, count) in durations.buckets.iter().enumerate() {
            so_far += count;
            let bound = BUCKETS_US.get(bucket);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |us| seconds(*us));
            let [route, method, status] = labels;
            out.sample_of("_bucket", &[route, method, status, ("le", &bound)], so_far);
        }
        out.sample_of("_sum", &labels, seconds(durations.sum_us));
        out.sample_of("_count", &labels, so_far);
    }
}
