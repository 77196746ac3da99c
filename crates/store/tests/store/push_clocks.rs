//! Mail push: how long pushes wait. Clocks that are set, and clocks that differ, hold up and drop
//! nothing; services that have asked for time have it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use dovecast_mail_push::plan::GATHER_MS;
use dovecast_mail_push::subscription::QuietHours;
use dovecast_mail_push::{DeviceAddress, EventPlan, PlannedPush, Topic, Wishes};
use dovecast_store::{ClaimLimits, Clock, PushEnd, Store, SubscriptionEdit};
use serde_json::json;

use crate::push::{joe, new, put};
use crate::pushes::{accept, answer, claim, claimed, tell_at};
use crate::setup::{Kind, Test, cases};

cases![
    a_clock_that_is_set_holds_up_and_drops_nothing,
    nodes_whose_clocks_differ_send_what_another_has_written,
    what_was_written_in_a_time_to_come_is_sent_after_a_restart,
    changes_are_gathered_for_ten_seconds_at_most,
    changes_are_gathered_with_those_that_are_as_quiet,
    what_becomes_due_in_quiet_hours_waits_for_their_end,
    whoever_ends_quiet_hours_gets_what_waits_for_their_end,
    a_service_that_has_asked_for_time_has_it_from_all_nodes,
];

const HOUR_MS: i64 = 60 * 60 * 1_000;
const MINUTE_MS: i64 = 60 * 1_000;
/// When these cases begin.
const START_MS: i64 = 1_000 * 24 * HOUR_MS;
const ONE_A_MINUTE: ClaimLimits = ClaimLimits {
    most: 100,
    per_minute: 1,
};

async fn open(test: &Test) -> Result<Store> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["*"])).await?;
    Ok(store)
}

async fn a_clock_that_is_set_holds_up_and_drops_nothing(test: Test) -> Result<()> {
    if matches!(test.kind, Kind::Postgres(_)) {
        return beside_the_clock_of_a_database(&test).await;
    }
    test.clock.pass(START_MS);
    let mut now_ms = START_MS;
    let store = open(&test).await?;
    for (uid, set_by_ms) in [(1, -2 * HOUR_MS), (3, 6 * HOUR_MS)] {
        tell_at(&store, now_ms, ("MessageNew", uid, "")).await?;
        let push = claim(&store).await?.remove(0);
        store
            .end_push(&push, &PushEnd::Later(10_000, answer(503)))
            .await?;
        tell_at(&store, now_ms, ("MessageNew", uid + 1, "")).await?;
        accept(&store, &claim(&store).await?).await?;
        test.clock.set(set_by_ms);
        now_ms += set_by_ms;
        ensure!(claim(&store).await?.is_empty(), "no time has passed");
        let dropped = store.drop_old_pushes().await?;
        ensure!(dropped.overdue == 0, "{dropped:?}");
        test.clock.pass(10_000);
        // One a minute, and one was sent just now.
        ensure!(claimed(&store, ONE_A_MINUTE).await?.is_empty());
        test.clock.pass(MINUTE_MS);
        now_ms += 10_000 + MINUTE_MS;
        let again = claimed(&store, ONE_A_MINUTE).await?;
        ensure!(again.len() == 1 && again[0].failures == 1, "{again:?}");
        ensure!(again[0].deadline_ms == again[0].created_ms + 5 * HOUR_MS);
        accept(&store, &again).await?;
        test.clock.pass(2 * MINUTE_MS);
        now_ms += 2 * MINUTE_MS;
    }
    Ok(())
}

