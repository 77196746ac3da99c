//! The feed: nothing that changes is missed, in whatever order transactions end.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use dovecast_store::{Changes, EndpointEdit, EndpointId, FilterSets, Store};

use crate::cuts::until;
use crate::setup::{Kind, OpenTransaction, SLEEPING, Test, cases, create, endpoint, mail, soon};

cases![
    every_change_of_an_endpoint_is_told_once,
    who_waits_is_woken_also_by_another_node,
    a_database_that_was_put_back_is_read_anew,
    an_answer_that_comes_after_a_change_does_not_take_that_back,
    nothing_is_missed_while_many_write,
    who_is_too_far_behind_loads_everything,
    all_endpoints_are_loaded_in_pages,
];

async fn since(store: &Store, seq: &mut i64) -> Result<BTreeSet<EndpointId>> {
    match store.changes_since(*seq).await? {
        Changes::Endpoints { ids, seq: next } => {
            ensure!(next >= *seq);
            *seq = next;
            let count = ids.len();
            let ids: BTreeSet<_> = ids.into_iter().collect();
            ensure!(ids.len() == count, "one is told twice");
            Ok(ids)
        }
        Changes::Everything { .. } => bail!("everything"),
    }
}

async fn every_change_of_an_endpoint_is_told_once(test: Test) -> Result<()> {
    let (store, account, application) = test.filled().await?;
    let mut seq = store.last_change().await?;
    let sets = FilterSets {
        event_types: vec![application.event_types[1].id],
        ..FilterSets::default()
    };
    let a = create(&store, &account, "a", Some(sets)).await?.endpoint.id;
    let b = create(&store, &account, "b", None).await?.endpoint.id;
    ensure!(since(&store, &mut seq).await? == BTreeSet::from([a, b]));
    ensure!(since(&store, &mut seq).await?.is_empty());
    let edit = EndpointEdit {
        active: Some(false),
        ..EndpointEdit::default()
    };
    for _ in 0..2 {
        store.edit_endpoint(account.id, b, &edit).await?;
    }
    ensure!(since(&store, &mut seq).await? == BTreeSet::from([b]));
    store.rotate_secret(account.id, a, 0).await?;
    ensure!(since(&store, &mut seq).await? == BTreeSet::from([a]));
    ensure!(!store.disable(b, "it is not active").await?);
    ensure!(since(&store, &mut seq).await?.is_empty());
    ensure!(store.disable(a, "").await?);
    ensure!(since(&store, &mut seq).await? == BTreeSet::from([a]));
    let edit = EndpointEdit {
        active: Some(true),
        ..EndpointEdit::default()
    };
    store.edit_endpoint(account.id, b, &edit).await?;
    ensure!(since(&store, &mut seq).await? == BTreeSet::from([b]));
    // Only the filter that loses something is touched.
    store.register(&mail(&[("new", &[])]), false).await?;
    ensure!(since(&store, &mut seq).await? == BTreeSet::from([a]));
    store.delete_endpoint(account.id, b).await?;
    ensure!(since(&store, &mut seq).await? == BTreeSet::from([b]));
    ensure!(store.load_endpoints(&[b]).await?.is_empty());
    Ok(())
}

async fn who_waits_is_woken_also_by_another_node(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    // A file of SQLite has one server; a PostgreSQL may have several.
    let reader = match test.kind {
        Kind::Sqlite => store.clone(),
        Kind::Postgres(_) => test.open().await?,
    };
    for name in ["a", "b", "c"] {
        let seq = reader.last_change().await?;
        let waiting = reader.clone();
        let waiting = tokio::spawn(async move { waiting.changed(seq).await });
        create(&store, &account, name, None).await?;
        soon(waiting).await??;
        // What is past is told at once.
        soon(reader.changed(seq)).await?;
        let mut seq = seq;
        ensure!(since(&reader, &mut seq).await?.len() == 1);
    }
    Ok(())
}

async fn a_database_that_was_put_back_is_read_anew(test: Test) -> Result<()> {
    if let Kind::Sqlite = test.kind {
        // A file is not put back beneath a server.
        return Ok(());
    }
    let (store, account, _) = test.filled().await?;
    create(&store, &account, "a", None).await?;
    let seq = store.last_change().await?;
    test.execute("UPDATE feed SET seq = seq - 1")?;
    soon(store.changed(seq)).await?;
    let everything = Changes::Everything { seq: seq - 1 };
    ensure!(store.changes_since(seq).await? == everything);
    Ok(())
}

