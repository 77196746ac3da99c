//! Mail push: what becomes of a push while an attempt at it is under way, or after one of which
//! nobody knows what came.

use anyhow::{Context, Result, ensure};
use dovecast_mail_push::{DeviceAddress, Topic};
use dovecast_store::{LastAnswer, MaySend, PushEnd, SubscriptionEdit};
use std::convert::identity;

use crate::cuts::until;
use crate::push::{ann, joe, new, put};
use crate::pushes::{accept, answer, claim, tell};
use crate::setup::{Kind, OpenTransaction, Test, cases};

cases![
    a_push_whose_device_is_registered_anew_is_sent_to_its_new_address,
    a_device_that_is_taken_over_while_it_is_changed_is_not_taken_back,
    what_may_be_shown_is_closed_when_it_is_read,
];

/// As registering does that takes a token over.
const TAKE_OVER: &str =
    "UPDATE push_subscription SET user_name = '12', login = '12@3', client = 'of ann'";

async fn a_push_whose_device_is_registered_anew_is_sent_to_its_new_address(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let id = put(&store, new(&joe(), "old", &["mail:new"])).await?;
    let id = id.record.subscription.id;
    tell(&store, "MessageNew", 1, "").await?;
    let edit = |token: &str| SubscriptionEdit {
        address: Some(DeviceAddress::Fcm {
            token: token.to_owned(),
        }),
        ..SubscriptionEdit::default()
    };
    for change in ["again", "edited", "rotated"] {
        let push = claim(&store).await?;
        let push = push.first().with_context(|| format!("lost: {change}"))?;
        match change {
            "again" => {
                put(&store, new(&joe(), "old", &["*"])).await?;
            }
            "edited" => {
                let edited = store
                    .edit_subscription(&joe(), id, edit("new"), identity)
                    .await?;
                edited.context("changed")?;
            }
            _ => {
                store.rotate_secret_key().await?;
            }
        }
        let may_send = store.may_send(push).await?;
        ensure!(may_send == MaySend::Readdressed, "{change}: {may_send:?}");
        store.end_push(push, &PushEnd::Released).await?;
    }
    let push = claim(&store).await?;
    ensure!(
        push.len() == 1 && push[0].address.token() == "new" && push[0].failures == 0,
        "{push:?}"
    );
    accept(&store, &push).await?;
    ensure!(store.waiting_pushes().await? == 0);
    Ok(())
}

async fn a_device_that_is_taken_over_while_it_is_changed_is_not_taken_back(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let made = put(&store, new(&joe(), "t", &["mail:new"])).await?;
    let id = made.record.subscription.id;
    let edit = SubscriptionEdit {
        client: Some("of joe".to_owned()),
        ..SubscriptionEdit::default()
    };
    let begun = store.statements();
    let editing = {
        let store = store.clone();
        async move { store.edit_subscription(&joe(), id, edit, identity).await }
    };
    // The change waits for another one, whatever it has read before.
    let edited = match &test.kind {
        Kind::Sqlite => {
            let database = rusqlite::Connection::open(test.dir.path().join("state.db"))?;
            database.execute_batch(&format!("BEGIN IMMEDIATE; {TAKE_OVER}"))?;
            let editing = tokio::spawn(editing);
            until(|| Ok((store.statements() > begun).then_some(()))).await?;
            database.execute_batch("COMMIT")?;
            editing.await??
        }
        Kind::Postgres(_) => {
            let other = OpenTransaction::begin(&test, "BEGIN; SELECT seq FROM feed FOR UPDATE");
            let other = other.await?;
            let editing = tokio::spawn(editing);
            let waiting =
                "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            until(|| Ok((test.count(waiting)? == 1).then_some(()))).await?;
            test.execute(TAKE_OVER)?;
            other.end(&test)?;
            editing.await??
        }
    };
    ensure!(edited.is_none(), "{edited:?}");
    let of_ann = store.subscriptions(&ann()).await?;
    ensure!(
        of_ann.len() == 1 && of_ann[0].subscription.client == "of ann",
        "{of_ann:?}"
    );
    Ok(())
}

async fn what_may_be_shown_is_closed_when_it_is_read(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    let no_answer = || LastAnswer {
        status: None,
        ..answer(0)
    };
    for (uid, end, is_replaced, is_closed) in [
        (1, PushEnd::Unanswered(10_000, no_answer()), false, true),
        (2, PushEnd::Unanswered(10_000, no_answer()), true, true),
        // Its service has said that it does not have it, or was not asked.
        (3, PushEnd::Later(10_000, answer(503)), false, false),
        (4, PushEnd::Held(10_000), false, false),
    ] {
        tell(&store, "MessageNew", uid, "").await?;
        let push = claim(&store).await?.remove(0);
        if is_replaced {
            tell(&store, "MessageNew", uid, r#","unseen":7"#).await?;
        }
        store.end_push(&push, &end).await?;
        tell(&store, "MessageRead", uid, r#","unseen":0"#).await?;
        let closing = claim(&store).await?;
        ensure!(
            closing.len() == usize::from(is_closed),
            "{uid}: {closing:?}"
        );
        if is_closed {
            ensure!(closing[0].topic == Topic::MailClose && closing[0].tag == push.tag);
        }
        accept(&store, &closing).await?;
        ensure!(store.waiting_pushes().await? == 0, "{uid}");
    }
    // An answer that came later does not take back what may be shown.
    tell(&store, "MessageNew", 5, "").await?;
    let push = claim(&store).await?.remove(0);
    let unanswered = PushEnd::Unanswered(0, no_answer());
    store.end_push(&push, &unanswered).await?;
    let push = claim(&store).await?.remove(0);
    ensure!(push.failures == 1, "{push:?}");
    let later = PushEnd::Later(10_000, answer(503));
    store.end_push(&push, &later).await?;
    tell(&store, "MessageExpunge", 5, "").await?;
    ensure!(claim(&store).await?.len() == 1, "it is closed");
    Ok(())
}
