//! One node of three is cut off from Kafka or from PostgreSQL, and comes back without being started
//! again.
//!
//! Nobody tells it: its connections stay, and nothing is heard on them. Afterwards they go on, as
//! TCP does after a short cut, or they stay silent for ever, as behind a firewall that has
//! forgotten them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::cut_proxy::CutProxy;

use crate::cases::cases;
use crate::cluster::{Cluster, PATIENCE, Services, eventually};
use crate::load::Load;

cases![
    a_node_that_is_cut_off_from_kafka_loses_nothing,
    a_node_whose_connections_to_kafka_are_forgotten_comes_back,
    a_node_that_is_cut_off_from_kafka_can_be_stopped,
    a_node_that_is_cut_off_from_postgresql_loses_nothing_and_nothing_is_stuck,
    a_node_whose_connections_to_postgresql_are_forgotten_comes_back,
    a_node_that_is_cut_off_from_postgresql_can_be_stopped,
    a_node_that_is_cut_off_from_both_can_be_stopped,
];

/// How long a node is cut off, which is the fault itself: longer than a consumer's session and than
/// a dispatcher that says nothing is taken for alive.
const CUT: Duration = Duration::from_secs(15);

fn a_node_that_is_cut_off_from_kafka_loses_nothing(services: &mut Services) -> Result<()> {
    cut_off_from_kafka(services, "no-kafka", CutProxy::heal)
}

fn a_node_whose_connections_to_kafka_are_forgotten_comes_back(
    services: &mut Services,
) -> Result<()> {
    cut_off_from_kafka(services, "lost-kafka", |proxy| {
        proxy.forget();
        proxy.heal();
    })
}

fn cut_off_from_kafka(services: &mut Services, name: &str, heal: impl Fn(&CutProxy)) -> Result<()> {
    let cluster = Cluster::start(services, name, 3)?;
    let load = cluster.load_on_all()?;
    // It owes ranges of the log, which it has to read again.
    cluster.defers(0)?;
    let before = cluster.again();
    let link = cluster.services.kafka.proxy(0)?;
    link.cut();
    let cut = Instant::now();
    let owed = cluster.owed_ranges()?;
    ensure!(!owed.is_empty(), "no range is owed");
    cluster.recovers();
    for node in 1..3 {
        cluster.delivers(node, 200)?;
    }
    // It lives, and knows that it cannot read them.
    eventually(
        PATIENCE,
        || {
            format!(
                "the ranges are done, or another one's: {:?}",
                cluster.owed_ranges()
            )
        },
        || Ok(cluster.owed_ranges()?.is_disjoint(&owed)),
    )?;
    println!(
        "what was owed is done or another one's {:.1} s after the cut",
        cut.elapsed().as_secs_f32()
    );
    std::thread::sleep(CUT.saturating_sub(cut.elapsed()));
    heal(link);
    cluster.delivers(0, 50)?;
    println!(
        "it delivers again {:.1} s after the cut",
        cut.elapsed().as_secs_f32()
    );
    let sent = load.stop()?;
    cluster.arrives(sent)?;
    println!("came again since the cut: {}", cluster.again() - before);
    Ok(())
}

fn a_node_that_is_cut_off_from_kafka_can_be_stopped(services: &mut Services) -> Result<()> {
    let mut cluster = Cluster::start(services, "stop-no-kafka", 2)?;
    let load = cluster.load_on_all()?;
    cluster.defers(0)?;
    cluster.services.kafka.proxy(0)?.cut();
    cluster.recovers();
    cluster.delivers(1, 200)?;
    cluster.can_be_stopped(load)
}

fn a_node_that_is_cut_off_from_postgresql_loses_nothing_and_nothing_is_stuck(
    services: &mut Services,
) -> Result<()> {
    cut_off_from_postgresql(services, "no-postgresql", CutProxy::heal)
}

fn a_node_whose_connections_to_postgresql_are_forgotten_comes_back(
    services: &mut Services,
) -> Result<()> {
    cut_off_from_postgresql(services, "lost-postgresql", |proxy| {
        proxy.forget();
        proxy.heal();
    })
}

