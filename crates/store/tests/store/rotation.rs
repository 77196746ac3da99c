//! A key that replaces another: on one node, with nodes that write meanwhile, and interrupted.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_dispatch::ledger::Ledger;
use dovecast_store::{
    Account, CreatedEndpoint, EndpointEdit, KeySource, KeyUse, Receiver, Rotated, SecretsError,
    Store, StoreError,
};

use crate::cuts::until;
use crate::secrets::{expected, opened, secretive, write};
use crate::setup::{Kind, OpenTransaction, Test, cases, soon};

cases![
    a_new_key_seals_everything_and_the_old_one_goes,
    a_key_that_was_put_there_beforehand_is_taken,
    a_rotation_that_was_interrupted_goes_on,
    nodes_write_and_read_during_a_rotation,
    a_node_that_has_not_got_the_new_key_holds_a_rotation_up,
    a_node_that_begins_during_a_rotation_is_waited_for,
    a_key_is_not_retired_while_a_value_needs_it,
];

pub(crate) const NEW_KEY: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=\n";
/// More than one batch.
const MANY: usize = 250;
/// How often a dispatcher says that it lives: more often than a real one.
const BEAT_INTERVAL: Duration = Duration::from_millis(20);
/// For how long a dispatcher lives that says so once.
pub(crate) const LIFE_MS: i64 = 600_000;

pub(crate) async fn fill(
    store: &Store,
    account: &Account,
    count: usize,
) -> Result<Vec<CreatedEndpoint>> {
    let mut made = Vec::with_capacity(count);
    for number in 0..count {
        let new = secretive(&format!("e{number}"));
        made.push(store.create_endpoint(account.id, &new, u64::MAX).await?);
    }
    Ok(made)
}

/// A node with a copy of the file of keys, the file and the copy.
pub(crate) async fn node_with_a_copy(test: &Test) -> Result<(Store, PathBuf, PathBuf)> {
    let file = test.dir.path().join("secrets.key");
    let copy = test.dir.path().join("copy.key");
    write(&copy, fs::read(&file)?)?;
    let mut options = test.options()?;
    options.keys = KeySource::File(copy.clone());
    Ok((Store::open(&options).await?, file, copy))
}

/// Everything can be opened, and is what it was.
pub(crate) async fn check(store: &Store, made: &[CreatedEndpoint]) -> Result<()> {
    let ids: Vec<_> = made.iter().map(|made| made.endpoint.id).collect();
    let records = store.load_endpoints(&ids).await?;
    ensure!(records.len() == made.len());
    for record in &records {
        let made = made
            .iter()
            .find(|made| made.endpoint.id == record.endpoint.id);
        let made = made.context("another endpoint")?;
        let wanted = expected(
            &made.endpoint.name,
            &[made.secret.as_ref().context("a secret")?.expose()],
        );
        ensure!(opened(record)? == wanted, "{}", made.endpoint.name);
    }
    Ok(())
}

/// Whether each key is current, here, retired, and what is sealed with it.
pub(crate) async fn keys(store: &Store) -> Result<Vec<(bool, bool, bool, u64)>> {
    let state = |key: KeyUse| {
        let is_retired = key.retired_ms.is_some();
        (key.is_current, key.is_here, is_retired, key.rows)
    };
    let keys = store.secret_keys().await?;
    Ok(keys.into_iter().map(state).collect())
}

async fn a_new_key_seals_everything_and_the_old_one_goes(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let made = fill(&store, &account, MANY).await?;
    let before = fs::read_to_string(test.dir.path().join("secrets.key"))?;
    ensure!(keys(&store).await? == [(true, true, false, 250)]);
    let done = store.rotate_secret_key().await?;
    ensure!(
        (done.sealed, done.damaged, &done.kept) == (250, 0, &None),
        "{done:?}"
    );
    ensure!(done.retired.len() == 1, "{done:?}");
    // A database that loses its last commits needs it again.
    ensure!(done.taken_out.is_empty(), "{done:?}");
    check(&store, &made).await?;
    store.close().await;
    let after = fs::read_to_string(test.dir.path().join("secrets.key"))?;
    ensure!(
        after.lines().count() == 2 && after.starts_with(&before),
        "{after}"
    );
    let store = test.open().await?;
    check(&store, &made).await?;
    let found = keys(&store).await?;
    ensure!(
        found == [(false, true, true, 0), (true, true, false, 250)],
        "{found:?}"
    );
    ensure!(store.resume_rotation().await?.is_none());
    // And once more, with nothing that is left of it.
    let next = store.rotate_secret_key().await?;
    ensure!(next.sealed == 250 && next.retired == [done.key], "{next:?}");
    ensure!(next.taken_out == done.retired, "{next:?}");
    let last = fs::read_to_string(test.dir.path().join("secrets.key"))?;
    ensure!(
        !last.contains(&before) && last.lines().count() == 2,
        "{last}"
    );
    ensure!(last.starts_with(&done.key.to_string()), "{last}");
    ensure!(store.resume_rotation().await?.is_none());
    check(&store, &made).await?;
    Ok(())
}

