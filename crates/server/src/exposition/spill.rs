//! Metrics of spill files.

use dovecast_relay::server::RelayStats;

use super::Exposition;

/// What has become of spill files.
pub(super) fn write(out: &mut Exposition, relay: &RelayStats) {
    for (name, help, value) in [
        (
            "dovecast_relay_spill_files_total",
            "Spill files whose records were appended to the log.",
            relay.spill_files,
        ),
        (
            "dovecast_relay_spill_records_total",
            "Records from spill files.",
            relay.spill_records,
        ),
        (
            "dovecast_relay_spill_torn_total",
            "Spill files that ended within a record.",
            relay.spill_torn,
        ),
        (
            "dovecast_relay_spill_kept_records_total",
            "Records of spill files that the configuration refuses; their files are kept.",
            relay.spill_kept,
        ),
        (
            "dovecast_relay_spill_kept_removed_files_total",
            "Files with such records that were too many and were removed; what was in them is lost.",
            relay.spill_kept_removed,
        ),
        (
            "dovecast_relay_spill_refused_total",
            "Spill files that were refused: malformed, or of users who may not send.",
            relay.spill_refused,
        ),
    ] {
        out.count(name, help, value);
    }
    out.gauge(
        "dovecast_relay_spill_pending_files",
        "Spill files that are there now.",
    );
    out.sample(&[], relay.spill_pending);
}
