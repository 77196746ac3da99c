//! Mail push: what waits for a device that wants something else by now, what goes before what, and
//! how much waits.

use std::collections::BTreeMap;
use std::convert::identity;
use std::slice;

use anyhow::{Context, Result, ensure};
use dovecast_mail_push::lanes::{LaneBounds, Lanes};
use dovecast_mail_push::subscription::{QuietHours, Urgency};
use dovecast_mail_push::{
    DeviceAddress, EventPlan, MailEvent, Person, PushContent, Topic, Wishes, plan,
};
use dovecast_notification::EventAccount;
use dovecast_store::{ClaimLimits, Store, SubscriptionEdit};

use crate::push::{ann, joe, new, put};
use crate::pushes::{Nothing, accept, claim, tell, tell_at};
use crate::setup::{Test, cases};

cases![
    who_registers_a_device_anew_without_quiet_hours_ends_them,
    what_waits_says_no_more_than_its_device_may_be_told_by_now,
    a_device_that_has_moved_is_not_gone_by_an_answer_to_where_it_was,
    who_has_had_enough_with_what_is_under_way_hides_no_other,
    what_rings_goes_before_what_closes,
    what_waits_shows_what_is_unseen_when_it_is_sent,
    of_two_changes_at_a_time_neither_is_lost,
    a_thousand_mails_that_are_marked_cost_few_statements_and_all_is_told,
    what_waits_for_one_device_is_bounded,
];

/// Tells the devices of Ann of a new mail.
async fn tell_ann(store: &Store) -> Result<()> {
    let json = r#"{"user":"12@3","mailbox":"INBOX","event":"MessageNew","uidvalidity":7,"uid":1}"#;
    let event = MailEvent::parse(json.as_bytes(), &EventAccount::User)?;
    ensure!(event.person == ann(), "{}", event.person);
    let records = store.subscriptions(&event.person).await?;
    let subscriptions: Vec<_> = records.into_iter().map(|one| one.subscription).collect();
    let plan = plan::plan(&event, &subscriptions, &mut Nothing, 0);
    store
        .write_pushes(slice::from_ref(&(event.person, plan)))
        .await?;
    Ok(())
}

async fn who_registers_a_device_anew_without_quiet_hours_ends_them(test: Test) -> Result<()> {
    let store = test.open().await?;
    let mut device = new(&joe(), "t", &["mail:new"]);
    device.wishes.quiet_hours = Some(QuietHours::parse("UTC", "00:00", "09:00")?);
    put(&store, device.clone()).await?;
    tell_at(&store, 0, ("MessageNew", 1, "")).await?;
    test.clock.pass(1000);
    ensure!(claim(&store).await?.is_empty(), "it is quiet");
    put(&store, device.clone()).await?;
    ensure!(claim(&store).await?.is_empty(), "it is quiet as before");
    device.wishes.quiet_hours = None;
    ensure!(!put(&store, device).await?.is_new);
    ensure!(claim(&store).await?.len() == 1);
    Ok(())
}

async fn what_waits_says_no_more_than_its_device_may_be_told_by_now(test: Test) -> Result<()> {
    const MORE: &str = r#","subject":"Geheim","from":"Bob <bob@example.org>""#;
    let store = test.open().await?;
    let made = put(&store, new(&joe(), "t", &["*"])).await?;
    tell(&store, "MessageNew", 1, MORE).await?;
    // One is under way with all of it, and has to be claimed anew.
    let under_way = claim(&store).await?.remove(0);
    ensure!(under_way.message.to_string().contains("Geheim"));
    let one = made.record.subscription;
    let narrowed = |wishes: Wishes| Wishes {
        content: PushContent::Ids,
        ..wishes
    };
    let edit = SubscriptionEdit::default();
    let person = joe();
    let edited = store.edit_subscription(&person, one.id, edit, narrowed);
    edited.await?.context("edited")?;
    store
        .end_push(&under_way, &dovecast_store::PushEnd::Dropped)
        .await?;
    let push = claim(&store).await?.remove(0);
    let told = push.message.to_string();
    ensure!(!told.contains("Geheim") && !told.contains("bob@"), "{told}");
    ensure!(push.message["uid"] == 1, "{told}");
    Ok(())
}

