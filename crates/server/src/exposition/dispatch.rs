//! What the dispatcher has counted, as metrics.

use dovecast_dispatch::{ANSWER_CLASSES, Stats, TIMING_BUCKETS_MS, Timing, Timings};

use super::{Exposition, seconds};
use crate::serve::backlog::Backlog;

pub(super) fn dispatch(out: &mut Exposition, stats: &Stats, statements: Option<u64>) {
    if let Some(statements) = statements {
        out.count(
            "dovecast_store_statements_total",
            "Statements that this process has sent to the store, those that begin and end transactions included.",
            statements,
        );
    }
    records(out, stats);
    deliveries(out, stats);
    left_in_log(out, stats);
    faults(out, stats);
    gauges(out, stats);
    times(out, &stats.timings);
}

/// How long attempts took, and how long it was from an event to its delivery.
fn times(out: &mut Exposition, timings: &Timings) {
    out.family(
        "dovecast_dispatch_attempt_seconds",
        "histogram",
        "How long attempts took, by class of the status that was answered; their number is in _count.",
    );
    for (class, timing) in ANSWER_CLASSES.into_iter().zip(&timings.attempts) {
        timing_of(out, &[("status", class)], timing);
    }
    out.family(
        "dovecast_dispatch_delivery_seconds",
        "histogram",
        "How long it was from an event, or from when a notification was made, until an endpoint had it.",
    );
    timing_of(out, &[], &timings.deliveries);
}

fn timing_of(out: &mut Exposition, labels: &[(&str, &str)], timing: &Timing) {
    let mut so_far = 0;
    for (bucket, count) in timing.buckets.iter().enumerate() {
        so_far += count;
        let bound = TIMING_BUCKETS_MS.get(bucket);
        let bound = bound.map_or_else(|| "+Inf".to_owned(), |ms| seconds(ms * 1000));
        let labels = [labels, &[("le", bound.as_str())]].concat();
        out.sample_of("_bucket", &labels, so_far);
    }
    out.sample_of("_sum", labels, seconds(timing.sum_us));
    out.sample_of("_count", labels, so_far);
}

/// What endpoints owe: all together, and those that owe most.
pub(super) fn backlog(out: &mut Exposition, backlog: &Backlog) {
    out.gauge(
        "dovecast_dispatch_owed_deliveries",
        "Deliveries that are owed and stand in the store; ranges of the log are not among them.",
    );
    out.sample(&[], backlog.deliveries);
    out.gauge(
        "dovecast_dispatch_owed_ranges",
        "Ranges of the log that are still to be delivered.",
    );
    out.sample(&[], backlog.ranges);
    out.gauge(
        "dovecast_dispatch_endpoint_owed_deliveries",
        "Deliveries that are owed to an endpoint, of those endpoints that are owed most.",
    );
    for (endpoint, owed) in &backlog.largest {
        out.sample(&[("endpoint", &endpoint.to_string())], owed);
    }
}

pub(super) fn locked(out: &mut Exposition, endpoints: usize) {
    out.gauge(
        "dovecast_dispatch_locked_endpoints",
        "Endpoints that are paused on this node because their secrets cannot be opened.",
    );
    out.sample(&[], endpoints as u64);
}

/// What was read of the log.
fn records(out: &mut Exposition, stats: &Stats) {
    for (name, help, value) in [
        (
            "dovecast_dispatch_records_total",
            "Records that were read from the log to be dispatched.",
            stats.records,
        ),
        (
            "dovecast_dispatch_bad_records_total",
            "Records that are not notifications; they are dead letters.",
            stats.bad_records,
        ),
        (
            "dovecast_dispatch_bad_records_not_kept_total",
            "Records that are not notifications, and no dead letters, as too many came in their minute.",
            stats.bad_records_not_kept,
        ),
        (
            "dovecast_dispatch_damaged_total",
            "Damaged places of the log that were skipped.",
            stats.damaged,
        ),
        (
            "dovecast_dispatch_matched_total",
            "Notifications that the filter of an endpoint matched.",
            stats.matched,
        ),
        (
            "dovecast_dispatch_expired_records_total",
            "Records that the log had removed before they were read, live or for an endpoint that catches up.",
            stats.expired,
        ),
        (
            "dovecast_dispatch_missing_records_total",
            "Records that an endpoint still owed and that lie behind the end of the log: it was made anew, truncated or restored.",
            stats.missing,
        ),
    ] {
        out.count(name, help, value);
    }
}