async fn a_key_that_was_put_there_beforehand_is_taken(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let made = fill(&store, &account, 3).await?;
    let file = test.dir.path().join("secrets.key");
    let first = fs::read_to_string(&file)?;
    // In the wrong order.
    let both = format!("{NEW_KEY}{first}");
    write(&file, &both)?;
    let done = store.rotate_secret_key().await?;
    ensure!(fs::read_to_string(&file)? == both);
    // What is retired is there still, and is not taken again.
    let next = store.rotate_secret_key().await?;
    ensure!(next.key != done.key && !first.contains(&next.key.to_string()));
    let left = fs::read_to_string(&file)?;
    ensure!(
        !left.contains(&first) && left.contains(NEW_KEY.trim_end()),
        "{left}"
    );
    check(&store, &made).await?;
    Ok(())
}

async fn a_rotation_that_was_interrupted_goes_on(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let mut made = fill(&store, &account, MANY).await?;
    let file = test.dir.path().join("secrets.key");
    let first = fs::read_to_string(&file)?;
    write(&file, format!("{first}{NEW_KEY}"))?;
    store.close().await;
    let store = test.open().await?;
    let new = store.secret_keys().await?.pop().context("two keys")?.id;
    // As after step 2.
    test.execute(&format!(
        "UPDATE feed SET key_id = '{new}'; INSERT INTO secret_key (id, first_ms) VALUES ('{new}', 9000000000000)"
    ))?;
    let last = secretive("last");
    made.push(store.create_endpoint(account.id, &last, u64::MAX).await?);
    let found = keys(&store).await?;
    ensure!(
        found == [(false, true, false, 250), (true, true, false, 1)],
        "{found:?}"
    );
    store.close().await;
    // Both are needed until it is done.
    write(&file, NEW_KEY)?;
    let refused = test.open().await.err().context("it starts")?.to_string();
    ensure!(refused.contains(&first[..16]), "{refused}");
    write(&file, format!("{first}{NEW_KEY}"))?;
    let store = test.open().await?;
    let done = store.resume_rotation().await?.context("nothing is left")?;
    ensure!((done.key, done.sealed) == (new, 250), "{done:?}");
    check(&store, &made).await?;
    ensure!(
        done.retired.len() == 1 && done.taken_out.is_empty(),
        "{done:?}"
    );
    Ok(())
}