/// The clock of a node is set, and its database's is not.
async fn beside_the_clock_of_a_database(test: &Test) -> Result<()> {
    let clock = Clock::ahead(0);
    let mut options = test.options()?;
    options.clock = clock.clone();
    let store = Store::open(&options).await?;
    put(&store, new(&joe(), "t", &["*"])).await?;
    let mut ahead_ms = 0;
    for (uid, set_by_ms) in [(1, -2 * HOUR_MS), (2, 8 * HOUR_MS)] {
        let now_ms = system_ms()? + ahead_ms;
        tell_at(&store, now_ms, ("MessageNew", uid, "")).await?;
        let push = claim(&store).await?.remove(0);
        store
            .end_push(&push, &PushEnd::Later(1_500, answer(503)))
            .await?;
        clock.set(set_by_ms);
        ahead_ms += set_by_ms;
        let dropped = store.drop_old_pushes().await?;
        ensure!(dropped.overdue == 0, "{dropped:?}");
        let again = loop {
            if let Some(push) = claim(&store).await?.pop() {
                break push;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        ensure!(again.failures == 1, "{again:?}");
        accept(&store, &[again]).await?;
    }
    Ok(())
}

fn system_ms() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}

async fn nodes_whose_clocks_differ_send_what_another_has_written(test: Test) -> Result<()> {
    let node = async |ahead_ms: i64| -> Result<Store> {
        let mut options = test.options()?;
        options.clock = Clock::ahead(ahead_ms);
        Ok(Store::open(&options).await?)
    };
    let now_ms = system_ms()?;
    // A file of SQLite has one node.
    let apart_ms = match test.kind {
        Kind::Sqlite => 0,
        Kind::Postgres(_) => 10 * MINUTE_MS,
    };
    let (ahead, behind) = (node(apart_ms).await?, node(-apart_ms).await?);
    let made = put(&ahead, new(&joe(), "t", &["*"])).await?;
    // Events of other hosts are compared with when it was made.
    let made_ms = made.record.created_ms - now_ms;
    ensure!(made_ms.abs() < MINUTE_MS, "{made_ms}");
    tell_at(&ahead, now_ms + apart_ms, ("MessageNew", 1, "")).await?;
    let push = claim(&behind).await?;
    ensure!(push.len() == 1, "{push:?}");
    // Its deadline is as far away for the one as for the other.
    let left_ms = push[0].deadline_ms - (now_ms - apart_ms);
    ensure!((left_ms - 5 * HOUR_MS).abs() < MINUTE_MS, "{left_ms}");
    let later = PushEnd::Later(HOUR_MS, answer(503));
    behind.end_push(&push[0], &later).await?;
    ensure!(claim(&ahead).await?.is_empty(), "it is due in an hour");
    Ok(())
}

async fn what_was_written_in_a_time_to_come_is_sent_after_a_restart(test: Test) -> Result<()> {
    test.clock.pass(START_MS);
    let store = open(&test).await?;
    tell_at(&store, START_MS, ("MessageNew", 1, "")).await?;
    test.clock.set(-2 * HOUR_MS);
    let now_ms = START_MS - 2 * HOUR_MS;
    let store = test.open().await?;
    store.drop_old_pushes().await?;
    let push = claim(&store).await?;
    ensure!(push.len() == 1, "{push:?}");
    let times = (push[0].created_ms, push[0].deadline_ms);
    ensure!(times == (now_ms, now_ms + 5 * HOUR_MS), "{times:?}");
    Ok(())
}

async fn changes_are_gathered_for_ten_seconds_at_most(test: Test) -> Result<()> {
    const BETWEEN_MS: i64 = 900;
    let store = open(&test).await?;
    let mut now_ms = 0;
    for uid in 1..=12 {
        ensure!(claim(&store).await?.is_empty(), "{now_ms}");
        let flagged = ("FlagsSet", uid, r#","flags":["\\Flagged"]"#);
        tell_at(&store, now_ms, flagged).await?;
        test.clock.pass(BETWEEN_MS);
        now_ms += BETWEEN_MS;
    }
    let gathered = claim(&store).await?;
    ensure!(gathered.len() == 1 && gathered[0].topic == Topic::MailChanges);
    let changes = gathered[0].message["changes"].as_array();
    ensure!(
        changes.is_some_and(|changes| changes.len() == 12),
        "{gathered:?}"
    );
    Ok(())
}

async fn changes_are_gathered_with_those_that_are_as_quiet(test: Test) -> Result<()> {
    let store = test.open().await?;
    let made = put(&store, new(&joe(), "t", &["*"])).await?;
    let push = |uid: u32, quiet_until_ms: Option<i64>| PlannedPush {
        subscription: made.record.subscription.id,
        person: joe(),
        topic: Topic::MailFlags,
        tag: None,
        is_of_one_mail: false,
        message: json!({ "uid": uid }),
        short: json!({ "uid": uid }),
        badge: None,
        due_ms: quiet_until_ms.unwrap_or_default() + GATHER_MS,
        deadline_ms: quiet_until_ms.unwrap_or_default() + 5 * HOUR_MS,
        quiet_until_ms,
        passes_quiet_hours: false,
    };
    let (soon, late) = (Some(HOUR_MS), Some(2 * HOUR_MS));
    for (uid, quiet_until_ms) in [
        (1, soon),
        (2, None),
        (3, soon),
        (4, late),
        (5, None),
        (6, soon),
    ] {
        let plan = EventPlan {
            pushes: vec![push(uid, quiet_until_ms)],
            ..EventPlan::default()
        };
        store.write_pushes(&[(joe(), plan)]).await?;
    }
    for (passes_ms, expected) in [
        (GATHER_MS, &[2, 5][..]),
        (HOUR_MS, &[1, 3, 6]),
        (HOUR_MS, &[4]),
    ] {
        ensure!(claim(&store).await?.is_empty(), "{expected:?} are quiet");
        test.clock.pass(passes_ms);
        let gathered = claim(&store).await?;
        let messages: Vec<_> = gathered.iter().map(|push| &push.message).collect();
        let uids: Vec<_> = expected.iter().map(|uid| json!({ "uid": uid })).collect();
        ensure!(
            messages.len() == 1 && messages[0]["changes"] == json!(uids),
            "{messages:?}, expected {expected:?}"
        );
        accept(&store, &gathered).await?;
    }
    Ok(())
}

async fn what_becomes_due_in_quiet_hours_waits_for_their_end(test: Test) -> Result<()> {
    let store = open(&test).await?;
    tell_at(&store, 0, ("MessageNew", 1, "")).await?;
    let flagged = |uid| ("FlagsSet", uid, r#","flags":["\\Flagged"]"#);
    tell_at(&store, 0, flagged(2)).await?;
    test.clock.pass(HOUR_MS);
    let until_ms = 9 * HOUR_MS;
    for _ in 0..2 {
        let push = claim(&store).await?;
        ensure!(push.len() == 1, "{push:?}");
        store.end_push(&push[0], &PushEnd::Quiet(until_ms)).await?;
    }
    ensure!(claim(&store).await?.is_empty(), "they wait");
    // What comes in the night and waits for the same is one push with what came before it.
    let record = store.subscriptions(&joe()).await?.remove(0);
    let plan = EventPlan {
        pushes: vec![PlannedPush {
            subscription: record.subscription.id,
            person: joe(),
            topic: Topic::MailFlags,
            tag: None,
            is_of_one_mail: false,
            message: json!({ "uid": 3 }),
            short: json!({ "uid": 3 }),
            badge: None,
            due_ms: until_ms + GATHER_MS,
            deadline_ms: until_ms + 5 * HOUR_MS,
            quiet_until_ms: Some(until_ms),
            passes_quiet_hours: false,
        }],
        ..EventPlan::default()
    };
    let written = store.write_pushes(&[(joe(), plan)]).await?;
    ensure!(written.gathered == 1, "{written:?}");
    test.clock.pass(7 * HOUR_MS);
    ensure!(store.drop_old_pushes().await?.overdue == 0);
    ensure!(claim(&store).await?.is_empty(), "an hour is left");
    test.clock.pass(HOUR_MS);
    let mail = claim(&store).await?;
    ensure!(
        mail.len() == 1 && mail[0].topic == Topic::MailNew && mail[0].failures == 0,
        "{mail:?}"
    );
    // An hour of its five had passed.
    ensure!(mail[0].deadline_ms == until_ms + 4 * HOUR_MS, "{mail:?}");
    accept(&store, &mail).await?;
    test.clock.pass(GATHER_MS);
    let changes = claim(&store).await?;
    ensure!(changes.len() == 1, "{changes:?}");
    let changes = changes[0].message["changes"].as_array();
    ensure!(changes.is_some_and(|all| all.len() == 2), "{changes:?}");
    Ok(())
}

async fn whoever_ends_quiet_hours_gets_what_waits_for_their_end(test: Test) -> Result<()> {
    let store = open(&test).await?;
    let change = async |quiet_hours: Option<QuietHours>| -> Result<()> {
        let one = store.subscriptions(&joe()).await?.remove(0).subscription;
        let edit = SubscriptionEdit::default();
        let changed = |wishes: Wishes| Wishes {
            quiet_hours,
            ..wishes
        };
        ensure!(
            store
                .edit_subscription(&joe(), one.id, edit, changed)
                .await?
                .is_some()
        );
        Ok(())
    };
    change(Some(QuietHours::parse("UTC", "00:00", "09:00")?)).await?;
    tell_at(&store, 0, ("MessageNew", 1, "")).await?;
    let flagged = ("FlagsSet", 2, r#","flags":["\\Flagged"]"#);
    tell_at(&store, 0, flagged).await?;
    test.clock.pass(HOUR_MS);
    ensure!(claim(&store).await?.is_empty(), "it is quiet");
    change(None).await?;
    let mut topics = Vec::new();
    for _ in 0..2 {
        let push = claim(&store).await?;
        ensure!(push.len() == 1, "{push:?}");
        let left_ms = push[0].deadline_ms - HOUR_MS;
        ensure!((5 * HOUR_MS - left_ms).abs() <= GATHER_MS, "{left_ms}");
        topics.push(push[0].topic);
        accept(&store, &push).await?;
    }
    ensure!(
        topics.contains(&Topic::MailNew) && topics.contains(&Topic::MailChanges),
        "{topics:?}"
    );
    Ok(())
}

async fn a_service_that_has_asked_for_time_has_it_from_all_nodes(test: Test) -> Result<()> {
    let store = test.open().await?;
    put(&store, new(&joe(), "t", &["mail:new"])).await?;
    let mut webhook = new(&joe(), "", &["mail:new"]);
    webhook.address = DeviceAddress::Webhook {
        url: "https://quick.example/hook".to_owned(),
        signing_secret: String::new(),
    };
    put(&store, webhook).await?;
    store.hold_lane("fcm", MINUTE_MS).await?;
    // An answer that names less cuts nothing of it.
    store.hold_lane("fcm", 1).await?;
    tell_at(&store, 0, ("MessageNew", 1, "")).await?;
    // Another service has not asked, and a restart forgets nothing.
    let store = test.open().await?;
    let claimed = claim(&store).await?;
    ensure!(claimed.len() == 1 && claimed[0].address.lane() == "https://quick.example");
    accept(&store, &claimed).await?;
    ensure!(claim(&store.another_node()).await?.is_empty());
    // Until then it is not looked at again.
    let put_off = "push_waiting JOIN push_held ON push_waiting.due_ms = push_held.until_ms";
    ensure!(test.count(put_off)? == 1);
    test.clock.pass(MINUTE_MS);
    ensure!(claim(&store).await?.len() == 1);
    // It is believed up to the deadline of a push.
    store.hold_lane("fcm", i64::MAX).await?;
    store.drop_old_pushes().await?;
    ensure!(test.count("push_held")? == 1);
    test.clock.pass(5 * HOUR_MS);
    store.drop_old_pushes().await?;
    ensure!(test.count("push_held")? == 0);
    Ok(())
}