/// What became of deliveries.
fn deliveries(out: &mut Exposition, stats: &Stats) {
    for (name, help, value) in [
        (
            "dovecast_dispatch_delivered_total",
            "Deliveries that endpoints have accepted.",
            stats.delivered,
        ),
        (
            "dovecast_dispatch_failed_attempts_total",
            "Attempts that failed and are retried.",
            stats.failed,
        ),
        (
            "dovecast_dispatch_dead_letters_total",
            "Deliveries that were refused or failed too often.",
            stats.dead,
        ),
        (
            "dovecast_dispatch_fallbacks_total",
            "Dead letters that were passed to a fallback endpoint.",
            stats.fallen_back,
        ),
        (
            "dovecast_dispatch_dropped_total",
            "Deliveries to endpoints that are not active.",
            stats.dropped,
        ),
        (
            "dovecast_dispatch_cut_off_attempts_total",
            "Attempts that were ended early because too many hang; they are retried.",
            stats.cut_off,
        ),
        (
            "dovecast_dispatch_put_off_attempts_total",
            "Times that no attempt was begun, because others hang at its host and one more would be ended early.",
            stats.in_vain,
        ),
        (
            "dovecast_dispatch_lost_attempts_total",
            "Attempts that are not in the history, because the store was away.",
            stats.attempts_lost,
        ),
    ] {
        out.count(name, help, value);
    }
}

/// What was left in the log, or not evaluated.
fn left_in_log(out: &mut Exposition, stats: &Stats) {
    for (name, help, value) in [
        (
            "dovecast_dispatch_deferred_total",
            "Deliveries that were left in the log for an endpoint that is slow, down or paused.",
            stats.deferred,
        ),
        (
            "dovecast_dispatch_held_back_total",
            "Deliveries in order that are owed because an earlier one of their key is.",
            stats.held_back,
        ),
        (
            "dovecast_dispatch_conditions_deferred_total",
            "Deferred deliveries whose condition exceeded what may be evaluated for its account at a time.",
            stats.conditions_deferred,
        ),
        (
            "dovecast_dispatch_conditions_not_run_total",
            "Conditions that were not run, because they would cost too much on a notification: they do not hold.",
            stats.conditions_not_run,
        ),
        (
            "dovecast_dispatch_account_waits_total",
            "Times that a delivery waited because its account has as many attempts as [quota] allows.",
            stats.account_waits,
        ),
        (
            "dovecast_dispatch_crowded_out_total",
            "Deliveries that were left in the log because max_in_flight_mb was used up.",
            stats.crowded_out,
        ),
    ] {
        out.count(name, help, value);
    }
}

/// What has failed in this process.
fn faults(out: &mut Exposition, stats: &Stats) {
    for (name, help, value) in [
        (
            "dovecast_dispatch_store_errors_total",
            "Times that the store could not be written or read.",
            stats.ledger_errors,
        ),
        (
            "dovecast_dispatch_panics_total",
            "Panics in the dispatcher, a fault of the program; each is in the server's log, and its work is retried.",
            stats.panics,
        ),
        (
            "dovecast_dispatch_restarts_total",
            "Times that the dispatcher was restarted within the process after a fault.",
            stats.restarts,
        ),
    ] {
        out.count(name, help, value);
    }
}

/// How things are now.
fn gauges(out: &mut Exposition, stats: &Stats) {
    for (name, help, value) in [
        (
            "dovecast_dispatch_in_flight",
            "Deliveries that wait or are under way.",
            stats.in_flight,
        ),
        (
            "dovecast_dispatch_hanging",
            "Attempts that have had no answer for a second; they are owed and not in flight.",
            stats.hanging,
        ),
        (
            "dovecast_dispatch_in_flight_bytes",
            "Memory that bodies take which wait, are under way or are to be written to the store.",
            stats.in_flight_bytes,
        ),
        (
            "dovecast_dispatch_readers",
            "Readers of the log that are open for endpoints that catch up.",
            stats.readers,
        ),
        (
            "dovecast_dispatch_conditions_waiting",
            "Notifications that wait until their account's conditions are evaluated.",
            stats.conditions_waiting,
        ),
    ] {
        out.gauge(name, help);
        out.sample(&[], value);
    }
}