/// The question that other nodes' changes are looked for with waits for a lock before it is
/// answered, and sees what was there when it was asked.
const SLOW_QUESTION: &str = "ALTER TABLE feed RENAME TO feed_table; \
    CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
    IF current_query() = 'SELECT seq FROM feed' THEN PERFORM pg_advisory_xact_lock(7); END IF; \
    RETURN TRUE; END $$; \
    CREATE VIEW feed AS SELECT * FROM feed_table WHERE slow()";
/// Takes that lock.
const HOLD: &str = "BEGIN; SELECT pg_advisory_lock(7)";
/// Sessions that wait for that lock.
const WAITING: &str =
    "pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";

async fn there_are(test: &Test, count: i64, sessions: &str) -> Result<()> {
    let are_there = || Ok((test.count(sessions)? == count).then_some(()));
    soon(until(are_there)).await?
}

async fn an_answer_that_comes_after_a_change_does_not_take_that_back(test: Test) -> Result<()> {
    let Kind::Postgres(_) = &test.kind else {
        // A file has no other nodes.
        return Ok(());
    };
    let mut options = test.options()?;
    options.statement_timeout = dovecast_testkit::PATIENCE;
    let store = Store::open(&options).await?;
    let account = store.account_seen("6089719").await?;
    let first = soon(OpenTransaction::begin(&test, HOLD)).await??;
    test.execute(SLOW_QUESTION)?;
    there_are(&test, 1, WAITING).await?;
    create(&store, &account, "a", None).await?;
    let known = store.known_change();
    // Its turn comes behind the question's, and before the next one's.
    let second = soon(OpenTransaction::begin(&test, HOLD)).await??;
    there_are(&test, 2, WAITING).await?;
    first.end(&test)?;
    there_are(&test, 1, SLEEPING).await?;
    // Whoever asks again has taken note of the answer.
    there_are(&test, 1, WAITING).await?;
    let after = store.known_change();
    ensure!(after >= known, "{known} has become {after}");
    second.end(&test)
}

async fn nothing_is_missed_while_many_write(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let mut seq = store.last_change().await?;
    let writing: Vec<_> = (0..4)
        .map(|writer| {
            let (store, account) = (store.clone(), account.id);
            tokio::spawn(async move {
                let mut made = Vec::new();
                for number in 0..25 {
                    let new = endpoint(&format!("{writer}-{number}"));
                    made.push(
                        store
                            .create_endpoint(account, &new, u64::MAX)
                            .await?
                            .endpoint
                            .id,
                    );
                }
                Ok::<_, dovecast_store::StoreError>(made)
            })
        })
        .collect();
    let mut seen = BTreeSet::new();
    while seen.len() < 100 {
        soon(store.changed(seq)).await?;
        for id in since(&store, &mut seq).await? {
            ensure!(seen.insert(id), "told before");
        }
    }
    let mut made = BTreeSet::new();
    for writer in writing {
        made.extend(writer.await??);
    }
    ensure!(seen == made);
    Ok(())
}

async fn who_is_too_far_behind_loads_everything(test: Test) -> Result<()> {
    let mut options = test.options()?;
    options.kept_changes = 10;
    let store = Store::open(&options).await?;
    let account = store.account_seen("1").await?;
    let id = create(&store, &account, "a", None).await?.endpoint.id;
    for _ in 0..100 {
        store.rotate_secret(account.id, id, 0).await?;
    }
    let last = store.last_change().await?;
    let everything = Changes::Everything { seq: last };
    ensure!(store.changes_since(0).await? == everything);
    // A database that was put back to an earlier state.
    ensure!(store.changes_since(last + 1).await? == everything);
    let mut seq = last - 10;
    ensure!(since(&store, &mut seq).await? == BTreeSet::from([id]));
    let kept = test.dump("change")?.lines().count();
    ensure!(kept < 80, "{kept} rows are kept");
    Ok(())
}

async fn all_endpoints_are_loaded_in_pages(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let mut made = Vec::new();
    for number in 0..7 {
        let sets = (number % 2 == 0).then(FilterSets::default);
        let name = number.to_string();
        made.push(create(&store, &account, &name, sets).await?.endpoint.id);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.load_endpoints_after(after, 3).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.endpoint.id);
        seen.extend(page.iter().map(|record| record.endpoint.id));
    }
    made.sort();
    ensure!(seen == made);
    Ok(())
}
