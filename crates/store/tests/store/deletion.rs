//! Deleting accounts and applications: everything of them goes, nothing of others.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::ledger::{AttemptRow, DeadLetter, Happened, Ledger};
use dovecast_notification::NotificationId;
use dovecast_store::{
    Account, Changes, EndpointId, FilterSet, FilterSets, KeptPast, Profile, Scope, Store,
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::cleaning;
use crate::setup::{self, Kind, Test, cases, create};

const HOUR_MS: i64 = 60 * 60 * 1000;

cases![
    an_account_goes_with_everything_of_it_and_nothing_of_others,
    an_application_goes_and_no_filter_widens,
    what_is_not_there_is_not_deleted,
    what_a_deleted_endpoint_leaves_goes_and_what_is_noted_of_it_later_goes_too,
    what_is_deleted_is_not_in_the_file,
];

/// An account with one of everything.
pub(crate) async fn busy(store: &Store, number: &str) -> Result<(Account, EndpointId)> {
    let account = store.account_seen(number).await?;
    let profile = Profile {
        username: "joe".to_owned(),
        ..Profile::default()
    };
    store.user_seen(account.id, &profile).await?;
    let scope = Scope::Account(number.to_owned());
    store.create_token("token", scope).await?;
    let created = create(store, &account, "a", Some(FilterSets::default())).await?;
    let endpoint = created.endpoint.id;
    note(store, endpoint).await?;
    Ok((account, endpoint))
}

/// One of everything that nodes note of an endpoint.
async fn note(store: &Store, endpoint: EndpointId) -> Result<()> {
    let notification = NotificationId(Uuid::from_u128(1));
    store
        .record(&[
            Happened::Owed(setup::owed(endpoint, 0)),
            Happened::Dead(DeadLetter {
                note: String::new(),
                together: None,
                record: None,
                endpoint: Some(endpoint),
                notification,
                content: Bytes::from_static(b"{}"),
                reason: String::new(),
                time_ms: 0,
                attempts: 1,
            }),
            Happened::Attempt(AttemptRow {
                endpoint,
                notification,
                time_ms: 0,
                number: 1,
                is_delivered: false,
                status: None,
                latency_us: 0,
                said: String::new(),
            }),
        ])
        .await?;
    Ok(())
}

/// What is left of an endpoint: itself, what it owes, dead letters, attempts.
pub(crate) async fn left(store: &Store, endpoint: EndpointId) -> Result<[usize; 4]> {
    let owed = store.owed_counts().await?;
    let number = owed.get(&endpoint).map_or(0, |count| count.deliveries);
    for (most, expected) in [(1, number >= 1), (2, number >= 2)] {
        ensure!(store.owes(endpoint, most).await? == expected, "{most}");
    }
    let dead = store.dead_letters(None, 10).await?.letters;
    let dead = dead
        .iter()
        .filter(|kept| kept.letter.endpoint == Some(endpoint));
    Ok([
        store.load_endpoints(&[endpoint]).await?.len(),
        usize::from(owed.contains_key(&endpoint)),
        dead.count(),
        store.attempts(endpoint, 10).await?.len(),
    ])
}

async fn an_account_goes_with_everything_of_it_and_nothing_of_others(test: Test) -> Result<()> {
    let store = test.open().await?;
    let (gone, endpoint) = busy(&store, "gone").await?;
    let (_, other) = busy(&store, "other").await?;
    let before = left(&store, endpoint).await?;
    ensure!(before == [1; 4], "{before:?}");
    let seq = store.last_change().await?;
    ensure!(store.delete_account("gone").await?);
    let Changes::Endpoints { ids, .. } = store.changes_since(seq).await? else {
        anyhow::bail!("everything has changed");
    };
    ensure!(ids == [endpoint], "the dispatcher is not told: {ids:?}");
    ensure!(left(&store, other).await? == [1; 4]);
    ensure!(left(&store, endpoint).await? == [0; 4]);
    let scopes: Vec<_> = store.tokens().await?.into_iter().map(|t| t.scope).collect();
    ensure!(scopes == [Scope::Account("other".to_owned())], "{scopes:?}");
    ensure!(store.account_seen("gone").await?.id != gone.id);
    Ok(())
}

async fn an_application_goes_and_no_filter_widens(test: Test) -> Result<()> {
    let (store, account, application) = test.filled().await?;
    let sets = FilterSets {
        applications: vec![application.id],
        event_types: vec![application.event_types[0].id],
        ..FilterSets::default()
    };
    let named = create(&store, &account, "a", Some(sets)).await?.endpoint.id;
    let open = create(&store, &account, "b", Some(FilterSets::default())).await?;
    let seq = store.last_change().await?;
    ensure!(store.delete_application(application.id).await?);
    ensure!(store.application(application.id).await?.is_none());
    let Changes::Endpoints { ids, .. } = store.changes_since(seq).await? else {
        anyhow::bail!("everything has changed");
    };
    ensure!(ids == [named], "the dispatcher is not told: {ids:?}");
    let filter = store
        .filter(account.id, named)
        .await?
        .context("no filter")?;
    ensure!(filter.stale == [FilterSet::Applications, FilterSet::EventTypes]);
    let filter = store.filter(account.id, open.endpoint.id).await?;
    ensure!(filter.context("no filter")?.stale.is_empty());
    Ok(())
}

async fn what_is_not_there_is_not_deleted(test: Test) -> Result<()> {
    let (store, _, application) = test.filled().await?;
    ensure!(!store.delete_account("nobody").await?);
    ensure!(store.delete_application(application.id).await?);
    ensure!(!store.delete_application(application.id).await?);
    Ok(())
}

async fn what_a_deleted_endpoint_leaves_goes_and_what_is_noted_of_it_later_goes_too(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let (account, gone) = busy(&store, "gone").await?;
    let (_, other) = busy(&store, "other").await?;
    ensure!(store.sweep_gone().await? == 0);
    ensure!(store.delete_endpoint(account.id, gone).await?);
    // Whoever sweeps is told, and finds it though another process has deleted it.
    timeout(dovecast_testkit::PATIENCE, store.endpoint_gone()).await?;
    ensure!(store.another_node().sweep_gone().await? == 1);
    ensure!(left(&store, gone).await? == [0; 4]);
    ensure!(left(&store, other).await? == [1; 4]);
    // What was under way.
    note(&store, gone).await?;
    test.clock.pass(HOUR_MS - 1);
    ensure!(store.sweep_gone().await? == 0 && left(&store, gone).await? == [0, 1, 1, 1]);
    test.clock.pass(1);
    ensure!(store.sweep_gone().await? == 1 && left(&store, gone).await? == [0; 4]);
    ensure!(left(&store, other).await? == [1; 4]);
    ensure!(
        test.count("gone_endpoint")? == 0,
        "it is remembered for ever"
    );
    ensure!(
        test.count("dead_body")? == 1,
        "the body of the other's letter"
    );
    // Deleted while the clock was ahead, and one that has come back under its id.
    test.execute(&format!(
        "INSERT INTO gone_endpoint (endpoint_id, sweep_ms) VALUES ('{gone}', {}), ('{other}', 1)",
        10 * HOUR_MS
    ))?;
    note(&store, gone).await?;
    ensure!(store.sweep_gone().await? == 1);
    ensure!(left(&store, gone).await? == [0; 4] && left(&store, other).await? == [1; 4]);
    ensure!(test.count("gone_endpoint")? == 0);
    Ok(())
}

const BODY: &str = "a dead letter's body, long enough to fill a page of its own";

/// PostgreSQL keeps it until its own time: docs/operations.md says so.
async fn what_is_deleted_is_not_in_the_file(test: Test) -> Result<()> {
    if matches!(test.kind, Kind::Postgres(_)) {
        return Ok(());
    }
    let store = test.open().await?;
    let endpoint = EndpointId(Uuid::from_u128(7));
    let dead = |number: u128| DeadLetter {
        note: String::new(),
        together: None,
        record: None,
        endpoint: Some(endpoint),
        notification: NotificationId(Uuid::from_u128(number)),
        content: Bytes::from(BODY.repeat(100)),
        reason: String::new(),
        time_ms: 1,
        attempts: 1,
    };
    let happened: Vec<_> = (1..20).map(dead).map(Happened::Dead).collect();
    store.record(&happened).await?;
    ensure!(is_in(&test, BODY)?, "it was there");
    let kept = KeptPast {
        dead_letters: 0,
        ..KeptPast::default()
    };
    let dropped = store.forget_past(kept).await?;
    ensure!(dropped.dead_letters == 19, "{dropped:?}");
    // The server runs on.
    ensure!(!is_in(&test, BODY)?, "it is still in the file");
    store.close().await;
    Ok(())
}

fn is_in(test: &Test, part: &str) -> Result<bool> {
    for entry in std::fs::read_dir(test.dir.path())? {
        if cleaning::is_in(&std::fs::read(entry?.path())?, part) {
            return Ok(true);
        }
    }
    Ok(false)
}
