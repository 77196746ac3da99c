//! Mail push: pushes that wait, are sent, replaced, gathered and taken back.

use std::convert::identity;
use std::slice;

use anyhow::{Context, Result, ensure};
use dovecast_mail_push::lanes::{LaneBounds, Lanes};
use dovecast_mail_push::plan::{Conditions, plan};
use dovecast_mail_push::{DeviceAddress, EventPlan, MailEvent, Subscription, Topic};
use dovecast_notification::EventAccount;
use dovecast_store::{
    ClaimLimits, ClaimedPush, LastAnswer, MaySend, PushEnd, Store, SubscriptionEdit,
};
use serde_json::Value;

use crate::push::{ann, joe, new, put};
use crate::setup::{Test, cases};

cases![
    what_was_read_is_taken_back_or_closed,
    what_is_read_while_it_is_sent_is_closed,
    others_than_new_mail_are_gathered,
    no_more_than_so_many_a_minute,
    pushes_of_one_device_go_one_after_the_other,
    what_waits_for_a_full_host_or_person_hides_no_other,
    a_push_that_fails_is_due_later_and_dropped_in_the_end,
    nobody_is_rung_for_anothers_mail_whose_token_moves,
    a_device_that_is_gone_goes_with_what_waits,
];

const LIMITS: ClaimLimits = ClaimLimits {
    most: 100,
    per_minute: 30,
};

/// Room for all that a case claims.
fn lanes() -> Lanes {
    Lanes::new(LaneBounds {
        in_all: 100,
        of_host: 100,
        of_person: 100,
    })
}

/// What may be sent now.
pub(crate) async fn claimed(store: &Store, limits: ClaimLimits) -> Result<Vec<ClaimedPush>> {
    let (claimed, ..) = store.claim_pushes(limits, &lanes()).await?;
    Ok(claimed.into_iter().map(|(push, _)| push).collect())
}

/// No condition is in these cases.
pub(crate) struct Nothing;

impl Conditions for Nothing {
    fn pays(&mut self, _: u64) -> bool {
        true
    }

    fn holds(&mut self, _: &str) -> bool {
        false
    }
}

/// Tells a person's devices of an event of a mail at the time 0, when all of these cases begin.
pub(crate) async fn tell(store: &Store, event: &str, uid: u32, more: &str) -> Result<()> {
    tell_at(store, 0, (event, uid, more)).await
}

/// Tells them of an event at another time.
pub(crate) async fn tell_at(
    store: &Store,
    now_ms: i64,
    (event, uid, more): (&str, u32, &str),
) -> Result<()> {
    let json = format!(
        r#"{{"user":"11@3","mailbox":"INBOX","event":"{event}","uidvalidity":7,"uid":{uid}{more}}}"#
    );
    write(
        store,
        now_ms,
        MailEvent::parse(json.as_bytes(), &EventAccount::User)?,
    )
    .await
}

pub(crate) async fn write(store: &Store, now_ms: i64, event: MailEvent) -> Result<()> {
    let records = store.subscriptions(&event.person).await?;
    let subscriptions: Vec<Subscription> = records
        .into_iter()
        .map(|record| record.subscription)
        .collect();
    let plan: EventPlan = plan(&event, &subscriptions, &mut Nothing, now_ms);
    store
        .write_pushes(slice::from_ref(&(event.person, plan)))
        .await?;
    Ok(())
}

pub(crate) async fn claim(store: &Store) -> Result<Vec<ClaimedPush>> {
    let (claimed, wrong, locked) = store.claim_pushes(LIMITS, &lanes()).await?;
    ensure!((wrong, locked) == (0, 0), "{wrong} {locked}");
    Ok(claimed.into_iter().map(|(push, _)| push).collect())
}

pub(crate) fn answer(status: u16) -> LastAnswer {
    LastAnswer {
        time_ms: 5,
        status: Some(status),
        reason: "said".to_owned(),
    }
}

pub(crate) async fn accept(store: &Store, pushes: &[ClaimedPush]) -> Result<()> {
    for push in pushes {
        ensure!(store.may_send(push).await? == MaySend::Yes, "{push:?}");
        store
            .end_push(push, &PushEnd::Accepted(answer(201)))
            .await?;
    }
    Ok(())
}

