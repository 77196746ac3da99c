//! The cases.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use serde_json::{Value, json};

use crate::cluster::{Cluster, PATIENCE, Services, eventually, messages};
use crate::load::{append, notification};

pub(crate) type Case = fn(&mut Services) -> Result<()>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[(&str, crate::cases::Case)] =
            &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use cases;

cases![
    two_nodes_share_the_work_and_each_notification_arrives,
    a_rolling_restart_loses_nothing,
    a_node_that_is_killed_loses_nothing_and_nothing_is_stuck,
    a_kafka_that_is_away_for_a_while_loses_nothing,
    a_postgresql_that_is_away_for_a_while_loses_nothing,
    a_filter_changed_on_one_node_counts_on_the_other,
    nodes_that_join_under_load_lose_nothing,
    a_node_that_joins_and_leaves_again_and_again_loses_nothing,
];

/// How long a service is away, which is the fault itself: longer than a dispatcher that says
/// nothing is taken for alive, and than the session of a consumer.
const AWAY: Duration = Duration::from_secs(8);

fn two_nodes_share_the_work_and_each_notification_arrives(services: &mut Services) -> Result<()> {
    let cluster = Cluster::start(services, "share", 2)?;
    let load = cluster.load()?;
    for node in 0..2 {
        cluster.delivers(node, 200)?;
    }
    let sent = load.stop()?;
    cluster.arrives(sent)?;
    println!(
        "the nodes have delivered {} and {}",
        cluster.delivered(0)?,
        cluster.delivered(1)?
    );
    Ok(())
}

fn a_rolling_restart_loses_nothing(services: &mut Services) -> Result<()> {
    let mut cluster = Cluster::start(services, "restart", 3)?;
    let load = cluster.load()?;
    for node in 0..3 {
        cluster.delivers(node, 50)?;
    }
    // What comes again is what a node had under way of a partition when it was given to another
    // one.
    let mut came_again = Vec::new();
    for node in 0..3 {
        // The second one is stopped while it owes a range of the log.
        if node == 1 {
            cluster.defers(node)?;
        }
        let before = cluster.again();
        let stopped = cluster.nodes[node].stop()?;
        cluster.recovers();
        ensure!(stopped.success(), "{stopped}");
        load.goes_on(100)?;
        let between = cluster.again();
        cluster.nodes[node].start_again()?;
        cluster.delivers(node, 50)?;
        came_again.push((between - before, cluster.again() - between));
    }
    let sent = load.stop()?;
    cluster.arrives(sent)?;
    println!("came again after each stop and after each start: {came_again:?}");
    ensure!(
        cluster.again() <= sent as usize / 5,
        "{} deliveries came again, which a graceful stop is to spare",
        cluster.again()
    );
    Ok(())
}

fn a_node_that_is_killed_loses_nothing_and_nothing_is_stuck(services: &mut Services) -> Result<()> {
    let mut cluster = Cluster::start(services, "kill", 2)?;
    let load = cluster.load_on_all()?;
    // It has claimed both: deliveries that are owed, and ranges.
    cluster.defers(0)?;
    cluster.nodes[0].kill()?;
    let killed = Instant::now();
    cluster.recovers();
    load.goes_on(1000)?;
    let sent = load.stop()?;
    cluster.arrives(sent)?;
    println!(
        "all was done {:.1} s after the kill",
        killed.elapsed().as_secs_f32()
    );
    Ok(())
}

fn a_kafka_that_is_away_for_a_while_loses_nothing(services: &mut Services) -> Result<()> {
    let cluster = Cluster::start(services, "kafka", 2)?;
    let load = cluster.load_on_all()?;
    cluster.services.kafka.kill()?;
    std::thread::sleep(AWAY);
    cluster.services.kafka.restart()?;
    for node in 0..2 {
        cluster.delivers(node, 100)?;
    }
    let sent = load.stop()?;
    cluster.arrives(sent)?;
    Ok(())
}

fn a_postgresql_that_is_away_for_a_while_loses_nothing(services: &mut Services) -> Result<()> {
    let cluster = Cluster::start(services, "postgresql", 2)?;
    let load = cluster.load_on_all()?;
    // Of both: each owes ranges, and neither can say that it lives.
    cluster.defers(0)?;
    cluster.services.postgres.stop()?;
    cluster.recovers();
    std::thread::sleep(AWAY);
    cluster.services.postgres.start_again()?;
    for node in 0..2 {
        cluster.delivers(node, 100)?;
    }
    let sent = load.stop()?;
    cluster.arrives(sent)?;
    Ok(())
}

