//! Mail push: what becomes of a push while an attempt at it is under way, or after one of which
//! nobody knows what came.

use anyhow::{Context, Result, ensure};
use dovecast_mail_push::DeviceAddress;
use dovecast_store::{MaySend, PushEnd, SubscriptionEdit};

use crate::push::{joe, new, put};
use crate::pushes::{accept, claim, tell};
use crate::setup::{Test, cases};

cases![a_push_whose_device_is_registered_anew_is_sent_to_its_new_address];

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
                let edited = store.edit_subscription(&joe(), id, edit("new")).await?;
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