fn cut_off_from_postgresql(
    services: &mut Services,
    name: &str,
    heal: impl Fn(&CutProxy),
) -> Result<()> {
    let cluster = Cluster::start(services, name, 3)?;
    let load = cluster.load_on_all()?;
    // It has claimed deliveries that are owed, or ranges.
    cluster.defers(0)?;
    let before = cluster.again();
    let link = cluster.to_postgres(0)?;
    let first = cluster.first()?;
    let cut = loop {
        eventually(
            PATIENCE,
            || format!("{first} has claimed something"),
            || Ok(cluster.claims()?.contains(&first)),
        )?;
        link.cut();
        let cut = Instant::now();
        if cluster.claims()?.contains(&first) {
            break cut;
        }
        // It was done with that just now.
        link.heal();
    };
    cluster.recovers();
    cluster.is_taken_for_dead(&first)?;
    eventually(
        PATIENCE,
        || {
            format!(
                "what {first} has claimed is another one's: {:?}",
                cluster.claims()
            )
        },
        || Ok(!cluster.claims()?.contains(&first)),
    )?;
    println!(
        "taken over {:.1} s after the cut",
        cut.elapsed().as_secs_f32()
    );
    // The others write, whatever the last transaction of the one holds.
    for node in 1..3 {
        cluster.delivers(node, 200)?;
    }
    std::thread::sleep(CUT.saturating_sub(cut.elapsed()));
    let healed = Instant::now();
    heal(link);
    eventually(
        PATIENCE,
        || format!("{first} lives again"),
        || Ok(cluster.alive()?.contains(&first)),
    )?;
    println!(
        "it lives again {:.1} s after that",
        healed.elapsed().as_secs_f32()
    );
    cluster.delivers(0, 50)?;
    let sent = load.stop()?;
    cluster.arrives(sent)?;
    println!("came again since the cut: {}", cluster.again() - before);
    Ok(())
}

fn a_node_that_is_cut_off_from_postgresql_can_be_stopped(services: &mut Services) -> Result<()> {
    let mut cluster = Cluster::start(services, "stop-without", 2)?;
    let load = cluster.load_on_all()?;
    cluster.defers(0)?;
    let first = cluster.first()?;
    cluster.to_postgres(0)?.cut();
    cluster.recovers();
    cluster.is_taken_for_dead(&first)?;
    cluster.can_be_stopped(load)
}

fn a_node_that_is_cut_off_from_both_can_be_stopped(services: &mut Services) -> Result<()> {
    let mut cluster = Cluster::start(services, "stop-without-both", 2)?;
    let load = cluster.load_on_all()?;
    cluster.defers(0)?;
    cluster.to_postgres(0)?.cut();
    cluster.services.kafka.proxy(0)?.cut();
    cluster.recovers();
    cluster.can_be_stopped(load)
}

impl Cluster<'_> {
    /// The first node, which is cut off, ends in order; what it had the others deliver.
    fn can_be_stopped(&mut self, load: Load) -> Result<()> {
        let stopped = self.nodes[0].stop()?;
        self.to_postgres(0)?.heal();
        self.services.kafka.proxy(0)?.heal();
        ensure!(
            stopped.success(),
            "{stopped}: {}",
            self.nodes[0].server_log()
        );
        load.goes_on(200)?;
        self.arrives(load.stop()?)
    }

    /// Who has claimed anything, each once.
    fn claims(&self) -> Result<String> {
        self.query(
            "SELECT claimed_by FROM owed WHERE claimed_by IS NOT NULL \
             UNION SELECT claimed_by FROM owed_range WHERE claimed_by IS NOT NULL",
        )
    }

    /// Ranges that are owed, with who has claimed them.
    fn owed_ranges(&self) -> Result<BTreeSet<String>> {
        let rows = self
            .query("SELECT endpoint_id, topic, part, start_offset, claimed_by FROM owed_range")?;
        Ok(rows.lines().map(str::to_owned).collect())
    }

    /// The dispatchers that live.
    fn alive(&self) -> Result<String> {
        self.query(&format!(
            "SELECT id FROM dispatcher WHERE alive_until_ms >= {NOW_MS}"
        ))
    }

    /// The dispatcher of node 0: their ids are in the order in which they were started.
    fn first(&self) -> Result<String> {
        let alive = self.alive()?;
        let first = alive.lines().min().context("none lives")?;
        Ok(first.to_owned())
    }

    /// Waits until a dispatcher has not said for a while that it lives. Another one may not have
    /// either, where the machine is busy.
    fn is_taken_for_dead(&self, id: &str) -> Result<()> {
        let lapsed = format!("SELECT id FROM dispatcher WHERE alive_until_ms < {NOW_MS}");
        eventually(
            PATIENCE,
            || format!("{id} is taken for dead"),
            || Ok(self.query(&lapsed)?.lines().any(|line| line == id)),
        )
    }
}

/// The time in PostgreSQL, which here is that of the nodes.
const NOW_MS: &str = "(extract(epoch FROM clock_timestamp()) * 1000)";
