//! `/metrics`: the text of Prometheus, written from what the parts have counted.

mod dispatch;
mod log;
#[cfg(feature = "lua")]
mod lua;
mod names;
pub(crate) mod process;
mod push;
mod quotas;
mod requests;
#[cfg(feature = "kafka")]
mod ship;
mod spill;

use std::fmt::Write;

use dovecast_dispatch::Stats as DispatchStats;
use dovecast_drivers::http::sockets::SocketStats;
#[cfg(feature = "lua")]
use dovecast_drivers::lua::LuaStats;
use dovecast_drivers::names::NameStats;
use dovecast_log::embedded::EmbeddedStats;
use dovecast_log::{GroupStatus, TopicStatus};
use dovecast_operations::QuotaStats;
use dovecast_relay::server::RelayStats;
#[cfg(feature = "kafka")]
use dovecast_relay::ship::ShipStats;
use dovecast_store::Trimmed;

use crate::push::counters::Shown;
use crate::serve::backlog::Backlog;
use crate::serve::http::stats::HttpCounts;
use crate::sources::ox::GuessStats;

/// What the parts have counted.
pub(crate) struct Snapshot {
    pub(crate) relay: Option<RelayStats>,
    pub(crate) log: EmbeddedStats,
    #[cfg(feature = "kafka")]
    pub(crate) shipper: Option<ShipStats>,
    /// Clients of Kafka that were replaced.
    #[cfg(feature = "kafka")]
    pub(crate) renewed: Option<u64>,
    /// And the number of endpoints whose secrets cannot be opened here.
    pub(crate) dispatch: Option<(DispatchStats, usize)>,
    /// What scripts of the driver `lua` have done, by the names of their blocks.
    #[cfg(feature = "lua")]
    pub(crate) scripts: Vec<(String, LuaStats)>,
    /// What endpoints owe, if there is a store that says it.
    pub(crate) backlog: Option<Backlog>,
    /// Statements that were sent to the store, if there is one.
    pub(crate) statements: Option<u64>,
    /// What was removed of the past of accounts that had too much of it.
    pub(crate) trimmed: Option<Trimmed>,
    /// What was said of user and password of `[ox]`.
    pub(crate) ox: GuessStats,
    /// Connections to endpoints.
    pub(crate) sockets: SocketStats,
    /// Processes that have died of templates of accounts.
    pub(crate) template_deaths: u64,
    /// Lookups of endpoints' names.
    pub(crate) names: NameStats,
    pub(crate) http: HttpCounts,
    /// What was refused of accounts that have taken what they may.
    pub(crate) quotas: Option<QuotaStats>,
    /// What mail push has done, if it runs here.
    pub(crate) pushes: Option<Shown>,
    pub(crate) lost_lines: u64,
    pub(crate) topics: Vec<TopicStatus>,
    pub(crate) groups: Vec<GroupStatus>,
}

/// The text.
pub(crate) fn render(snapshot: &Snapshot) -> String {
    let mut out = Exposition::default();
    out.gauge("dovecast_build_info", "Version of the server.");
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    out.counter(
        "dovecast_server_log_lines_lost_total",
        "Lines of the server's own log that could not be written.",
    );
    out.sample(&[], snapshot.lost_lines);
    if let Some(stats) = &snapshot.relay {
        relay(&mut out, stats);
        spill::write(&mut out, stats);
    }
    log::log(&mut out, &snapshot.log);
    log::ends(&mut out, &snapshot.topics, &snapshot.groups);
    #[cfg(feature = "kafka")]
    if let Some(shipper) = &snapshot.shipper {
        ship::shipped(&mut out, shipper);
        ship::held(&mut out, shipper);
    }
    #[cfg(feature = "kafka")]
    if let Some(renewed) = snapshot.renewed {
        out.count(
            "dovecast_kafka_renewed_clients_total",
            "Producers and consumers of Kafka that had failed for good and were replaced.",
            renewed,
        );
    }
    if let Some((stats, locked)) = &snapshot.dispatch {
        dispatch::dispatch(&mut out, stats, snapshot.statements);
        dispatch::locked(&mut out, *locked);
        names::sockets(&mut out, &snapshot.sockets);
        names::templates(&mut out, snapshot.template_deaths);
        names::names(&mut out, &snapshot.names);
        #[cfg(feature = "lua")]
        lua::scripts(&mut out, &snapshot.scripts);
    }
    if let Some(backlog) = &snapshot.backlog {
        dispatch::backlog(&mut out, backlog);
    }
    process::process(&mut out);
    requests::requests(&mut out, &snapshot.http);
    quotas::ox(&mut out, &snapshot.ox);
    if let Some(stats) = &snapshot.quotas {
        quotas::refused(&mut out, stats);
    }
    if let Some(pushes) = &snapshot.pushes {
        push::pushes(&mut out, pushes);
    }
    if let Some(trimmed) = &snapshot.trimmed {
        quotas::trimmed(&mut out, trimmed);
    }
    out.text
}

