//! Mail push: each mail rings once at a device, however often it is read from the log.

use anyhow::{Result, ensure};
use dovecast_mail_push::{MailEvent, Topic};
use dovecast_store::{MaySend, PushEnd};

use crate::push::{joe, new, put};
use crate::pushes::{accept, answer, claim, tell, write};
use crate::setup::{Test, cases};

cases![
    a_mail_rings_once_however_often_it_is_told,
    something_new_in_a_mailbox_rings_again,
];

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
