//! What is counted of the way from the spool to Kafka.

use dovecast_relay::ship::ShipStats;

use super::Exposition;

pub(super) fn shipped(out: &mut Exposition, shipper: &ShipStats) {
    for (name, help, value) in [
        (
            "dovecast_ship_records_total",
            "Records of the spool that Kafka has.",
            shipper.shipped,
        ),
        (
            "dovecast_ship_refused_records_total",
            "Records that Kafka refuses for good; they are lost, or dead letters.",
            shipper.refused,
        ),
        (
            "dovecast_ship_dead_letters_total",
            "Records that Kafka refuses for good and that were stored as dead letters.",
            shipper.kept,
        ),
        (
            "dovecast_ship_known_records_total",
            "Records that Kafka had already when the relay was started; they were not shipped again.",
            shipper.known,
        ),
        (
            "dovecast_ship_errors_total",
            "Appends to Kafka that failed and were retried.",
            shipper.errors,
        ),
        (
            "dovecast_ship_damaged_total",
            "Damaged places of the spool that were skipped.",
            shipper.damaged,
        ),
    ] {
        out.count(name, help, value);
    }
}

pub(super) fn held(out: &mut Exposition, shipper: &ShipStats) {
    out.gauge(
        "dovecast_ship_held_bytes",
        "Memory that records of the spool take which wait for Kafka.",
    );
    out.sample(&[], shipper.held_bytes);
}
