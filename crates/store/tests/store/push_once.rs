//! Mail push: each mail rings once at a device, however often it is read from the log.

use std::sync::Arc;
use std::thread;

use anyhow::{Result, ensure};
use dovecast_mail_push::{MailEvent, Topic};
use dovecast_store::{MaySend, PushEnd};

use crate::cuts::until;
use crate::push::{joe, new, put};
use crate::pushes::{accept, answer, claim, tell, write};
use crate::setup::{Kind, OpenTransaction, Test, cases};

cases![
    a_mail_rings_once_however_often_it_is_told,
    a_mail_that_is_told_while_its_push_is_accepted_rings_once,
    something_new_in_a_mailbox_rings_again,
];

/// What a node writes whose push is accepted; it ends when the first row of `feed` is free.
const ACCEPTED: &str = "BEGIN; INSERT INTO push_accepted (subscription_id, tag, context, user_name, accepted_ms) \
    SELECT subscription_id, tag, context, user_name, 0 FROM push_waiting; DELETE FROM push_waiting; \
    SELECT seq FROM feed FOR UPDATE; COMMIT";
/// Transactions that wait for others.
const WAITING: &str =
    "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

async fn a_mail_rings_once_however_often_it_is_told(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    tell(&store, "MessageNew", 1, r#","unseen":1"#).await?;
    tell(&store, "MessageNew", 1, r#","unseen":2"#).await?;
    let first = claim(&store).await?;
    ensure!(first.len() == 1 && first[0].badge == Some(2), "{first:?}");
    ensure!(first[0].address.token() == "t" && first[0].topic == Topic::MailNew);
    ensure!(claim(&store.another_node()).await?.is_empty());
    // What is read from the log again, as after a crash, rings once: while it is under way ...
    tell(&store, "MessageNew", 1, r#","unseen":2"#).await?;
    accept(&store, &first).await?;
    ensure!(store.waiting_pushes().await? == 0);
    // ... when it was sent, and when it is about to be closed.
    tell(&store, "MessageNew", 1, r#","unseen":2"#).await?;
    ensure!(store.waiting_pushes().await? == 0);
    tell(&store, "MessageRead", 1, "").await?;
    tell(&store, "MessageNew", 1, r#","unseen":2"#).await?;
    let closing = claim(&store).await?;
    ensure!(
        closing.len() == 1 && closing[0].topic == Topic::MailClose,
        "{closing:?}"
    );
    let record = store.subscriptions(&joe()).await?.remove(0);
    ensure!(record.answer == Some(answer(201)), "{record:?}");
    Ok(())
}

async fn a_mail_that_is_told_while_its_push_is_accepted_rings_once(test: Test) -> Result<()> {
    // Who writes to a file is alone.
    let Kind::Postgres(postgres) = &test.kind else {
        return Ok(());
    };
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    tell(&store, "MessageNew", 1, "").await?;
    let other = OpenTransaction::begin(&test, "BEGIN; SELECT seq FROM feed FOR UPDATE").await?;
    let (postgres, url) = (Arc::clone(postgres), test.url.clone());
    let accepting = thread::spawn(move || postgres.query(&url, ACCEPTED));
    until(|| Ok((test.count(WAITING)? == 1).then_some(()))).await?;
    let again = store.clone();
    let telling = tokio::spawn(async move { tell(&again, "MessageNew", 1, "").await });
    until(|| Ok((test.count(WAITING)? == 2).then_some(()))).await?;
    other.end(&test)?;
    let accepted = accepting.join();
    accepted.map_err(|_| anyhow::anyhow!("the other node has panicked"))??;
    telling.await??;
    ensure!(store.waiting_pushes().await? == 0);
    Ok(())
}

async fn something_new_in_a_mailbox_rings_again(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    let tell = async || {
        let event = MailEvent::something_new(joe(), "INBOX");
        write(&store, 0, event).await
    };
    tell().await?;
    let first = claim(&store).await?;
    ensure!(first.len() == 1, "{first:?}");
    // It is another mail, of which nothing is known: the push that is under way is not enough.
    tell().await?;
    ensure!(store.may_send(&first[0]).await? == MaySend::No);
    store
        .end_push(&first[0], &PushEnd::Accepted(answer(201)))
        .await?;
    for _ in 0..2 {
        let next = claim(&store).await?;
        ensure!(next.len() == 1, "{next:?}");
        accept(&store, &next).await?;
        ensure!(store.waiting_pushes().await? == 0);
        tell().await?;
    }
    Ok(())
}