fn a_filter_changed_on_one_node_counts_on_the_other(services: &mut Services) -> Result<()> {
    const LEVELS: [&str; 2] = ["low", "high"];
    /// Enough for all partitions.
    const EACH: u32 = 60;
    let cluster = Cluster::start(services, "filter", 2)?;
    let load = cluster.load_on_all()?;
    let sent = load.stop()?;
    cluster.arrives(sent)?;
    let levels = cluster.register()?;
    let sink = HookEndpoint::start()?;
    let filter = |level: usize| json!({"level_ids": [levels[level]]});
    let id = cluster.endpoint(&sink.url(), &filter(0))?;
    let log = cluster.log()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut next = 1_000_000;
    let mut append_each = |level: usize| -> Result<Range<u32>> {
        let numbers = next..next + EACH;
        next = numbers.end;
        let of_level = |number| notification(&cluster.account, LEVELS[level], number);
        append(&runtime, &log, numbers.clone().map(of_level).collect())?;
        Ok(numbers)
    };
    let have_come = |numbers: &Range<u32>| {
        let came = messages(&sink.hooks());
        numbers.clone().all(|number| came.contains_key(&number))
    };
    for (node, level) in [(1, 0), (1, 1), (0, 0), (1, 1)] {
        let change = json!({"endpoint": {"filter": filter(level)}});
        cluster.ask(node, "PUT", &format!("/endpoints/{id}"), &change)?;
        // Without a word between the nodes: who delivers what is wanted now knows of it, and both
        // do when nothing of all partitions is left out.
        let know = || "both nodes go by the filter".to_owned();
        eventually(PATIENCE, know, || {
            let sent = append_each(level)?;
            cluster.reads_all()?;
            Ok(have_come(&sent))
        })?;
        let before = [cluster.delivered(0)?, cluster.delivered(1)?];
        let (wanted, unwanted) = (append_each(level)?, append_each(1 - level)?);
        let what = || format!("{wanted:?} come");
        eventually(PATIENCE, what, || Ok(have_come(&wanted)))?;
        cluster.reads_all()?;
        let came = messages(&sink.hooks());
        let stray: Vec<u32> = unwanted.filter(|n| came.contains_key(n)).collect();
        ensure!(stray.is_empty(), "{stray:?} came, of another level");
        for (node, before) in before.into_iter().enumerate() {
            ensure!(
                cluster.delivered(node)? > before,
                "node {node} has delivered nothing"
            );
        }
    }
    Ok(())
}

fn nodes_that_join_under_load_lose_nothing(services: &mut Services) -> Result<()> {
    let mut cluster = Cluster::start(services, "join", 1)?;
    let load = cluster.load()?;
    cluster.delivers(0, 200)?;
    for node in 1..3 {
        cluster.join()?;
        cluster.delivers(node, 100)?;
    }
    cluster.delivers(0, 100)?;
    let sent = load.stop()?;
    cluster.arrives(sent)?;
    Ok(())
}

fn a_node_that_joins_and_leaves_again_and_again_loses_nothing(
    services: &mut Services,
) -> Result<()> {
    const TIMES: usize = 3;
    let mut cluster = Cluster::start(services, "leave", 2)?;
    let load = cluster.load_on_all()?;
    cluster.join()?;
    for time in 1..=TIMES {
        cluster.delivers(2, 50)?;
        let stopped = cluster.nodes[2].stop()?;
        ensure!(stopped.success(), "{stopped}");
        load.goes_on(100)?;
        if time < TIMES {
            cluster.nodes[2].start_again()?;
        }
    }
    for node in 0..2 {
        cluster.delivers(node, 100)?;
    }
    let sent = load.stop()?;
    cluster.arrives(sent)?;
    Ok(())
}

impl Cluster<'_> {
    /// Registers an application with the levels `low` and `high`; their ids.
    fn register(&self) -> Result<Vec<Value>> {
        let levels = json!([{"id": "low", "title": "Low"}, {"id": "high", "title": "High"}]);
        let registration = json!({
            "application": {"name": "nodes", "title": "Nodes"},
            "event_types": [{"id": "graded", "title": "Graded", "levels": levels}]});
        let made = self.ask_as_admin("/apps/register", &registration)?;
        let included = made["included"].as_array().context("no list")?;
        let level = |name: &str| -> Result<Value> {
            let found = included
                .iter()
                .find(|one| one["attributes"]["name"] == name);
            Ok(found.with_context(|| format!("no {name}"))?["id"].clone())
        };
        Ok(vec![level("low")?, level("high")?])
    }
}
