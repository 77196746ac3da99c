//! The command line of `dovecast plan`.

use std::ops::RangeInclusive;

use clap::{Args, builder::RangedU64ValueParser};
use dovecast_plan::{Demand, Machine, demand};

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// Mailboxes
    #[arg(long, value_name = "N", value_parser = within(demand::MAILBOXES), required_unless_present = "constants")]
    pub(crate) mailboxes: Option<u64>,
    /// Events in a second: the mean of the busiest hour
    #[arg(long, value_name = "E", value_parser = within(demand::EVENTS_PER_SECOND), required_unless_present = "constants")]
    pub(crate) events_per_second: Option<u64>,
    /// Endpoints of all accounts; by default one for a hundred mailboxes
    #[arg(long, value_name = "M", value_parser = within(demand::ENDPOINTS))]
    pub(crate) endpoints: Option<u64>,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
    #[arg(
        long,
        conflicts_with_all = ["mailboxes", "events_per_second"],
        help = "Print the figures that plans are made of, and where each comes from"
    )]
    pub(crate) constants: bool,
    #[command(flatten)]
    pub(crate) traffic: TrafficArguments,
    #[command(flatten)]
    pub(crate) machine: MachineArguments,
}

/// What else is known of the traffic.
#[derive(Debug, Args)]
#[command(next_help_heading = "The traffic")]
pub(crate) struct TrafficArguments {
    /// Endpoints that get an event, on average [default: 1]
    #[arg(long, value_name = "F", value_parser = within(demand::DELIVERIES_PER_EVENT))]
    pub(crate) deliveries_per_event: Option<u64>,
    /// Bytes of an event's JSON [default: 300]
    #[arg(long, value_name = "BYTES", value_parser = within(demand::RECORD_BYTES))]
    pub(crate) record_bytes: Option<u64>,
    /// Hours that Kafka keeps an event [default: 24]
    #[arg(long, value_name = "HOURS", value_parser = within(demand::RETENTION_HOURS))]
    pub(crate) retention_hours: Option<u64>,
    /// Copies that Kafka keeps [default: 3]
    #[arg(long, value_name = "N", value_parser = within(demand::REPLICAS))]
    pub(crate) replicas: Option<u64>,
    /// Percentage of endpoints that are down at a time [default: 1]
    #[arg(long, value_name = "PERCENT", value_parser = within(demand::FAILING_PERCENT))]
    pub(crate) failing_percent: Option<u64>,
    /// Milliseconds until an endpoint answers [default: 100]
    #[arg(long, value_name = "MS", value_parser = within(demand::LATENCY_MS))]
    pub(crate) latency_ms: Option<u64>,
    /// Mailboxes of a mail host [default: 20000]
    #[arg(long, value_name = "N", value_parser = within(demand::MAILBOXES_PER_HOST))]
    pub(crate) mailboxes_per_host: Option<u64>,
}

/// The machines there are.
#[derive(Debug, Args)]
#[command(next_help_heading = "A machine")]
pub(crate) struct MachineArguments {
    /// Processors [default: 8]
    #[arg(long, value_name = "N", value_parser = within(demand::CORES))]
    pub(crate) cores: Option<u64>,
    /// Memory [default: 32]
    #[arg(long, value_name = "GIB", value_parser = within(demand::MEMORY_GIB))]
    pub(crate) memory_gib: Option<u64>,
    /// Disk [default: 4000]
    #[arg(long, value_name = "GIB", value_parser = within(demand::DISK_GIB))]
    pub(crate) disk_gib: Option<u64>,
    /// Network, in each direction [default: 10000]
    #[arg(long, value_name = "MBIT", value_parser = within(demand::NETWORK_MBIT))]
    pub(crate) network_mbit: Option<u64>,
    /// Price of one machine, in any currency and period: prints the total
    #[arg(long, value_name = "PRICE", conflicts_with_all = ["json", "constants"])]
    pub(crate) price: Option<u64>,
}

fn within(bounds: RangeInclusive<u64>) -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(bounds)
}

impl PlanArguments {
    /// What is to be planned; nothing where no mailboxes or no events are said.
    pub(crate) fn demand(&self) -> Option<Demand> {
        let usual = Demand::new(self.mailboxes?, self.events_per_second?);
        let (traffic, machine) = (&self.traffic, &self.machine);
        Some(Demand {
            endpoints: self.endpoints.unwrap_or(usual.endpoints),
            deliveries_per_event: traffic
                .deliveries_per_event
                .unwrap_or(usual.deliveries_per_event),
            record_bytes: traffic.record_bytes.unwrap_or(usual.record_bytes),
            retention_hours: traffic.retention_hours.unwrap_or(usual.retention_hours),
            replicas: traffic.replicas.unwrap_or(usual.replicas),
            failing_percent: traffic.failing_percent.unwrap_or(usual.failing_percent),
            latency_ms: traffic.latency_ms.unwrap_or(usual.latency_ms),
            mailboxes_per_host: traffic
                .mailboxes_per_host
                .unwrap_or(usual.mailboxes_per_host),
            machine: Machine {
                cores: machine.cores.unwrap_or(usual.machine.cores),
                memory_gib: machine.memory_gib.unwrap_or(usual.machine.memory_gib),
                disk_gib: machine.disk_gib.unwrap_or(usual.machine.disk_gib),
                network_mbit: machine.network_mbit.unwrap_or(usual.machine.network_mbit),
            },
            ..usual
        })
    }
}
