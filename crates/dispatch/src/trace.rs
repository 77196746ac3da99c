//! Spans that follow a notification by its id, from the log to the attempt. At the level `debug`:
//! where it is not asked for they cost a comparison.
//!
//! `notification{id, topic, partition, offset}` begins when a record is read, and again when a
//! delivery is owed and due (`notification{id, failures}`). Each
//! `attempt{endpoint.id, number}` is within one. No span and no event holds a message.

use dovecast_log::Record;
use dovecast_notification::{EndpointId, NotificationId};
use tracing::{Span, debug, debug_span};

use crate::driver::{Attempt, Outcome};

/// Span of a notification that was read from the log.
pub(crate) fn read(id: NotificationId, record: &Record) -> Span {
    debug_span!(
        "notification",
        %id,
        topic = &*record.topic,
        partition = record.partition,
        offset = record.offset
    )
}

/// Span of a notification of which a delivery was owed and is due.
pub(crate) fn owed(id: NotificationId, failures: u32) -> Span {
    debug_span!("notification", %id, failures)
}

/// Notes how many endpoints want a notification.
pub(crate) fn matched(notification: &Span, endpoints: usize) {
    notification.in_scope(|| debug!(endpoints, "matched"));
}

/// Notes that a notification waits in the log, because an endpoint is behind.
pub(crate) fn deferred(notification: &Span, endpoint: EndpointId) {
    notification.in_scope(|| debug!(endpoint.id = %endpoint, "left to a range of the log"));
}

/// Span of an attempt; the first is 1.
pub(crate) fn attempt(notification: &Span, endpoint: EndpointId, number: u32) -> Span {
    debug_span!(parent: notification, "attempt", endpoint.id = %endpoint, number)
}

/// What came of an attempt.
pub(crate) fn tried(attempt: &Span, made: &Attempt) {
    let status = made.status();
    let latency_us = u64::try_from(made.latency.as_micros()).unwrap_or(u64::MAX);
    attempt.in_scope(|| match &made.outcome {
        Outcome::Delivered => debug!(status, latency_us, "delivered"),
        Outcome::Failed { reason, .. } => debug!(status, latency_us, reason, "failed"),
        Outcome::NotMade { reason } => debug!(latency_us, reason, "not made"),
        Outcome::Refused { reason } => debug!(status, latency_us, reason, "refused"),
        Outcome::Gone { reason } => debug!(status, latency_us, reason, "gone"),
    });
}
