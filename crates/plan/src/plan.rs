//! The arithmetic of a plan. Everything is a whole number, rounded up; with a demand within its
//! bounds nothing overflows 128 bits.

use serde::Serialize;

use crate::demand::{BadDemand, Demand};
use crate::limits::{self, Limit};
use crate::measured as m;

const NS: u128 = 1_000_000_000;
const MIB: u128 = 1024 * 1024;
const HOUR: u128 = 3_600;
/// Least machines of a role: one may be away.
const LEAST_MACHINES: u128 = 2;

/// What an installation takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What it is for.
    pub demand: Demand,
    /// Deliveries in a second.
    pub deliveries_per_second: u128,
    /// Partitions of the topic of events.
    pub partitions: u128,
    /// Dispatchers, one of them to spare.
    pub dispatchers: u128,
    /// Why there are so many of them.
    pub dispatchers_because: &'static str,
    /// Statements of all dispatchers in a second.
    pub statements_per_second: u128,
    /// Rows of attempts that are written in a second.
    pub attempt_rows_per_second: u128,
    /// Seconds until a row of attempts is dropped for newer ones.
    pub attempts_kept_s: u128,
    /// Rows of ranges while so many endpoints are down as is said.
    pub range_rows: u128,
    /// Bytes of write-ahead log in a second.
    pub wal_bytes_per_second: u128,
    /// Seconds from the last heartbeat of a dispatcher until others have its ranges, at most.
    pub taken_over_s: u128,
    /// By role.
    pub parts: Vec<Part>,
    /// Machines of all roles; mail hosts are there already.
    pub machines: u128,
    /// What ends when the demand grows, the first one first.
    pub limits: Vec<Limit>,
}

/// What a role takes, all its processes together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Name of the role.
    pub name: &'static str,
    /// Processes.
    pub processes: u128,
    /// Thousandths of a processor that are used.
    pub millicores: u128,
    /// Memory.
    pub memory_mib: u128,
    /// Disk that is filled.
    pub disk_mib: u128,
    /// Network in the busier direction.
    pub network_kbit: u128,
    /// Machines of the size that is said; 0: it runs on the mail hosts.
    pub machines: u128,
}

impl Plan {
    /// Plans.
    pub fn of(demand: &Demand) -> Result<Self, BadDemand> {
        demand.check()?;
        let load = Load::of(demand);
        let (dispatchers, dispatchers_because) = dispatchers(&load);
        let spread = m::PARTITIONS_PER_DISPATCHER.of() * dispatchers;
        let partitions = spread.max(m::LEAST_PARTITIONS.of());
        let store = Store::of(&load, dispatchers, partitions);
        let parts = vec![
            relays(&load),
            dispatcher_part(&load, dispatchers),
            postgres(&store),
            kafka(&load, partitions),
        ];
        let machines = parts.iter().map(|part| part.machines).sum();
        let mut plan = Self {
            demand: *demand,
            deliveries_per_second: load.deliveries,
            partitions,
            dispatchers,
            dispatchers_because,
            statements_per_second: store.statements,
            attempt_rows_per_second: store.rows,
            attempts_kept_s: store.kept_s,
            range_rows: store.ranges,
            wal_bytes_per_second: store.wal,
            taken_over_s: m::ALIVE.of() + m::TAKE_UP_INTERVAL.of(),
            parts,
            machines,
            limits: Vec::new(),
        };
        plan.limits = limits::of(&plan);
        Ok(plan)
    }

    /// The part of a role.
    pub(crate) fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }
}

/// Names of the roles.
pub(crate) const RELAYS: &str = "relays, on the mail hosts";
pub(crate) const DISPATCHERS: &str = "dispatchers";
pub(crate) const POSTGRES: &str = "PostgreSQL";
pub(crate) const KAFKA: &str = "Kafka";

/// The demand, as numbers that are reckoned with.
struct Load {
    demand: Demand,
    events: u128,
    deliveries: u128,
    endpoints: u128,
    /// Endpoints that are down.
    failing: u128,
    /// Bytes of an event in Kafka.
    record: u128,
    replicas: u128,
}

