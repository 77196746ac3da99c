//! Every figure that plans are made of: value, unit, meaning, and where it comes from.
//!
//! What is measured names the section of `docs/benchmarks.md` with its command; what is a constant
//! of the code names its place; what nobody has measured is [`Origin::Assumed`], and printed as
//! such.

use serde::Serialize;

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Constant {
    /// Name, as tables show it.
    pub name: &'static str,
    /// Value, in the unit.
    pub value: u64,
    /// Unit.
    pub unit: &'static str,
    /// What it is a figure of.
    pub meaning: &'static str,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a figure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Section of `docs/benchmarks.md`.
    Measured(&'static str),
    /// Place in the code or the configuration that decides it.
    Decided(&'static str),
    /// Reason, where it was not measured.
    Assumed(&'static str),
}

impl Constant {
    /// The value, for arithmetic that cannot overflow.
    pub(crate) fn of(&self) -> u128 {
        u128::from(self.value)
    }
}

macro_rules! constants {
    ($($name:ident = $value:literal $unit:literal, $origin:ident $place:literal, $meaning:literal;)*) => {
        $(
            #[doc = concat!($meaning, " (", $unit, ")")]
            pub const $name: Constant = Constant {
                name: stringify!($name),
                value: $value,
                unit: $unit,
                meaning: $meaning,
                origin: Origin::$origin($place),
            };
        )*
        /// All of them, in the order in which tables show them.
        pub const ALL: &[Constant] = &[$($name),*];
    };
}

constants! {
    PLANNED_PERCENT = 50 "percent", Decided "crates/plan",
        "Part of what was measured that is planned with: the rest is for bursts, restarts and what was not measured";
    EVENT_CPU = 20_000 "ns", Measured "From the relay's log to Kafka, Dispatching",
        "Processor time of a dispatcher for an event: 15 us to read it (two processors for 133,000 records a second, the broker's share included), 5 us to parse and match it";
    DELIVERY_CPU = 22_000 "ns", Measured "The process `dovecast serve`",
        "Processor time of a dispatcher for a delivery, its attempt included";
    DISPATCHER_RATE = 76_000 "per second", Measured "Dispatching",
        "Deliveries of one dispatcher on two processors, from a log on the same machine";
    DISPATCHER_CORES = 2 "processors", Measured "Dispatching",
        "Processors of the dispatcher that was measured; more in one process were not";
    DISPATCHER_MEMORY = 70 "MiB", Measured "The process `dovecast serve`",
        "Memory of a dispatcher after 200,000 deliveries, without what follows";
    DISPATCHER_BODIES = 256 "MiB", Decided "[dispatch] max_in_flight_mb",
        "Most memory for bodies that are under way";
    CONSUMER_MEMORY = 24 "MiB", Measured "operations.md, Size it",
        "Most that a dispatcher's consumer of Kafka holds";
    READER_MEMORY = 192 "MiB", Decided "[dispatch] max_readers, 12 MiB each",
        "Most that the readers hold which catch up";
    ENDPOINT_MEMORY = 1_431 "bytes", Assumed "the filter is measured (407: The process `dovecast serve`, Matching), for the rest the bound of 1 kB that is set for it",
        "Memory of an endpoint with its filter, in each dispatcher";
    IN_FLIGHT = 10_000 "deliveries", Decided "[dispatch] max_in_flight",
        "Most deliveries of a dispatcher that are under way or wait";
    CONCURRENCY = 16 "deliveries", Decided "[dispatch] concurrency",
        "Most deliveries of a dispatcher to one endpoint at a time";
    BATCHES = 50 "per second", Decided "HAPPENED_GATHER_TIME of crates/dispatch/src/recording.rs: 20 ms",
        "Most transactions of a dispatcher that write down what has happened";
    ALIVE = 5 "s", Decided "ALIVE of crates/dispatch/src/heartbeat.rs",
        "Time after its last heartbeat until what a dispatcher has claimed is free";
    TAKE_UP_INTERVAL = 2 "s", Decided "TAKE_UP_INTERVAL of crates/dispatch/src/take_up.rs",
        "Time from one look for ranges that nobody delivers to the next";
    PARTITIONS_PER_DISPATCHER = 5 "partitions", Decided "crates/plan",
        "Partitions of a dispatcher: what one leaves is spread over five others";
    LEAST_PARTITIONS = 12 "partitions", Decided "crates/plan",
        "Least partitions of a topic: their number cannot be changed later without a break in the order of keys";
    ATTEMPT_STATEMENTS = 2 "statements", Measured "What dispatchers cost a PostgreSQL",
        "Statements for the attempts at all endpoints in one transaction: their rows, and how the endpoints are";
    STATEMENT_ROWS = 500 "endpoints", Decided "ROWS of crates/store/src/deliveries/attempts.rs",
        "Most endpoints of which one statement writes the attempts";
    IDLE_STATEMENTS = 20 "per second", Measured "What dispatchers cost a PostgreSQL",
        "Statements of a dispatcher that has nothing to do: heartbeat, claims, looks, changes";
    STATEMENT_TIME = 300 "us", Assumed "a round trip within one site and the statement itself; see `what moves it`",
        "Time of a statement as a dispatcher waits for it";
    STATEMENT_CPU = 100_000 "ns", Measured "What dispatchers cost a PostgreSQL",
        "Processor time of PostgreSQL for a statement that writes";
    ROW_CPU = 40_000 "ns", Measured "What dispatchers cost a PostgreSQL",
        "Processor time of PostgreSQL for the attempts at one endpoint in one transaction, besides the statements";
    PROBE_INTERVAL = 300 "s", Decided "PROBE_SLOWEST of crates/dispatch/src/lane/breaker.rs",
        "Time between two attempts of a dispatcher at an endpoint that is down for long";
    ATTEMPT_ROWS = 500_000 "rows", Decided "KeptPast of crates/store/src/deliveries/past.rs",
        "Most rows of attempts that are kept, whatever their age";
    ATTEMPTS_KEPT = 72 "hours", Decided "[dispatch] attempts_hours",
        "Most time that attempts are kept";
    ATTEMPT_BYTES = 470 "bytes", Measured "What dispatchers cost a PostgreSQL",
        "A row of one attempt at rest, with its indexes";
    ATTEMPT_WAL = 1_430 "bytes", Measured "What dispatchers cost a PostgreSQL",
        "Write-ahead log of a row of one attempt and of how its endpoint is";
    ENDPOINT_BYTES = 1_420 "bytes", Measured "What dispatchers cost a PostgreSQL",
        "An endpoint without a filter at rest, with indexes";
    OWED_BYTES = 1_370 "bytes", Measured "What dispatchers cost a PostgreSQL",
        "A delivery that is owed at rest, with a notification of 1 kB";
    OWED_ROWS = 26 "rows", Decided "OPENS_AFTER of crates/dispatch/src/lane/breaker.rs, and concurrency",
        "Deliveries that an endpoint owes singly when it goes down, before its breaker opens";
    RANGE_BYTES = 270 "bytes", Measured "What dispatchers cost a PostgreSQL",
        "A range that is owed at rest; an endpoint that is down owes one of each partition";
    RECORD_OVERHEAD = 260 "bytes", Decided "format of Kafka's records, version 2, uncompressed; crates/plan/tests/record.rs",
        "Key, headers and frame of an event in Kafka";
    SPOOL_OVERHEAD = 187 "bytes", Measured "The embedded log (decisions/0001)",
        "Key, headers and frame of an event in the embedded log, with single records";
    SPOOL_TIME = 24 "hours", Decided "crates/plan",
        "Outage of Kafka for which the spool of a mail host has room";
    RELAY_CPU = 85_000 "ns", Measured "The embedded log (decisions/0001), From the relay's log to Kafka",
        "Processor time of a relay for an event: 70 us to commit it (two processors for 28,375 single records a second, the clients' share included), 15 us to ship it";
    RELAY_RATE = 28_375 "per second", Measured "The embedded log (decisions/0001)",
        "Single events of one relay that are durable";
    RELAY_MEMORY = 208 "MiB", Measured "operations.md, Size it",
        "Memory of a relay that ships to Kafka: 60 MB, 48 bytes for each of a million ids, 100 MB for shipping";
    BROKER_CPU = 15_000 "ns", Measured "From the relay's log to Kafka",
        "Processor time of a broker for a record that it takes, copies or hands out, the client's share included";
    BROKER_PARTITIONS = 4_000 "partitions", Assumed "what Kafka's makers advise for a broker, copies included",
        "Most partitions of a broker";
    BROKER_MEMORY = 6_144 "MiB", Assumed "heap that Kafka's makers advise; the rest is the system's cache",
        "Memory of a broker besides the cache";
    DISK_FILLED = 70 "percent", Decided "crates/plan",
        "Part of a disk that is filled";
    HTTP_OVERHEAD = 700 "bytes", Assumed "headers of a signed webhook, TLS and TCP",
        "Bytes of a delivery on the network besides the event";
}
