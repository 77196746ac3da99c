//! What the answer of an endpoint means for the delivery.

use std::time::{Duration, SystemTime};

use dovecast_dispatch::driver::{Answer, Attempt, Outcome};
use hyper::Response;
use hyper::header::RETRY_AFTER;

use crate::http;

/// Most bytes of an answer's head that are kept.
const HEAD_BYTES: usize = 2048;
/// A `Retry-After` further away counts as this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// What an answer means.
pub(super) fn judged(head: &Response<()>) -> Attempt {
    let status = head.status().as_u16();
    let reason = format!("the endpoint answers {}", head.status());
    let outcome = match status {
        200..=299 => Outcome::Delivered,
        408 | 409 | 425 | 429 | 500..=599 => Outcome::Failed {
            reason,
            retry_after: retry_after(head),
        },
        410 => Outcome::Gone { reason },
        _ => Outcome::Refused { reason },
    };
    Attempt {
        outcome,
        answer: Some(Answer {
            status: Some(status),
            head: http::head_text(head, HEAD_BYTES),
        }),
        latency: Duration::ZERO,
    }
}

/// RFC 9110, 10.2.3: seconds, or a date.
fn retry_after(head: &Response<()>) -> Option<Duration> {
    let value = head.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = value.parse() {
        Duration::from_secs(seconds)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(SystemTime::now()).unwrap_or_default()
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}
