//! Drivers: the code for one kind of destination each.
//!
//! A driver is told what to deliver and says what came of it; when to try again, and what is kept of an attempt, is the
//! dispatcher's business. Nothing here logs: secrets and mail contents pass through.

#![forbid(unsafe_code)]

pub mod guard;
pub mod headers;
pub mod http;
pub mod names;
pub mod signature;
pub mod tls;
pub mod webhook;

use std::time::Duration;

use bytes::Bytes;

/// What is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The same in each attempt: what the receiver de-duplicates by.
    pub webhook_id: String,
    /// JSON.
    pub body: Bytes,
}

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Whether it is done.
    pub outcome: Outcome,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The head of the answer, cut.
    pub response_head: String,
    /// How long it took.
    pub latency: Duration,
}

/// Whether a delivery is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint has it.
    Delivered,
    /// It may go well later.
    Failed {
        /// Why it did not now.
        reason: String,
        /// Not before this time has passed, as the endpoint says.
        retry_after: Option<Duration>,
    },
    /// The endpoint will never take it.
    Refused {
        /// Why.
        reason: String,
    },
}
