//! What the answer of an endpoint means for the delivery.

use std::time::Duration;

use dovecast_dispatch::driver::{Answer, Attempt, Outcome};
use hyper::Response;

use crate::http;

/// Most bytes of an answer's head that are kept.
const HEAD_BYTES: usize = 2048;

/// What an answer means.
pub(crate) fn judged(head: &Response<()>) -> Attempt {
    let status = head.status().as_u16();
    let reason = format!("the endpoint answers {}", head.status());
    let outcome = match status {
        200..=299 => Outcome::Delivered,
        408 | 409 | 425 | 429 | 500..=599 => Outcome::Failed {
            reason,
            retry_after: http::retry_after(head.headers()),
        },
        410 => Outcome::Gone { reason },
        _ => Outcome::Refused { reason },
    };
    Attempt {
        note: None,
        outcome,
        answer: Some(Answer {
            status: Some(status),
            head: http::head_text(head, HEAD_BYTES),
        }),
        latency: Duration::ZERO,
    }
}