/// Says every now and then that it lives, and retries where the database keeps it waiting, as a
/// dispatcher does.
pub(crate) fn live(
    store: &Store,
    is_over: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<Result<()>> {
    let (store, is_over) = (store.clone(), Arc::clone(is_over));
    tokio::spawn(async move {
        let mut beats = tokio::time::interval(BEAT_INTERVAL);
        let mut is_alive = false;
        loop {
            beats.tick().await;
            let beat = store.beat(0, LIFE_MS).await;
            is_alive |= beat.is_ok();
            if is_over.load(Ordering::Relaxed) {
                return if is_alive { Ok(()) } else { Ok(beat?) };
            }
        }
    })
}

async fn nodes_write_and_read_during_a_rotation(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let mut made = fill(&store, &account, MANY).await?;
    // A file has one process: the other node is the same one then.
    let other = match test.kind {
        Kind::Sqlite => store.clone(),
        Kind::Postgres(_) => test.open().await?,
    };
    let is_over = Arc::<AtomicBool>::default();
    let beats = [live(&store, &is_over), live(&other, &is_over)];
    let writing = {
        let (other, is_over) = (other.clone(), Arc::clone(&is_over));
        let some = made[..20].to_vec();
        tokio::spawn(async move {
            let mut more = Vec::new();
            while !is_over.load(Ordering::Relaxed) || more.is_empty() {
                let name = format!("more{}", more.len());
                let new = secretive(&name);
                more.push(other.create_endpoint(account.id, &new, u64::MAX).await?);
                let edited = &some[more.len() % some.len()].endpoint;
                let edit = EndpointEdit {
                    receiver: edited.url.clone().map(Receiver::Webhook),
                    ..EndpointEdit::default()
                };
                other.edit_endpoint(account.id, edited.id, &edit).await?;
                check(&other, &some).await?;
            }
            anyhow::Ok(more)
        })
    };
    for _ in 0..2 {
        soon(store.rotate_secret_key()).await??;
    }
    is_over.store(true, Ordering::Relaxed);
    made.extend(writing.await??);
    for beat in beats {
        beat.await??;
    }
    let found = keys(&store).await?;
    let (last, before) = found.split_last().context("keys")?;
    ensure!(*last == (true, true, false, made.len() as u64), "{found:?}");
    ensure!(before.iter().all(|key| key.2 && key.3 == 0), "{found:?}");
    for node in [&store, &other] {
        check(node, &made).await?;
    }
    store.close().await;
    other.close().await;
    check(&test.open().await?, &made).await?;
    Ok(())
}

async fn a_node_that_has_not_got_the_new_key_holds_a_rotation_up(test: Test) -> Result<()> {
    let Kind::Postgres(_) = &test.kind else {
        // A file has one process.
        return Ok(());
    };
    let (store, account, _) = test.filled().await?;
    let made = fill(&store, &account, 3).await?;
    let (other, file, copy) = node_with_a_copy(&test).await?;
    other.beat(0, LIFE_MS).await?;
    let refused = soon(store.rotate_secret_key()).await?;
    let error = refused.err().context("a node cannot open what it seals")?;
    let is_said = matches!(
        error,
        StoreError::Secrets(SecretsError::NotEverywhere { .. })
    );
    ensure!(is_said, "{error}");
    let found = keys(&store).await?;
    ensure!(
        found == [(true, true, false, 3), (false, true, false, 0)],
        "{found:?}"
    );
    // With a copy of the file the same key is taken, without a restart.
    write(&copy, fs::read(&file)?)?;
    ends_beside(&other, soon(store.rotate_secret_key()), &made).await
}

/// A rotation seals everything anew while another node lives, which can open it then.
async fn ends_beside(
    other: &Store,
    rotation: impl Future<Output = Result<Result<Rotated, StoreError>>>,
    made: &[CreatedEndpoint],
) -> Result<()> {
    let is_over = Arc::<AtomicBool>::default();
    let beat = live(other, &is_over);
    let done = rotation.await??;
    is_over.store(true, Ordering::Relaxed);
    beat.await??;
    ensure!(done.sealed == 3, "{done:?}");
    check(other, made).await
}

const WAITING: &str =
    "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

async fn a_node_that_begins_during_a_rotation_is_waited_for(test: Test) -> Result<()> {
    let Kind::Postgres(_) = &test.kind else {
        // A file has one process.
        return Ok(());
    };
    let (store, account, _) = test.filled().await?;
    let made = fill(&store, &account, 3).await?;
    let (other, file, copy) = node_with_a_copy(&test).await?;
    // A change is under way: the rotation has asked all who live, and waits for its turn.
    let changing = OpenTransaction::begin(&test, "BEGIN; UPDATE feed SET seq = seq + 1").await?;
    let rotating = {
        let store = store.clone();
        tokio::spawn(async move { soon(store.rotate_secret_key()).await })
    };
    until(|| Ok((test.count(WAITING)? == 1).then_some(()))).await?;
    other.beat(0, LIFE_MS).await?;
    changing.end(&test)?;
    write(&copy, fs::read(&file)?)?;
    ends_beside(&other, async { rotating.await? }, &made).await
}

async fn a_key_is_not_retired_while_a_value_needs_it(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let made = fill(&store, &account, 3).await?;
    test.execute(
        "UPDATE endpoint SET sealed = (SELECT sealed FROM endpoint WHERE name = 'e1') WHERE name = 'e0'",
    )?;
    let done = store.rotate_secret_key().await?;
    ensure!((done.sealed, done.damaged) == (2, 1), "{done:?}");
    ensure!(done.retired.is_empty(), "{done:?}");
    let found = keys(&store).await?;
    ensure!(
        found == [(false, true, false, 1), (true, true, false, 2)],
        "{found:?}"
    );
    check(&store, &made[1..]).await?;
    let id = made[0].endpoint.id;
    // What cannot be opened forbids no further rotation, and keeps the key that it names.
    let next = store.rotate_secret_key().await?;
    ensure!(
        next.key != done.key && next.retired == [done.key],
        "{next:?}"
    );
    ensure!((next.sealed, next.damaged) == (2, 1), "{next:?}");
    let found = keys(&store).await?;
    let expected = [
        (false, true, false, 1),
        (false, true, true, 0),
        (true, true, false, 2),
    ];
    ensure!(found == expected, "{found:?}");
    check(&store, &made[1..]).await?;
    ensure!(store.delete_endpoint(account.id, id).await?);
    let done = store.rotate_secret_key().await?;
    ensure!((done.sealed, done.retired.len()) == (0, 1), "{done:?}");
    Ok(())
}
