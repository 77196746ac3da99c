//! What ends first when the demand grows: how much of each limit is used, and what moves it.

use std::cmp::Reverse;

use serde::Serialize;

use crate::measured as m;
use crate::plan::{DISPATCHERS, POSTGRES, Plan, RELAYS, usable};

/// Dispatchers with which the group and its partitions were simulated.
const SIMULATED_DISPATCHERS: u128 = 200;

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// What is bounded.
    pub what: &'static str,
    /// How much of it the demand takes.
    pub used: u128,
    /// How much there is; what was measured counts with its planned part.
    pub bound: u128,
    /// `used` of `bound`, in percent; more than 100: it does not fit.
    pub percent: u128,
    /// What moves it.
    pub moved_by: &'static str,
}

impl Limit {
    fn new(what: &'static str, used: u128, bound: u128, moved_by: &'static str) -> Self {
        let bound = bound.max(1);
        Self {
            what,
            used,
            bound,
            percent: (used * 100).div_ceil(bound),
            moved_by,
        }
    }
}

impl Limit {
    /// Events in a second with which the limit is reached, if everything grows as they do.
    pub(crate) fn reached_at(&self, events_per_second: u64) -> u128 {
        u128::from(events_per_second) * 100 / self.percent.max(1)
    }
}

/// All of them, the one that is used up most first.
pub(crate) fn of(plan: &Plan) -> Vec<Limit> {
    let mut limits = Vec::from(store(plan));
    limits.extend(others(plan));
    limits.sort_by_key(|limit| Reverse(limit.percent));
    limits
}

fn store(plan: &Plan) -> [Limit; 3] {
    let machine = &plan.demand.machine;
    let postgres = plan.part(POSTGRES);
    let used = |of: fn(&crate::plan::Part) -> u128| postgres.map_or(0, of);
    [
        Limit::new(
            "processor time of one PostgreSQL, ms a second",
            used(|part| part.millicores),
            usable(u128::from(machine.cores) * 1_000),
            "more processors; fewer endpoints that get something in the same 20 ms",
        ),
        Limit::new(
            "disk of PostgreSQL, MiB",
            used(|part| part.disk_mib),
            u128::from(machine.disk_gib) * 1024,
            "a larger disk; fewer endpoints that are down for long",
        ),
        Limit::new(
            "network of PostgreSQL, kbit/s",
            used(|part| part.network_kbit),
            usable(u128::from(machine.network_mbit) * 1_000),
            "a faster network; fewer endpoints that get something in the same 20 ms",
        ),
    ]
}

fn others(plan: &Plan) -> [Limit; 5] {
    let machine = &plan.demand.machine;
    let endpoints = u128::from(plan.demand.endpoints);
    let memory = u128::from(machine.memory_gib) * 1024;
    let of_dispatcher = plan
        .part(DISPATCHERS)
        .map_or(0, |part| part.memory_mib.div_ceil(part.processes.max(1)));
    let hosts = plan.part(RELAYS).map_or(1, |part| part.processes.max(1));
    let at_a_time = plan.dispatchers * m::CONCURRENCY.of() * 1_000;
    [
        Limit::new(
            "memory of one dispatcher, MiB",
            of_dispatcher,
            memory,
            "machines with more memory: each dispatcher holds all endpoints",
        ),
        Limit::new(
            "events a second of one mail host",
            u128::from(plan.demand.events_per_second).div_ceil(hosts),
            usable(m::RELAY_RATE.of()),
            "fewer mailboxes on a host",
        ),
        Limit::new(
            "deliveries a second of one endpoint, if all have the same",
            plan.deliveries_per_second.div_ceil(endpoints),
            at_a_time / u128::from(plan.demand.latency_ms),
            "`concurrency`; endpoints that answer sooner",
        ),
        Limit::new(
            "dispatchers of one group",
            plan.dispatchers,
            SIMULATED_DISPATCHERS,
            "a simulation of more; two groups with topics of their own",
        ),
        Limit::new(
            "partitions of one topic",
            plan.partitions,
            SIMULATED_DISPATCHERS * m::PARTITIONS_PER_DISPATCHER.of(),
            "a simulation of more; several topics",
        ),
    ]
}
