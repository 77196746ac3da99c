//! Keys of which deliveries are owed: asked for at little cost, and those of one log apart from
//! those of another.

use std::sync::Arc;

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{BEHIND, Claiming, Happened, LEFT_ALONE_MS, Ledger};
use dovecast_notification::OrderKey;
use dovecast_store::Store;

use crate::order::{ENDPOINT, begin, claim, key, owed, partition};
use crate::setup::{Test, cases, each};
use Happened::{FailedAgain, Owed as Owes};

cases![
    a_key_that_was_left_behind_is_found,
    asking_for_keys_that_need_nothing_writes_nothing,
    a_key_of_one_log_waits_for_none_of_another,
];

async fn a_key_that_was_left_behind_is_found(test: Test) -> Result<()> {
    let store = begin(&test, vec![owed("a", 1, 0), owed("a", 2, BEHIND)]).await?;
    // As where two nodes write about the key at the same moment.
    test.execute(&format!("UPDATE owed SET due_ms = {BEHIND}"))?;
    ensure!(claim(&store, 1, 10).await? == (vec![], 0));
    let keys = vec![key("a"), key("b")];
    ensure!(store.owed_keys(ENDPOINT, keys).await? == [key("a")]);
    ensure!(claim(&store, 1, 10).await? == (vec![1, 2], 1));
    Ok(())
}

async fn asking_for_keys_that_need_nothing_writes_nothing(test: Test) -> Result<()> {
    // As many as are named in one question.
    let names: Vec<String> = (0..500).map(|number| format!("key {number}")).collect();
    let all = (1..)
        .zip(&names)
        .map(|(number, name)| owed(name, number, 0));
    let store = begin(&test, all.collect()).await?;
    let mut keys: Vec<OrderKey> = names.iter().map(|name| key(name)).collect();
    let before = store.statements();
    let mut found = store.owed_keys(ENDPOINT, keys.clone()).await?;
    let asked = store.statements() - before;
    found.sort_unstable();
    keys.sort_unstable();
    ensure!(found == keys);
    ensure!(asked <= 2, "{asked} statements");
    Ok(())
}

/// Dispatchers that share a database may have each a log of their own.
async fn a_key_of_one_log_waits_for_none_of_another(test: Test) -> Result<()> {
    let open = async |log: &str| -> Result<Store> {
        let mut options = test.options()?;
        log.clone_into(&mut options.log);
        Ok(Store::open(&options).await?)
    };
    let (one, two) = (open("one").await?, open("two").await?);
    let of = |log: &str, number, due_ms| {
        let mut owed = owed("a", number, due_ms);
        if let Some(place) = &mut owed.place {
            place.key = OrderKey::new(log, "events", 0, b"a");
        }
        owed
    };
    two.beat(0, 1_000_000).await?;
    one.record(&[Owes(of("one", 5, 10_000))]).await?;
    two.record(&[Owes(of("two", 1_000, 0))]).await?;
    ensure!(claim(&two, 1, 10).await? == (vec![1_000], 1));
    // Of the other log it claims what was left alone, and knows whose it is.
    let now_ms = 10_000 + LEFT_ALONE_MS;
    ensure!(claim(&two, now_ms - 1, 10).await? == (vec![], 0));
    let claiming = Claiming {
        now_ms,
        most: 10,
        partitions: vec![partition(0)],
        ..Claiming::default()
    };
    let claimed = two.claim(claiming).await?.owed;
    let logs: Vec<_> = claimed.iter().map(|owed| owed.place.as_ref()).collect();
    let logs: Vec<_> = logs.into_iter().flatten().map(|place| &place.log).collect();
    ensure!(logs == [&Some(Arc::from("one"))], "{claimed:?}");
    // Written whole, it stays the other one's.
    test.execute("DELETE FROM owed")?;
    two.record(&each(FailedAgain, claimed)).await?;
    ensure!(test.count("owed WHERE log = 'one'")? == 1);
    Ok(())
}