async fn what_was_read_is_taken_back_or_closed(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    tell(&store, "MessageNew", 1, "").await?;
    accept(&store, &claim(&store).await?).await?;
    tell(&store, "MessageNew", 2, "").await?;
    for uid in [1, 2, 3] {
        tell(&store, "MessageRead", uid, r#","unseen":0"#).await?;
    }
    let closing = claim(&store).await?;
    ensure!(closing.len() == 1, "{closing:?}");
    ensure!(closing[0].topic == Topic::MailClose && closing[0].badge == Some(0));
    ensure!(
        closing[0].message["id"] == *closing[0].tag.as_str(),
        "{closing:?}"
    );
    accept(&store, &closing).await?;
    // It is closed once.
    tell(&store, "MessageExpunge", 1, "").await?;
    ensure!(store.waiting_pushes().await? == 0);
    // Nor is what was shown more than a day ago.
    tell(&store, "MessageNew", 4, "").await?;
    accept(&store, &claim(&store).await?).await?;
    test.clock.pass(24 * 3_600_000);
    tell(&store, "MessageRead", 4, "").await?;
    ensure!(store.waiting_pushes().await? == 0);
    ensure!(store.drop_old_pushes().await?.forgotten > 0);
    Ok(())
}

async fn what_is_read_while_it_is_sent_is_closed(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    tell(&store, "MessageNew", 1, "").await?;
    let sent = claim(&store).await?;
    ensure!(store.may_send(&sent[0]).await? == MaySend::Yes);
    // Its service has it, and we do not know yet.
    tell(&store, "MessageRead", 1, r#","unseen":0"#).await?;
    ensure!(claim(&store).await?.is_empty(), "it would come first");
    store
        .end_push(&sent[0], &PushEnd::Accepted(answer(201)))
        .await?;
    let closing = claim(&store).await?;
    ensure!(closing.len() == 1, "{closing:?}");
    ensure!(closing[0].topic == Topic::MailClose && closing[0].badge == Some(0));
    accept(&store, &closing).await?;
    tell(&store, "MessageExpunge", 1, "").await?;
    ensure!(store.waiting_pushes().await? == 0);
    Ok(())
}

async fn others_than_new_mail_are_gathered(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["*"])).await?;
    for uid in 1..=3 {
        tell(&store, "FlagsSet", uid, r#","flags":["\\Flagged"]"#).await?;
    }
    // A new mail waits for nothing.
    tell(&store, "MessageNew", 9, "").await?;
    let mail = claim(&store).await?;
    ensure!(mail.len() == 1, "{mail:?}");
    accept(&store, &mail).await?;
    test.clock.pass(1000);
    let gathered = claim(&store).await?;
    ensure!(gathered.len() == 1, "{gathered:?}");
    let changes = gathered[0].message["changes"]
        .as_array()
        .context("changes")?;
    ensure!(
        gathered[0].topic == Topic::MailChanges && changes.len() == 3,
        "{changes:?}"
    );
    ensure!(changes[0]["topic"] == "mail:flags" && changes[2]["message"]["uid"] == 3);
    // So many that they do not fit are several pushes.
    for uid in 100..140 {
        tell(&store, "MessageExpunge", uid, "").await?;
    }
    ensure!(store.waiting_pushes().await? > 2);
    Ok(())
}

async fn no_more_than_so_many_a_minute(test: Test) -> Result<()> {
    let store = test.open().await?;
    for device in 0..8 {
        let device = new(&joe(), &device.to_string(), &["mail:new"]);
        store.put_subscription(device, 10).await?;
    }
    tell(&store, "MessageNew", 1, "").await?;
    let limits = ClaimLimits {
        most: 100,
        per_minute: 5,
    };
    let first = claimed(&store, limits).await?;
    ensure!(first.len() == 5, "{}", first.len());
    accept(&store, &first).await?;
    ensure!(claimed(&store, limits).await?.is_empty());
    test.clock.pass(60_000);
    ensure!(claimed(&store, limits).await?.len() == 3);
    Ok(())
}

async fn pushes_of_one_device_go_one_after_the_other(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    for uid in 1..=3 {
        tell(&store, "MessageNew", uid, "").await?;
        test.clock.pass(1);
    }
    for uid in 1..=2 {
        let push = claim(&store).await?;
        ensure!(push.len() == 1 && push[0].message["uid"] == uid, "{push:?}");
        // Nor does another node send the next one meanwhile.
        ensure!(claim(&store.another_node()).await?.is_empty());
        accept(&store, &push).await?;
    }
    // A newer mail does not wait for an older one that is tried again later.
    let push = claim(&store).await?.remove(0);
    let later = PushEnd::Later(10_000, answer(503));
    store.end_push(&push, &later).await?;
    tell(&store, "MessageNew", 4, "").await?;
    let push = claim(&store).await?;
    ensure!(push.len() == 1 && push[0].message["uid"] == 4, "{push:?}");
    Ok(())
}

async fn what_waits_for_a_full_host_or_person_hides_no_other(test: Test) -> Result<()> {
    let store = test.open().await?;
    let lanes = Lanes::new(LaneBounds {
        in_all: 10,
        of_host: 2,
        of_person: 3,
    });
    let limits = ClaimLimits {
        most: 2,
        per_minute: 30,
    };
    let webhook = |host: &str, device: u32| DeviceAddress::Webhook {
        url: format!("https://{host}/{device}"),
        signing_secret: String::new(),
    };
    for device in 0..6 {
        let mut subscription = new(&joe(), "", &["mail:new"]);
        let host = if device < 4 {
            "slow.example"
        } else {
            "quick.example"
        };
        subscription.address = webhook(host, device);
        store.put_subscription(subscription, 10).await?;
    }
    tell(&store, "MessageNew", 1, "").await?;
    let mut held = Vec::new();
    let mut hosts = Vec::new();
    for _ in 0..4 {
        let (claimed, ..) = store.claim_pushes(limits, &lanes).await?;
        hosts.extend(claimed.iter().map(|(push, _)| push.address.lane()));
        held.extend(claimed);
    }
    // Two of one host, and one of the other until the person has no place left.
    let of = |name: &str| hosts.iter().filter(|host| *host == name).count();
    let counts = (of("https://slow.example"), of("https://quick.example"));
    ensure!(counts == (2, 1) || counts == (1, 2), "{hosts:?}");
    held.clear();
    let (claimed, ..) = store.claim_pushes(limits, &lanes).await?;
    ensure!(claimed.len() == 2);
    Ok(())
}

async fn a_push_that_fails_is_due_later_and_dropped_in_the_end(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    tell(&store, "MessageNew", 1, r#","subject":"s""#).await?;
    let push = claim(&store).await?.remove(0);
    ensure!(push.has_short && push.message["subject"] == "s");
    store
        .end_push(&push, &PushEnd::Shorten(answer(413)))
        .await?;
    let push = claim(&store).await?.remove(0);
    ensure!(
        !push.has_short && push.message["subject"] == Value::Null,
        "{push:?}"
    );
    store
        .end_push(&push, &PushEnd::Later(10_000, answer(503)))
        .await?;
    ensure!(claim(&store).await?.is_empty());
    test.clock.pass(10_000);
    let push = claim(&store).await?.remove(0);
    ensure!(push.failures == 1);
    store.end_push(&push, &PushEnd::Held(1_000)).await?;
    test.clock.pass(5 * 3_600_000);
    ensure!(claim(&store).await?.is_empty(), "its deadline is over");
    ensure!(store.drop_old_pushes().await?.overdue == 1);
    Ok(())
}

async fn nobody_is_rung_for_anothers_mail_whose_token_moves(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    tell(&store, "MessageNew", 1, "").await?;
    let push = claim(&store).await?.remove(0);
    // The device is handed on between the claim and the attempt.
    put(&store, new(&ann(), "t", &["mail:new"])).await?;
    ensure!(store.may_send(&push).await? == MaySend::No);
    store.end_push(&push, &PushEnd::Dropped).await?;
    // Somebody has made a row another's.
    put(&store, new(&joe(), "u", &["mail:new"])).await?;
    tell(&store, "MessageNew", 2, "").await?;
    test.execute("UPDATE push_subscription SET user_name = '12'")?;
    let (claimed, wrong, _) = store.claim_pushes(LIMITS, &lanes()).await?;
    ensure!(claimed.is_empty() && wrong == 1, "{claimed:?} {wrong}");
    ensure!(store.waiting_pushes().await? == 0);
    Ok(())
}

async fn a_device_that_is_gone_goes_with_what_waits(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    tell(&store, "MessageNew", 1, "").await?;
    tell(&store, "MessageNew", 2, "").await?;
    let refused = claim(&store).await?.remove(0);
    store
        .end_push(&refused, &PushEnd::Refused(answer(400)))
        .await?;
    ensure!(
        store.subscriptions(&joe()).await?.len() == 1,
        "refused is not gone"
    );
    // It is registered anew meanwhile, with another address: that one is not gone.
    let push = claim(&store).await?.remove(0);
    let id = push.subscription;
    let edit = SubscriptionEdit {
        address: Some(DeviceAddress::Fcm {
            token: "newer".to_owned(),
        }),
        ..SubscriptionEdit::default()
    };
    store
        .edit_subscription(&joe(), id, edit, identity)
        .await?
        .context("changed")?;
    store.end_push(&push, &PushEnd::Gone).await?;
    ensure!(store.subscriptions(&joe()).await?.len() == 1);
    let push = claim(&store).await?.remove(0);
    store.end_push(&push, &PushEnd::Gone).await?;
    ensure!(store.subscriptions(&joe()).await?.is_empty());
    ensure!(store.waiting_pushes().await? == 0);
    Ok(())
}