async fn a_device_that_has_moved_is_not_gone_by_an_answer_to_where_it_was(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let id = put(&store, new(&joe(), "old", &["*"])).await?;
    let id = id.record.subscription.id;
    let at = |token: &str| DeviceAddress::Fcm {
        token: token.to_owned(),
    };
    let edit = SubscriptionEdit {
        address: Some(at("new")),
        ..SubscriptionEdit::default()
    };
    let edited = store.edit_subscription(&joe(), id, edit, identity).await?;
    edited.context("edited")?;
    for (person, token, is_gone) in [
        (joe(), "old", false),
        (ann(), "new", false),
        (joe(), "new", true),
        (joe(), "new", false),
    ] {
        let address = at(token);
        let gone = store.delete_gone_subscription(&person, id, &address);
        ensure!(gone.await? == is_gone, "{person} {token}");
    }
    ensure!(store.subscriptions(&joe()).await?.is_empty());
    Ok(())
}

async fn who_has_had_enough_with_what_is_under_way_hides_no_other(test: Test) -> Result<()> {
    let store = test.open().await?;
    for device in 0..4 {
        let device = new(&joe(), &device.to_string(), &["mail:new"]);
        store.put_subscription(device, 10).await?;
    }
    put(&store, new(&ann(), "a", &["mail:new"])).await?;
    let lanes = Lanes::new(LaneBounds {
        in_all: 100,
        of_host: 100,
        of_person: 100,
    });
    let limits = |most| ClaimLimits {
        most,
        per_minute: 2,
    };
    tell(&store, "MessageNew", 1, "").await?;
    let (first, ..) = store.claim_pushes(limits(1), &lanes).await?;
    let first: Vec<_> = first.into_iter().map(|(push, _)| push).collect();
    ensure!(first.len() == 1, "{first:?}");
    accept(&store, &first).await?;
    // One was accepted, and one hangs: Joe has no more for a minute.
    let (hangs, ..) = store.claim_pushes(limits(1), &lanes).await?;
    ensure!(hangs.len() == 1 && hangs[0].0.person == joe(), "{hangs:?}");
    test.clock.pass(10);
    tell_ann(&store).await?;
    let (next, ..) = store.claim_pushes(limits(1), &lanes).await?;
    ensure!(next.len() == 1 && next[0].0.person == ann(), "{next:?}");
    Ok(())
}

async fn what_rings_goes_before_what_closes(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    for uid in 1..=3 {
        tell(&store, "MessageNew", uid, "").await?;
        let push = claim(&store).await?;
        accept(&store, &push).await?;
    }
    for uid in 1..=3 {
        test.clock.pass(10);
        tell(&store, "MessageRead", uid, "").await?;
    }
    test.clock.pass(10);
    tell(&store, "MessageNew", 4, "").await?;
    let mut topics = Vec::new();
    for _ in 0..4 {
        let push = claim(&store).await?;
        accept(&store, &push).await?;
        topics.extend(push.iter().map(|push| push.topic));
    }
    let closing = Topic::MailClose;
    ensure!(
        topics == [Topic::MailNew, closing, closing, closing],
        "{topics:?}"
    );
    Ok(())
}

