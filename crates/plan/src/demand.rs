//! What is asked for: mailboxes, events, endpoints, and the machines there are.

use std::ops::RangeInclusive;

use serde::Serialize;

/// Mailboxes that a plan may be for.
pub const MAILBOXES: RangeInclusive<u64> = 1..=100_000_000_000;
/// Events in a second, the mean of the busiest hour.
pub const EVENTS_PER_SECOND: RangeInclusive<u64> = 1..=1_000_000_000;
/// Endpoints.
pub const ENDPOINTS: RangeInclusive<u64> = 1..=100_000_000_000;
/// Endpoints that get an event.
pub const DELIVERIES_PER_EVENT: RangeInclusive<u64> = 1..=1_000;
/// Bytes of an event's JSON. The largest is what Kafka takes by default.
pub const RECORD_BYTES: RangeInclusive<u64> = 50..=1_000_000;
/// Hours that Kafka keeps events.
pub const RETENTION_HOURS: RangeInclusive<u64> = 1..=87_600;
/// Copies that Kafka keeps.
pub const REPLICAS: RangeInclusive<u64> = 1..=9;
/// Percentage of endpoints that are down.
pub const FAILING_PERCENT: RangeInclusive<u64> = 0..=100;
/// Milliseconds until an endpoint answers.
pub const LATENCY_MS: RangeInclusive<u64> = 1..=45_000;
/// Mailboxes of one mail host.
pub const MAILBOXES_PER_HOST: RangeInclusive<u64> = 1..=10_000_000;
/// Processors, GiB of memory and GiB of disk of a machine; Mbit/s of its network.
pub const CORES: RangeInclusive<u64> = 1..=1_024;
#[expect(missing_docs, reason = "told above")]
pub const MEMORY_GIB: RangeInclusive<u64> = 1..=65_536;
#[expect(missing_docs, reason = "told above")]
pub const DISK_GIB: RangeInclusive<u64> = 10..=10_000_000;
#[expect(missing_docs, reason = "told above")]
pub const NETWORK_MBIT: RangeInclusive<u64> = 10..=1_000_000;

/// Mailboxes for which there is one endpoint, where it is not said.
const MAILBOXES_PER_ENDPOINT: u64 = 100;

/// What the installation has to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Demand {
    /// Mailboxes.
    pub mailboxes: u64,
    /// Events in a second.
    pub events_per_second: u64,
    /// Endpoints of all accounts.
    pub endpoints: u64,
    /// Endpoints that get an event, on average.
    pub deliveries_per_event: u64,
    /// Bytes of an event's JSON.
    pub record_bytes: u64,
    /// Hours that Kafka keeps an event.
    pub retention_hours: u64,
    /// Copies that Kafka keeps.
    pub replicas: u64,
    /// Percentage of endpoints that are down at a time.
    pub failing_percent: u64,
    /// Milliseconds until an endpoint answers.
    pub latency_ms: u64,
    /// Mailboxes of a mail host, which has one relay.
    pub mailboxes_per_host: u64,
    /// Machine of which there are as many as it takes.
    pub machine: Machine,
}

/// Size of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Processors.
    pub cores: u64,
    /// Memory, GiB.
    pub memory_gib: u64,
    /// Disk, GiB.
    pub disk_gib: u64,
    /// Network, in each direction.
    pub network_mbit: u64,
}

/// Why nothing can be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {value}, expected {least} to {most}")]
pub struct BadDemand {
    /// Name of the field.
    pub field: &'static str,
    /// Value of it.
    pub value: u64,
    /// Least that it may be.
    pub least: u64,
    /// Most that it may be.
    pub most: u64,
}

impl Demand {
    /// A demand with the usual values for whatever is not said.
    pub fn new(mailboxes: u64, events_per_second: u64) -> Self {
        Self {
            mailboxes,
            events_per_second,
            endpoints: (mailboxes / MAILBOXES_PER_ENDPOINT).max(1),
            deliveries_per_event: 1,
            record_bytes: 300,
            retention_hours: 24,
            replicas: 3,
            failing_percent: 1,
            latency_ms: 100,
            mailboxes_per_host: 20_000,
            machine: Machine::default(),
        }
    }

    /// Checks that each value is within its bounds; the arithmetic relies on it.
    pub fn check(&self) -> Result<(), BadDemand> {
        for (field, value, bounds) in [
            ("mailboxes", self.mailboxes, MAILBOXES),
            (
                "events-per-second",
                self.events_per_second,
                EVENTS_PER_SECOND,
            ),
            ("endpoints", self.endpoints, ENDPOINTS),
            (
                "deliveries-per-event",
                self.deliveries_per_event,
                DELIVERIES_PER_EVENT,
            ),
            ("record-bytes", self.record_bytes, RECORD_BYTES),
            ("retention-hours", self.retention_hours, RETENTION_HOURS),
            ("replicas", self.replicas, REPLICAS),
            ("failing-percent", self.failing_percent, FAILING_PERCENT),
            ("latency-ms", self.latency_ms, LATENCY_MS),
            (
                "mailboxes-per-host",
                self.mailboxes_per_host,
                MAILBOXES_PER_HOST,
            ),
            ("cores", self.machine.cores, CORES),
            ("memory-gib", self.machine.memory_gib, MEMORY_GIB),
            ("disk-gib", self.machine.disk_gib, DISK_GIB),
            ("network-mbit", self.machine.network_mbit, NETWORK_MBIT),
        ] {
            if !bounds.contains(&value) {
                let (least, most) = bounds.into_inner();
                return Err(BadDemand {
                    field,
                    value,
                    least,
                    most,
                });
            }
        }
        Ok(())
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            cores: 8,
            memory_gib: 32,
            disk_gib: 4_000,
            network_mbit: 10_000,
        }
    }
}
