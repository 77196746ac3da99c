//! What the dispatcher has counted, as metrics.

use dovecast_dispatch::Stats;

use super::Exposition;

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