impl Load {
    fn of(demand: &Demand) -> Self {
        let events = u128::from(demand.events_per_second);
        let endpoints = u128::from(demand.endpoints);
        Self {
            demand: *demand,
            events,
            deliveries: events * u128::from(demand.deliveries_per_event),
            endpoints,
            failing: (endpoints * u128::from(demand.failing_percent)).div_ceil(100),
            record: u128::from(demand.record_bytes) + m::RECORD_OVERHEAD.of(),
            replicas: u128::from(demand.replicas),
        }
    }

    /// Bytes that a delivery puts on the network.
    fn delivery_bytes(&self) -> u128 {
        u128::from(self.demand.record_bytes) + m::HTTP_OVERHEAD.of()
    }
}

/// What has to be there so that this is the planned part of it.
fn planned(used: u128) -> u128 {
    (used * 100).div_ceil(m::PLANNED_PERCENT.of())
}

/// The planned part of what there is.
pub(crate) fn usable(there: u128) -> u128 {
    there * m::PLANNED_PERCENT.of() / 100
}

/// Statements of a transaction that writes attempts: those that begin and end it included.
fn statements_of_transaction() -> u128 {
    2 + m::ATTEMPT_STATEMENTS.of()
}

/// Rows of attempts that a dispatcher writes in a second, planned: it waits for each transaction
/// before it begins the next.
fn rows_of_dispatcher() -> u128 {
    let waits = m::BATCHES.of() * statements_of_transaction() * m::STATEMENT_TIME.of() * 1_000;
    (usable(NS).saturating_sub(waits) / m::ROW_CPU.of()).max(1)
}

fn dispatchers(load: &Load) -> (u128, &'static str) {
    let cpu = load.events * m::EVENT_CPU.of() + load.deliveries * m::DELIVERY_CPU.of();
    let under_way = (load.deliveries * u128::from(load.demand.latency_ms)).div_ceil(1_000);
    // As long as all endpoints have a row in each transaction, it does not matter how many
    // deliveries there are.
    let store = if load.endpoints * m::BATCHES.of() <= rows_of_dispatcher() {
        1
    } else {
        load.deliveries.div_ceil(rows_of_dispatcher())
    };
    let needed = [
        (
            planned(cpu).div_ceil(m::DISPATCHER_CORES.of() * NS),
            "processor time",
        ),
        (
            planned(load.deliveries).div_ceil(m::DISPATCHER_RATE.of()),
            "deliveries of one process",
        ),
        (
            planned(under_way).div_ceil(m::IN_FLIGHT.of()),
            "deliveries under way",
        ),
        (store, "rows of attempts that one process writes"),
    ];
    let most = needed.into_iter().max_by_key(|(number, _)| *number);
    let (most, why) = most.unwrap_or((1, ""));
    (most.max(1) + 1, why)
}

/// What the dispatchers ask of the store.
struct Store {
    rows: u128,
    statements: u128,
    /// Processor time in a second, in nanoseconds.
    cpu: u128,
    kept_s: u128,
    ranges: u128,
    wal: u128,
    bytes: u128,
}

impl Store {
    fn of(load: &Load, dispatchers: u128, partitions: u128) -> Self {
        let batches = dispatchers * m::BATCHES.of();
        let rows = load.deliveries.min(batches * load.endpoints);
        let transactions = batches.min(load.deliveries);
        // A probe is claimed, tried, and given back, each in a transaction of its own.
        let probes = (load.failing * dispatchers).div_ceil(m::PROBE_INTERVAL.of());
        let statements = dispatchers * m::IDLE_STATEMENTS.of()
            + transactions * statements_of_transaction()
            + rows / m::STATEMENT_ROWS.of() * m::ATTEMPT_STATEMENTS.of()
            + probes * statements_of_transaction();
        let ranges = load.failing * partitions;
        let kept_s = (m::ATTEMPT_ROWS.of() / rows.max(1)).clamp(1, m::ATTEMPTS_KEPT.of() * HOUR);
        let kept_rows = (rows * m::ATTEMPTS_KEPT.of() * HOUR).min(m::ATTEMPT_ROWS.of());
        let bytes = load.endpoints * m::ENDPOINT_BYTES.of()
            + kept_rows * m::ATTEMPT_BYTES.of()
            + ranges * m::RANGE_BYTES.of()
            + load.failing * m::OWED_ROWS.of() * m::OWED_BYTES.of();
        Self {
            rows,
            statements,
            kept_s,
            ranges,
            cpu: statements * m::STATEMENT_CPU.of() + rows * m::ROW_CPU.of(),
            wal: rows * m::ATTEMPT_WAL.of(),
            bytes,
        }
    }
}