fn relay(out: &mut Exposition, relay: &RelayStats) {
    out.gauge(
        "dovecast_relay_clients",
        "Mail processes that are connected now.",
    );
    out.sample(&[], relay.clients);
    out.counter(
        "dovecast_relay_refused_total",
        "Clients that were refused or disconnected, by reason.",
    );
    for (reason, count) in [
        ("peer", relay.refused_peers),
        ("busy", relay.refused_busy),
        ("version", relay.refused_version),
        ("malformed", relay.malformed),
        ("unread", relay.unread),
    ] {
        out.sample(&[("reason", reason)], count);
    }
    for (name, help, value) in [
        (
            "dovecast_relay_accepted_total",
            "Connections of clients.",
            relay.accepted,
        ),
        (
            "dovecast_relay_records_total",
            "Records of clients that are durable, duplicates included.",
            relay.records,
        ),
        (
            "dovecast_relay_duplicate_records_total",
            "Records of clients and spill files that the log had already.",
            relay.duplicates,
        ),
        (
            "dovecast_relay_dropped_records_total",
            "Records of clients and spill files that are not taken; they are lost.",
            relay.dropped,
        ),
        (
            "dovecast_relay_received_bytes_total",
            "Bytes that clients have sent.",
            relay.bytes,
        ),
        (
            "dovecast_relay_held_back_total",
            "Times that a client was read later because its user sends more than [quota] allows.",
            relay.held_back,
        ),
        (
            "dovecast_relay_spill_held_back_total",
            "Times that spill files were taken in later because their user sends more than [quota] allows.",
            relay.spill_held_back,
        ),
        (
            "dovecast_relay_accept_errors_total",
            "Times that no client could be accepted, for want of descriptors for example.",
            relay.accept_errors,
        ),
        (
            "dovecast_relay_append_errors_total",
            "Appends that failed and were retried.",
            relay.append_errors,
        ),
    ] {
        out.count(name, help, value);
    }
}

/// Microseconds as a decimal number of seconds.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// Text in the making: a family, then its samples.
#[derive(Default)]
struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    fn gauge(&mut self, name: &'static str, help: &str) {
        self.family(name, "gauge", help);
    }

    fn counter(&mut self, name: &'static str, help: &str) {
        self.family(name, "counter", help);
    }

    /// A counter without labels.
    fn count(&mut self, name: &'static str, help: &str, value: u64) {
        self.counter(name, help);
        self.sample(&[], value);
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        // Writing into a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.sample_of("", labels, value);
    }

    /// A sample of the family's name and a suffix.
    fn sample_of(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (place, (name, label)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{name}=\"{}\"", escaped(label));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use dovecast_log::embedded::COMMIT_BUCKETS_US;

    use super::*;

    #[test]
    fn buckets_count_what_the_ones_before_have_and_labels_are_escaped() {
        let mut stats = EmbeddedStats {
            commit_sum_us: 2_500_001,
            removed_of_keys: [("hooks.outbox".to_owned(), 7)].into(),
            ..EmbeddedStats::default()
        };
        stats.commit_buckets[0] = 3;
        stats.commit_buckets[COMMIT_BUCKETS_US.len()] = 2;
        let mut out = Exposition::default();
        log::log(&mut out, &stats);
        for line in [
            "# TYPE dovecast_log_commit_seconds histogram",
            r#"dovecast_log_commit_seconds_bucket{le="0.000250"} 3"#,
            r#"dovecast_log_commit_seconds_bucket{le="1.000000"} 3"#,
            r#"dovecast_log_commit_seconds_bucket{le="+Inf"} 5"#,
            "dovecast_log_commit_seconds_sum 2.500001",
            "dovecast_log_commit_seconds_count 5",
            r#"dovecast_log_removed_of_keys_records_total{topic="hooks.outbox"} 7"#,
        ] {
            assert!(
                out.text.lines().any(|written| written == line),
                "{line} in {}",
                out.text
            );
        }
        let mut out = Exposition::default();
        out.gauge("a", "b");
        out.sample(&[("topic", "x\"\\\ny"), ("partition", "0")], 1);
        assert!(
            out.text
                .ends_with("\na{topic=\"x\\\"\\\\\\ny\",partition=\"0\"} 1\n"),
            "{}",
            out.text
        );
    }
}
