//! Endpoints of drivers of the configuration file: each block has one on all nodes, and keeps it
//! and what it owes while it is not in the configuration.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use dovecast_dispatch::ledger::{Happened, Ledger};
use dovecast_notification::filter::EVERY_ACCOUNT;

use crate::setup::{Test, cases, owed};

cases![
    each_block_has_one_endpoint_on_all_nodes,
    what_a_block_owes_is_there_when_it_comes_back,
];

async fn each_block_has_one_endpoint_on_all_nodes(test: Test) -> Result<()> {
    let store = test.open().await?;
    let other = store.another_node();
    let blocks = ["ox", "script"];
    // Both nodes start at the same time.
    let (one, two) = tokio::join!(
        store.configured_endpoints(&blocks),
        other.configured_endpoints(&blocks)
    );
    let (one, two) = (one?, two?);
    let names: Vec<&str> = one.iter().map(|(name, _)| &**name).collect();
    ensure!(names == blocks && one == two, "{one:?}, and {two:?}");
    let ids: BTreeSet<_> = one.iter().map(|(_, id)| id).collect();
    ensure!(ids.len() == blocks.len(), "{one:?}");
    ensure!(store.configured_endpoints(&blocks).await? == one);
    // Nobody else can name them: their account is in no list.
    let accounts = store.accounts(1_000, 0).await?;
    let is_theirs = |number: &str| number == EVERY_ACCOUNT;
    ensure!(
        !accounts.items.iter().any(|of| is_theirs(&of.number)),
        "{accounts:?}"
    );
    Ok(())
}

async fn what_a_block_owes_is_there_when_it_comes_back(test: Test) -> Result<()> {
    let store = test.open().await?;
    let before = store.configured_endpoints(&["log", "ox"]).await?;
    let (_, ox) = before.last().context("there are two")?;
    store.beat(0, 50_000).await?;
    store.record(&[Happened::Owed(owed(*ox, 0))]).await?;
    store.leave().await?;
    store.close().await;
    // A start without the block finds what there was before.
    let store = test.open().await?;
    let without = store.configured_endpoints(&["log", "more"]).await?;
    ensure!(without.len() == 3 && before.iter().all(|known| without.contains(known)));
    store.close().await;
    let store = test.open().await?;
    let after = store.configured_endpoints(&["log", "ox"]).await?;
    ensure!(after == without, "{after:?}, and before: {without:?}");
    store.beat(0, 50_000).await?;
    let claimed = store.claim_owed(0, 10).await?;
    ensure!(claimed == [owed(*ox, 0)], "{claimed:?}");
    Ok(())
}
