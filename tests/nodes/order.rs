//! An endpoint that wants the notifications of a key in order, while nodes are restarted, killed,
//! join and leave, and are cut off: nothing of a key comes for the first time after something
//! newer.
//!
//! It refuses a request now and then, which holds back that key, and is down for a while, so that
//! ranges of the log are owed when partitions change hands.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::{Hook, HookEndpoint};
use serde_json::{Value, json};

use crate::cases::cases;
use crate::cluster::{Cluster, PATIENCE, Services, eventually, message};
use crate::load::{KEYS, Load};

cases![
    order_is_kept_while_nodes_are_restarted_one_after_the_other,
    order_is_kept_when_a_node_is_killed,
    order_is_kept_while_a_node_joins_and_leaves,
    order_is_kept_while_a_node_is_cut_off_from_kafka,
    order_is_kept_while_a_node_is_cut_off_from_postgresql,
    order_is_kept_through_a_pause_in_which_a_node_is_killed,
];

/// How long a node is cut off, which is the fault itself: longer than a consumer's session and than
/// a dispatcher that says nothing is taken for alive.
const CUT: Duration = Duration::from_secs(12);
/// Messages of which one has its first request refused: each holds back its key for seconds.
const REFUSED_ONCE: u64 = 150;

fn order_is_kept_while_nodes_are_restarted_one_after_the_other(
    services: &mut Services,
) -> Result<()> {
    let (mut cluster, in_order, load) = begin(services, "order-restart", 3)?;
    for node in 0..3 {
        in_order.is_down(&cluster)?;
        let stopped = cluster.nodes[node].stop()?;
        ensure!(stopped.success(), "{stopped}");
        load.goes_on(100)?;
        in_order.is_up();
        load.goes_on(100)?;
        cluster.nodes[node].start_again()?;
        cluster.delivers(node, 50)?;
    }
    in_order.arrives(&cluster, load.stop()?)
}

fn order_is_kept_when_a_node_is_killed(services: &mut Services) -> Result<()> {
    let (mut cluster, in_order, load) = begin(services, "order-kill", 2)?;
    in_order.is_down(&cluster)?;
    cluster.nodes[0].kill()?;
    load.goes_on(300)?;
    in_order.is_up();
    load.goes_on(600)?;
    in_order.arrives(&cluster, load.stop()?)
}

fn order_is_kept_while_a_node_joins_and_leaves(services: &mut Services) -> Result<()> {
    let (mut cluster, in_order, load) = begin(services, "order-join", 2)?;
    in_order.is_down(&cluster)?;
    cluster.join()?;
    cluster.delivers(2, 50)?;
    in_order.is_up();
    load.goes_on(200)?;
    let stopped = cluster.nodes[2].stop()?;
    ensure!(stopped.success(), "{stopped}");
    load.goes_on(200)?;
    in_order.arrives(&cluster, load.stop()?)
}

fn order_is_kept_while_a_node_is_cut_off_from_kafka(services: &mut Services) -> Result<()> {
    let (cluster, in_order, load) = begin(services, "order-no-kafka", 3)?;
    in_order.is_down(&cluster)?;
    cluster.services.kafka.proxy(0)?.cut();
    in_order.is_up();
    std::thread::sleep(CUT);
    cluster.services.kafka.proxy(0)?.heal();
    cluster.delivers(0, 50)?;
    in_order.arrives(&cluster, load.stop()?)
}

fn order_is_kept_while_a_node_is_cut_off_from_postgresql(services: &mut Services) -> Result<()> {
    let (cluster, in_order, load) = begin(services, "order-no-postgres", 3)?;
    in_order.is_down(&cluster)?;
    cluster.to_postgres(0)?.cut();
    in_order.is_up();
    std::thread::sleep(CUT);
    cluster.to_postgres(0)?.heal();
    cluster.delivers(0, 50)?;
    in_order.arrives(&cluster, load.stop()?)
}

