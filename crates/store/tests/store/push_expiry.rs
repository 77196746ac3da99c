//! Mail push: sessions and subscriptions that have expired. Nobody finds them, and they are deleted
//! a day later: a clock that is wrong for a while deletes nothing.

use std::convert::identity;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use dovecast_mail_push::placement::Lease;
use dovecast_store::{Clock, NewSubscription, ShownSession, Store, SubscriptionEdit};

use crate::push::{ann, joe, new, put};
use crate::pushes::{accept, claim, tell};
use crate::setup::{Kind, Test, cases};

cases![
    what_has_expired_is_found_by_nobody_and_deleted_a_day_later,
    a_subscription_that_has_expired_is_made_anew,
    a_node_whose_clock_is_a_day_ahead_ends_nothing,
];

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A subscription of joe for everything that ends.
fn ending(token: &str, expires_ms: i64) -> NewSubscription {
    NewSubscription {
        expires_ms: Some(expires_ms),
        ..new(&joe(), token, &["*"])
    }
}

async fn what_has_expired_is_found_by_nobody_and_deleted_a_day_later(test: Test) -> Result<()> {
    let store = test.open().await?;
    let made = put(&store, ending("t", 1000)).await?;
    let id = made.record.subscription.id;
    let session = store.create_session(&joe(), 1000).await?;
    let lease = Lease {
        person: joe(),
        fence: 1,
    };
    store.put_heard(&lease, "known").await?;
    store.put_metadata(&lease).await?;
    tell(&store, "MessageNew", 1, "").await?;
    accept(&store, &claim(&store).await?).await?;
    tell(&store, "MessageNew", 2, "").await?;
    ensure!(store.new_mail_clients().await?.len() == 1);
    test.clock.pass(1000);
    ensure!(store.subscriptions(&joe()).await?.is_empty());
    ensure!(store.subscription_address(&joe(), id).await?.is_none());
    let edit = SubscriptionEdit::default();
    ensure!(
        store
            .edit_subscription(&joe(), id, edit, identity)
            .await?
            .is_none()
    );
    ensure!(store.push_clients().await?.is_empty());
    ensure!(store.new_mail_clients().await?.is_empty());
    ensure!(store.push_persons().await?.is_empty());
    ensure!(store.session(&session.secret).await? == ShownSession::Expired);
    ensure!(claim(&store).await?.is_empty(), "its device has expired");
    tell(&store, "MessageRead", 1, "").await?;
    ensure!(
        store.waiting_pushes().await? == 1,
        "nothing is closed there"
    );
    // What is of no use to anybody stays, for the case that the clock is wrong.
    ensure!(store.drop_expired_subscriptions().await? == 0);
    ensure!(store.drop_expired_sessions().await? == 0);
    ensure!(store.forget_unheard().await? == 0);
    test.clock.pass(DAY_MS);
    ensure!(store.drop_expired_subscriptions().await? == 1);
    ensure!(store.drop_expired_sessions().await? == 1);
    ensure!(store.forget_unheard().await? == 1);
    ensure!(store.heard(&joe()).await?.is_none());
    Ok(())
}

async fn a_subscription_that_has_expired_is_made_anew(test: Test) -> Result<()> {
    let store = test.open().await?;
    let mut ids = Vec::new();
    for token in ["a", "b", "c"] {
        let made = put(&store, ending(token, 1000)).await?;
        ids.push(made.record.subscription.id);
    }
    tell(&store, "MessageNew", 1, "").await?;
    test.clock.pass(1000);
    // There is room for it, it is another one, and nobody has lost it.
    let again = put(&store, new(&joe(), "a", &["*"])).await?;
    let id = again.record.subscription.id;
    ensure!(again.is_new && !ids.contains(&id), "{again:?}");
    let of_ann = put(&store, new(&ann(), "b", &["*"])).await?;
    ensure!(of_ann.is_new && !of_ann.is_taken_over, "{of_ann:?}");
    // What has waited for the third one is not what its service did not take.
    ensure!(store.waiting_pushes().await? == 1);
    test.clock.pass(5 * HOUR_MS);
    ensure!(store.drop_old_pushes().await?.overdue == 0);
    ensure!(store.waiting_pushes().await? == 0);
    Ok(())
}

async fn a_node_whose_clock_is_a_day_ahead_ends_nothing(test: Test) -> Result<()> {
    let node = async |ahead_ms: i64| -> Result<Store> {
        let mut options = test.options()?;
        options.clock = Clock::ahead(ahead_ms);
        Ok(Store::open(&options).await?)
    };
    // A file of SQLite has one node.
    let apart_ms = match test.kind {
        Kind::Sqlite => 0,
        Kind::Postgres(_) => 2 * DAY_MS,
    };
    let (right, ahead) = (node(0).await?, node(apart_ms).await?);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let soon_ms = i64::try_from(now_ms)? + HOUR_MS;
    put(&right, ending("t", soon_ms)).await?;
    let session = right.create_session(&joe(), HOUR_MS).await?;
    let lease = Lease {
        person: joe(),
        fence: 1,
    };
    right.put_heard(&lease, "known").await?;
    ensure!(ahead.drop_expired_subscriptions().await? == 0);
    ensure!(ahead.drop_expired_sessions().await? == 0);
    ensure!(ahead.forget_unheard().await? == 0);
    ensure!(ahead.subscriptions(&joe()).await?.len() == 1);
    ensure!(ahead.new_mail_clients().await?.len() == 1);
    ensure!(ahead.session(&session.secret).await? == ShownSession::Good(joe()));
    ensure!(ahead.heard(&joe()).await?.context("known")? == "known");
    // A session that it begins ends as soon as any other.
    let begun = ahead.create_session(&ann(), HOUR_MS).await?;
    let apart_ms = (begun.expires_ms - soon_ms).abs();
    ensure!(apart_ms < HOUR_MS / 2, "{apart_ms}");
    Ok(())
}