fn relays(load: &Load) -> Part {
    let mailboxes = u128::from(load.demand.mailboxes);
    let hosts = mailboxes.div_ceil(load.demand.mailboxes_per_host.into());
    let record = u128::from(load.demand.record_bytes) + m::SPOOL_OVERHEAD.of();
    let spool = load.events * record * m::SPOOL_TIME.of() * HOUR;
    Part {
        name: RELAYS,
        processes: hosts,
        millicores: (load.events * m::RELAY_CPU.of()).div_ceil(1_000_000),
        memory_mib: hosts * m::RELAY_MEMORY.of(),
        disk_mib: spool.div_ceil(MIB),
        network_kbit: (load.events * load.record * 8).div_ceil(1_000),
        machines: 0,
    }
}

fn dispatcher_part(load: &Load, dispatchers: u128) -> Part {
    let endpoints = (load.endpoints * m::ENDPOINT_MEMORY.of()).div_ceil(MIB);
    let each = m::DISPATCHER_MEMORY.of()
        + m::DISPATCHER_BODIES.of()
        + m::CONSUMER_MEMORY.of()
        + m::READER_MEMORY.of()
        + endpoints;
    let cpu = load.events * m::EVENT_CPU.of() + load.deliveries * m::DELIVERY_CPU.of();
    let comes = load.events * load.record;
    let goes = load.deliveries * load.delivery_bytes();
    let part = Part {
        name: DISPATCHERS,
        processes: dispatchers,
        millicores: cpu.div_ceil(1_000_000),
        memory_mib: dispatchers * each,
        disk_mib: 0,
        network_kbit: (comes.max(goes) * 8).div_ceil(1_000),
        machines: 0,
    };
    part.on_machines(&load.demand, LEAST_MACHINES)
}

/// A primary and a standby that has what was acknowledged; the figures are of the primary.
fn postgres(store: &Store) -> Part {
    let part = Part {
        name: POSTGRES,
        processes: 2,
        millicores: store.cpu.div_ceil(1_000_000),
        // A quarter of what is at rest, as its makers advise for its cache.
        memory_mib: store.bytes.div_ceil(MIB).div_ceil(4),
        disk_mib: planned(store.bytes).div_ceil(MIB),
        network_kbit: (2 * store.wal * 8).div_ceil(1_000),
        machines: 0,
    };
    Part {
        machines: 2,
        ..part
    }
}

fn kafka(load: &Load, partitions: u128) -> Part {
    let copies = partitions * load.replicas;
    let least = load
        .replicas
        .max(copies.div_ceil(m::BROKER_PARTITIONS.of()));
    let seconds = u128::from(load.demand.retention_hours) * HOUR;
    let bytes = load.events * load.record * seconds * load.replicas;
    // Taken once, copied, and handed out once.
    let passes = load.events * (load.replicas + 1);
    let part = Part {
        name: KAFKA,
        processes: 0,
        millicores: (passes * m::BROKER_CPU.of()).div_ceil(1_000_000),
        memory_mib: least * m::BROKER_MEMORY.of(),
        disk_mib: (bytes * 100).div_ceil(m::DISK_FILLED.of()).div_ceil(MIB),
        network_kbit: (load.events * load.record * load.replicas * 8).div_ceil(1_000),
        machines: 0,
    };
    let part = part.on_machines(&load.demand, least.max(LEAST_MACHINES));
    Part {
        processes: part.machines,
        ..part
    }
}

impl Part {
    /// As many machines as the resource takes that is scarcest, and so many at least.
    fn on_machines(self, demand: &Demand, least: u128) -> Self {
        let machine = &demand.machine;
        let of =
            |used: u128, there: u64, unit: u128| planned(used).div_ceil(u128::from(there) * unit);
        let memory = u128::from(machine.memory_gib) * 1024;
        let disk = u128::from(machine.disk_gib) * 1024;
        let machines = [
            of(self.millicores, machine.cores, 1_000),
            // These are not means, but the most there is.
            self.memory_mib.div_ceil(memory),
            self.disk_mib.div_ceil(disk),
            of(self.network_kbit, machine.network_mbit, 1_000),
            least,
        ];
        Self {
            machines: machines.into_iter().max().unwrap_or(least),
            ..self
        }
    }
}
