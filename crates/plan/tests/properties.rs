//! Plans of any demand: nothing overflows, nothing is zero that has to be there, and more demand
//! never takes less.

use dovecast_plan::demand as bounds;
use dovecast_plan::{Demand, Machine, Plan};
use proptest::prelude::*;

/// Any demand within its bounds, large and small ones alike.
fn demand() -> impl Strategy<Value = Demand> {
    let of = |range: std::ops::RangeInclusive<u64>| {
        let (least, most) = range.into_inner();
        let largest = most.ilog2();
        (0..=largest, any::<u64>())
            .prop_map(move |(bits, any)| (any >> (63 - bits)).clamp(least, most))
    };
    let load = (
        of(bounds::MAILBOXES),
        of(bounds::EVENTS_PER_SECOND),
        of(bounds::ENDPOINTS),
        of(bounds::DELIVERIES_PER_EVENT),
        of(bounds::RECORD_BYTES),
    );
    let kept = (
        of(bounds::RETENTION_HOURS),
        of(bounds::REPLICAS),
        of(bounds::FAILING_PERCENT),
        of(bounds::LATENCY_MS),
        of(bounds::MAILBOXES_PER_HOST),
    );
    let machine = (
        of(bounds::CORES),
        of(bounds::MEMORY_GIB),
        of(bounds::DISK_GIB),
        of(bounds::NETWORK_MBIT),
    );
    (load, kept, machine).prop_map(|(load, kept, machine)| Demand {
        endpoints: load.2,
        deliveries_per_event: load.3,
        record_bytes: load.4,
        retention_hours: kept.0,
        replicas: kept.1,
        failing_percent: kept.2,
        latency_ms: kept.3,
        mailboxes_per_host: kept.4,
        machine: Machine {
            cores: machine.0,
            memory_gib: machine.1,
            disk_gib: machine.2,
            network_mbit: machine.3,
        },
        ..Demand::new(load.0, load.1)
    })
}

/// What may not fall when the demand grows.
fn sizes(plan: &Plan) -> Vec<(&'static str, u128)> {
    let mut sizes = vec![
        ("deliveries", plan.deliveries_per_second),
        ("partitions", plan.partitions),
        ("dispatchers", plan.dispatchers),
        ("statements", plan.statements_per_second),
        ("rows", plan.attempt_rows_per_second),
        ("ranges", plan.range_rows),
        ("machines", plan.machines),
    ];
    for part in &plan.parts {
        sizes.push((part.name, part.processes));
        sizes.push((part.name, part.millicores));
        sizes.push((part.name, part.memory_mib));
        sizes.push((part.name, part.disk_mib));
        sizes.push((part.name, part.network_kbit));
        sizes.push((part.name, part.machines));
    }
    sizes
}

/// One of the numbers that make the installation larger, doubled within its bounds.
fn doubled(demand: &Demand, which: usize) -> Demand {
    let twice = |value: u64, range: std::ops::RangeInclusive<u64>| (value * 2).min(*range.end());
    let mut more = *demand;
    match which {
        0 => more.mailboxes = twice(more.mailboxes, bounds::MAILBOXES),
        1 => more.events_per_second = twice(more.events_per_second, bounds::EVENTS_PER_SECOND),
        2 => more.endpoints = twice(more.endpoints, bounds::ENDPOINTS),
        3 => {
            more.deliveries_per_event =
                twice(more.deliveries_per_event, bounds::DELIVERIES_PER_EVENT);
        }
        4 => more.record_bytes = twice(more.record_bytes, bounds::RECORD_BYTES),
        5 => more.retention_hours = twice(more.retention_hours, bounds::RETENTION_HOURS),
        6 => more.replicas = twice(more.replicas, bounds::REPLICAS),
        7 => more.failing_percent = twice(more.failing_percent, bounds::FAILING_PERCENT),
        _ => more.latency_ms = twice(more.latency_ms, bounds::LATENCY_MS),
    }
    more
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_of_any_demand_has_what_has_to_be_there(demand in demand()) {
        let plan = Plan::of(&demand).expect("within its bounds");
        prop_assert!(plan.partitions >= plan.dispatchers, "each has a partition");
        prop_assert!(plan.dispatchers >= 2 && plan.machines >= 4);
        prop_assert!(plan.attempts_kept_s >= 1);
        for part in &plan.parts {
            prop_assert!(part.processes >= 1 && part.millicores >= 1, "{:?}", part);
        }
        let falling = plan.limits.windows(2).all(|two| two[0].percent >= two[1].percent);
        prop_assert!(falling && plan.limits.iter().all(|limit| limit.bound >= 1));
        prop_assert!(!plan.to_string().is_empty() && plan.cost(u64::MAX) >= plan.machines);
    }

    #[test]
    fn more_demand_never_takes_less(demand in demand(), which in 0..9_usize) {
        let plan = Plan::of(&demand).expect("within its bounds");
        let more = Plan::of(&doubled(&demand, which)).expect("within its bounds");
        for (less, more) in sizes(&plan).into_iter().zip(sizes(&more)) {
            prop_assert!(less.1 <= more.1, "{}: {} becomes {}", less.0, less.1, more.1);
        }
    }

    #[test]
    fn larger_machines_never_make_more_of_them(demand in demand()) {
        let mut larger = demand;
        larger.machine.cores = (demand.machine.cores * 2).min(*bounds::CORES.end());
        larger.machine.memory_gib = (demand.machine.memory_gib * 2).min(*bounds::MEMORY_GIB.end());
        larger.machine.disk_gib = (demand.machine.disk_gib * 2).min(*bounds::DISK_GIB.end());
        larger.machine.network_mbit = (demand.machine.network_mbit * 2).min(*bounds::NETWORK_MBIT.end());
        let plan = Plan::of(&demand).expect("within its bounds");
        let fewer = Plan::of(&larger).expect("within its bounds");
        prop_assert!(fewer.machines <= plan.machines);
    }
}

#[test]
fn what_is_out_of_its_bounds_is_named_with_them() {
    for (change, expected) in [
        (
            (|demand| demand.mailboxes = 0) as fn(&mut Demand),
            "`mailboxes` is 0, expected 1 to 100000000000",
        ),
        (
            |demand| demand.events_per_second = u64::MAX,
            "`events-per-second` is 18446744073709551615, expected 1 to 1000000000",
        ),
        (
            |demand| demand.replicas = 10,
            "`replicas` is 10, expected 1 to 9",
        ),
        (
            |demand| demand.machine.disk_gib = 1,
            "`disk-gib` is 1, expected 10 to 10000000",
        ),
    ] {
        let mut demand = Demand::new(10, 10);
        change(&mut demand);
        let error = Plan::of(&demand).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn the_largest_of_all_demands_overflows_nothing() {
    let mut demand = Demand::new(*bounds::MAILBOXES.end(), *bounds::EVENTS_PER_SECOND.end());
    demand.endpoints = *bounds::ENDPOINTS.end();
    demand.deliveries_per_event = *bounds::DELIVERIES_PER_EVENT.end();
    demand.record_bytes = *bounds::RECORD_BYTES.end();
    demand.retention_hours = *bounds::RETENTION_HOURS.end();
    demand.replicas = *bounds::REPLICAS.end();
    demand.failing_percent = 100;
    demand.latency_ms = *bounds::LATENCY_MS.end();
    demand.mailboxes_per_host = 1;
    let plan = Plan::of(&demand).expect("within its bounds");
    assert!(plan.limits[0].percent > 100 && plan.to_string().contains("does not fit"));
}