async fn what_waits_shows_what_is_unseen_when_it_is_sent(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    put(&store, new(&joe(), "u", &["ox:mail:new"])).await?;
    for uid in 1..=3 {
        tell(&store, "MessageNew", uid, &format!(r#","unseen":{uid}"#)).await?;
    }
    // The first one is shown at each device.
    accept(&store, &claim(&store).await?).await?;
    // Two of them are read before the others are sent.
    tell(&store, "MessageRead", 1, r#","unseen":2"#).await?;
    tell(&store, "MessageRead", 3, r#","unseen":1"#).await?;
    let (mut new, mut closings) = (0, 0);
    loop {
        let pushes = claim(&store).await?;
        if pushes.is_empty() {
            break;
        }
        for push in &pushes {
            ensure!(push.badge == Some(1), "{push:?}");
            if push.topic == Topic::MailClose {
                closings += 1;
                let keys = push.message.as_object().context("an object")?.len();
                ensure!(push.message["badge"] == 1 && keys == 4, "{push:?}");
            } else {
                new += 1;
            }
        }
        accept(&store, &pushes).await?;
    }
    // Of each device the first one was shown, and the last one waited.
    ensure!((new, closings) == (2, 2), "{new} {closings}");
    Ok(())
}

async fn of_two_changes_at_a_time_neither_is_lost(test: Test) -> Result<()> {
    let store = test.open().await?;
    let made = put(&store, new(&joe(), "t", &["*"])).await?;
    let id = made.record.subscription.id;
    let less = |wishes: Wishes| Wishes {
        content: PushContent::Ids,
        ..wishes
    };
    let urgent = |wishes: Wishes| Wishes {
        urgency: Urgency::High,
        ..wishes
    };
    let (first, second) = (joe(), joe());
    let edit = SubscriptionEdit::default;
    let (one, other) = tokio::join!(
        store.edit_subscription(&first, id, edit(), less),
        store.edit_subscription(&second, id, edit(), urgent),
    );
    ensure!(one?.is_some() && other?.is_some());
    let wishes = store.subscriptions(&joe()).await?.remove(0);
    let wishes = wishes.subscription.wishes;
    ensure!(
        (wishes.content, wishes.urgency) == (PushContent::Ids, Urgency::High),
        "{wishes:?}"
    );
    Ok(())
}

/// What marking mails means for the devices of Joe.
async fn marked(store: &Store, uids: std::ops::Range<u32>) -> Result<Vec<(Person, EventPlan)>> {
    let records = store.subscriptions(&joe()).await?;
    let subscriptions: Vec<_> = records.into_iter().map(|one| one.subscription).collect();
    let planned = uids.map(|uid| {
        let json = format!(
            r#"{{"user":"11@3","mailbox":"INBOX","event":"FlagsSet","uidvalidity":7,"uid":{uid},"flags":["\\Seen"]}}"#
        );
        let event = MailEvent::parse(json.as_bytes(), &EventAccount::User)?;
        let plan = plan::plan(&event, &subscriptions, &mut Nothing, 0);
        Ok((event.person, plan))
    });
    planned.collect()
}

async fn a_thousand_mails_that_are_marked_cost_few_statements_and_all_is_told(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    for token in ["a", "b"] {
        put(&store, new(&joe(), token, &["*"])).await?;
    }
    let mut expected = [Vec::new(), Vec::new()];
    for batch in 0..4 {
        let uids = batch * 256..(batch + 1) * 256;
        let plans = marked(&store, uids.clone()).await?;
        let before = store.statements();
        let written = store.write_pushes(&plans).await?;
        let statements = store.statements() - before;
        ensure!(statements < 128, "{statements} statements");
        ensure!(
            written.pushes + written.gathered == 512 && written.crowded == 0,
            "{written:?}"
        );
        for of_device in &mut expected {
            of_device.extend(uids.clone());
        }
    }
    test.clock.pass(10_000);
    let mut told: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    loop {
        let pushes = claim(&store).await?;
        if pushes.is_empty() {
            break;
        }
        for push in &pushes {
            let bytes = push.message.to_string().len();
            ensure!(bytes <= 2_800, "{bytes} bytes");
            let changes = push.message["changes"].as_array().context("a list")?;
            let uids = changes.iter().map(|one| one["message"]["uid"].as_u64());
            let uids = uids.map(|uid| u32::try_from(uid.unwrap_or_default()));
            let of_device = told.entry(push.address.token().to_owned()).or_default();
            of_device.extend(uids.collect::<Result<Vec<_>, _>>()?);
        }
        accept(&store, &pushes).await?;
        test.clock.pass(60_000);
    }
    ensure!(told.into_values().eq(expected), "not all, or not in order");
    Ok(())
}

async fn what_waits_for_one_device_is_bounded(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["*"])).await?;
    put(&store, new(&ann(), "a", &["*"])).await?;
    tell_ann(&store).await?;
    for uid in 1..=5 {
        tell(&store, "MessageNew", uid, "").await?;
    }
    let mut crowded = 0;
    for batch in 0..80 {
        test.clock.pass(1);
        let plans = marked(&store, 100 + batch * 256..100 + (batch + 1) * 256).await?;
        crowded += store.write_pushes(&plans).await?.crowded;
    }
    ensure!(crowded > 0);
    ensure!(store.waiting_pushes().await? == 501, "Ann's, and Joe's");
    // The new mails are among what is left.
    let mut uids = Vec::new();
    loop {
        let pushes = claim(&store).await?;
        let of_joe = pushes.iter().filter(|push| push.address.token() == "t");
        uids.extend(of_joe.map(|push| push.message["uid"].as_u64()));
        if pushes.is_empty() {
            break;
        }
        accept(&store, &pushes).await?;
    }
    ensure!(uids == [1, 2, 3, 4, 5].map(Some), "{uids:?}");
    Ok(())
}
