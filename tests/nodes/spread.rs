//! Many registrations on three nodes: how evenly they are spread, what moves when one node is
//! killed, and how long it takes until all are cared for again.
//!
//! `DOVECAST_REGISTRATIONS=100000 cargo test -p dovecast-tests --test nodes -- registrations
//! --nocapture` measures so many; without it there are some thousands. No time is asserted.

use std::env;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::cases::cases;
use crate::cluster::{NODES, PARTITIONS, PATIENCE, Services, eventually};

cases![a_third_of_the_registrations_moves_when_one_of_three_nodes_is_killed];

/// Registrations where nobody says how many.
const FEW: u64 = 3_000;
/// Most of what a node may have besides its share, and less, in percent of all: some thousands are
/// spread less evenly than many.
const UNEVEN: u64 = 4;
const UNEVEN_OF_MANY: u64 = 2;

/// A client of each person, whose device nobody sends anything to.
const REGISTER: &str = "INSERT INTO push_subscription (id, context, user_name, login, client, transport, token_hash, \
    last_four, wishes, sealed, created_ms) SELECT 'r' || n, '1', n::text, n || '@1', 'phone1', 'fcm', 'h' || n, '', \
    '{\"topics\": [\"mail:new\"], \"content\": \"ids\", \"urgency\": \"normal\"}', '', 0 FROM generate_series(1, N) AS n";
const SPREAD: &str = "SELECT COUNT(*) FROM push_lease WHERE node <> '' GROUP BY node ORDER BY 1";

fn a_third_of_the_registrations_moves_when_one_of_three_nodes_is_killed(
    services: &mut Services,
) -> Result<()> {
    let all = match env::var("DOVECAST_REGISTRATIONS") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("`{text}` is no number"))?,
        Err(_) => FEW,
    };
    let name = "registrations";
    services.kafka.create_topic(name, PARTITIONS)?;
    let database = services.postgres.database()?;
    let query = |sql: &str| services.postgres.query(&database, sql);
    let mut nodes = Vec::new();
    for number in 0..usize::from(NODES) {
        let more = format!(
            "event_topics = ['{name}']\n[mail_push]\nallowed_clients = ['phone*']\n\
             [mail_push.sources]\norder = ['mailnotify']\n\
             [mail_push.mailnotify]\nlisten = '127.0.0.1:0'\n"
        );
        let node = services.node(number, (name, &database), &more)?;
        nodes.push(node.start()?);
    }
    query(&REGISTER.replace(", N)", &format!(", {all})")))?;
    let began = Instant::now();
    let few = if all > FEW { UNEVEN_OF_MANY } else { UNEVEN };
    let mut shares = Vec::new();
    let even = |shares: &[u64], nodes: u64| {
        let off = |share: &u64| (share * nodes).abs_diff(all) * 100 / (all * nodes);
        shares.len() as u64 == nodes && shares.iter().all(|share| off(share) <= few)
    };
    let spread = || -> Result<Vec<u64>> {
        let counts = query(SPREAD)?;
        Ok(counts.lines().map(str::parse).collect::<Result<_, _>>()?)
    };
    eventually(
        PATIENCE,
        || format!("{all} are spread: {:?}", spread()),
        || {
            shares = spread()?;
            Ok(even(&shares, 3) && shares.iter().sum::<u64>() == all)
        },
    )?;
    println!(
        "{all} registrations are spread as {shares:?} after {:?}",
        began.elapsed()
    );
    query("CREATE TABLE spread_before AS SELECT user_name, node FROM push_lease")?;

    nodes.last_mut().context("no node")?.kill()?;
    let killed = Instant::now();
    eventually(
        PATIENCE,
        || format!("{all} are heard again: {:?}", spread()),
        || {
            shares = spread()?;
            Ok(shares.len() == 2 && shares.iter().sum::<u64>() == all)
        },
    )?;
    let took = killed.elapsed();
    let moved = query(
        "SELECT COUNT(*), COUNT(DISTINCT before.node) FROM spread_before AS before \
         JOIN push_lease AS now USING (user_name) WHERE before.node <> now.node",
    )?;
    let (moved, of_nodes) = moved.trim().split_once('|').context("no counts")?;
    let moved: u64 = moved.parse()?;
    println!("one is killed: all are cared for after {took:?}, {moved} have moved, now {shares:?}");
    ensure!(of_nodes == "1", "listeners of {of_nodes} nodes have moved");
    ensure!(
        (moved * 3).abs_diff(all) * 100 <= few * all * 3,
        "{moved} of {all} have moved"
    );
    ensure!(even(&shares, 2), "{shares:?}");
    Ok(())
}