fn order_is_kept_through_a_pause_in_which_a_node_is_killed(services: &mut Services) -> Result<()> {
    let (mut cluster, in_order, load) = begin(services, "order-pause", 2)?;
    in_order.is_paused(&cluster, 0, true)?;
    load.goes_on(300)?;
    cluster.nodes[0].kill()?;
    load.goes_on(300)?;
    // Another one joins, to which what was owed before it came goes as well.
    cluster.join()?;
    cluster.delivers(2, 50)?;
    in_order.is_paused(&cluster, 1, false)?;
    load.goes_on(300)?;
    in_order.arrives(&cluster, load.stop()?)
}

/// An endpoint that wants order.
struct InOrder {
    endpoint: HookEndpoint,
    id: String,
}

/// Nodes, and load, of which an endpoint that wants order gets all, too; each node has delivered
/// some.
fn begin<'a>(
    services: &'a mut Services,
    name: &str,
    nodes: usize,
) -> Result<(Cluster<'a>, InOrder, Load)> {
    let mut cluster = Cluster::start(services, name, 1)?;
    let endpoint = HookEndpoint::start()?;
    let url = endpoint.url();
    // What fails twice would else wait for minutes, and its key with it.
    let delays = [5; 20];
    let fields = json!({
        "name": "in order", "url": url, "active": true, "filter": {}, "ordering": "key",
        "retry_delays": delays,
    });
    let made = cluster.ask(0, "POST", "/endpoints", &json!({"endpoint": fields}))?;
    let id = made["data"]["id"].as_str().context("no id")?.to_owned();
    endpoint.refuse_once(REFUSED_ONCE);
    // They know of the endpoint from the start: one that runs already hears of it within a second,
    // and what it has read until then is not for the endpoint.
    for _ in 1..nodes {
        cluster.join()?;
    }
    let load = cluster.load_on_all()?;
    Ok((cluster, InOrder { endpoint, id }, load))
}

impl InOrder {
    /// Refuses everything until ranges of the log are owed.
    fn is_down(&self, cluster: &Cluster<'_>) -> Result<()> {
        self.endpoint.answer(503);
        owes_a_range(cluster)
    }

    fn is_up(&self) {
        self.endpoint.answer(204);
    }

    /// Pauses it until ranges of the log are owed, or lets it go on; asks a node that lives.
    fn is_paused(&self, cluster: &Cluster<'_>, node: usize, is_paused: bool) -> Result<()> {
        let path = format!("/endpoints/{}", self.id);
        let fields = json!({"endpoint": {"paused": is_paused}});
        cluster.ask(node, "PUT", &path, &fields)?;
        if is_paused {
            owes_a_range(cluster)?;
        }
        Ok(())
    }

    /// Waits until all have arrived and nothing is owed, and looks at the order.
    fn arrives(&self, cluster: &Cluster<'_>, sent: u32) -> Result<()> {
        self.endpoint.refuse_once(0);
        cluster.arrives(sent)?;
        let hooks = self.endpoint.hooks();
        let came = check_order(&hooks)?;
        ensure!(came == sent, "{came} of {sent} have come");
        println!("{} came again", hooks.len() - sent as usize);
        Ok(())
    }
}

/// Waits until some endpoint owes a range of the log.
fn owes_a_range(cluster: &Cluster<'_>) -> Result<()> {
    let owed = || cluster.query("SELECT count(*) FROM owed_range");
    eventually(
        PATIENCE,
        || "a range is owed".to_owned(),
        || Ok(owed()?.parse::<u32>()? > 0),
    )
}

/// How many different messages came, each for the first time behind all that is older of its key.
fn check_order(hooks: &[Hook]) -> Result<u32> {
    let mut last: BTreeMap<u32, u32> = BTreeMap::new();
    let mut count = 0;
    let number = |hook: &Hook| anyhow::Ok(message(&serde_json::from_str::<Value>(&hook.body)?));
    let numbers = hooks.iter().map(number).collect::<Result<Vec<u32>>>()?;
    for (place, number) in numbers.iter().copied().enumerate() {
        let key = number % KEYS;
        // Numbers of a key are so far apart.
        let next = last.get(&key).map_or(key, |last| last + KEYS);
        if number == next {
            last.insert(key, number);
            count += 1;
        }
        ensure!(
            number <= next,
            "at {place}, {number} comes before {next}, which is older and comes at {:?}",
            numbers.iter().position(|number| *number == next)
        );
    }
    Ok(count)
}
