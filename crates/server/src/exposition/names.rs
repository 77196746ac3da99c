//! What is counted of the lookups of names.

use dovecast_drivers::http::sockets::SocketStats;
use dovecast_drivers::names::NameStats;

use super::Exposition;

pub(super) fn names(out: &mut Exposition, stats: &NameStats) {
    for (name, help, value) in [
        (
            "dovecast_names_lookups_total",
            "Names of endpoints that were looked up; answers are cached for some seconds.",
            stats.lookups,
        ),
        (
            "dovecast_names_failed_total",
            "Names of endpoints for which no address was found.",
            stats.failed,
        ),
        (
            "dovecast_names_held_back_total",
            "Lookups that had to wait, because as many were under way as there may be, for their account or in all.",
            stats.held_back,
        ),
    ] {
        out.counter(name, help);
        out.sample(&[], value);
    }
    out.gauge(
        "dovecast_names_under_way",
        "Names of endpoints that are being looked up.",
    );
    out.sample(&[], stats.under_way);
    out.gauge(
        "dovecast_names_waiting",
        "Names of endpoints that wait to be looked up.",
    );
    out.sample(&[], stats.waiting);
}

/// Processes that render templates of accounts.
pub(super) fn templates(out: &mut Exposition, deaths: u64) {
    out.count(
        "dovecast_dispatch_template_deaths_total",
        "Processes that have died of a template of an account, or were killed because of one.",
        deaths,
    );
}

/// Connections to endpoints.
pub(super) fn sockets(out: &mut Exposition, stats: &SocketStats) {
    out.gauge(
        "dovecast_dispatch_connections",
        "Connections to endpoints that are open or being opened, those that are idle included.",
    );
    out.sample(&[], stats.open);
    out.gauge(
        "dovecast_dispatch_connections_limit",
        "Connections to endpoints that there may be.",
    );
    out.sample(&[], stats.most);
    out.count(
        "dovecast_dispatch_connection_waits_total",
        "Times that a delivery had to wait until another connection was closed.",
        stats.waits,
    );
}
