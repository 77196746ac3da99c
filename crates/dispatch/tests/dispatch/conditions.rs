//! Conditions that cost much: whose account has them waits for them, nobody else does, and nothing
//! is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dovecast_dispatch::{Evaluator, EvaluatorLimits};
use dovecast_notification::filter::Mismatch;
use dovecast_notification::{Choice, Condition, EndpointId, Filter, Notification, NotificationId};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::sink::Sink;
use crate::world::{World, endpoint, notification_of, until, until_taken};

pub(crate) fn filter(number: u128, account: &str, condition: &Arc<Condition>) -> Filter {
    Filter {
        endpoint: EndpointId(Uuid::from_u128(number)),
        account: account.into(),
        mail_account: None,
        enabled: true,
        applications: Choice::Any,
        event_types: Choice::Any,
        levels: Choice::Any,
        condition: Some(Arc::clone(condition)),
    }
}

pub(crate) fn condition(text: &str) -> Arc<Condition> {
    Arc::new(Condition::new(text).expect("a condition"))
}

fn put(world: &World, numbers: std::ops::Range<u128>, sink: &Sink, of: (&str, &Arc<Condition>)) {
    let (account, condition) = of;
    for number in numbers {
        let mut endpoint = endpoint(number, sink);
        endpoint.account = account.into();
        world
            .directory
            .put(endpoint, Some(filter(number, account, condition)));
    }
}

/// A message with a list of so many items.
pub(crate) fn list(items: usize) -> String {
    format!(r#"{{"l":[{}]}}"#, vec!["1"; items].join(","))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn costly_conditions_of_one_account_keep_no_other_waiting() {
    let mut world = World::new();
    let (bad, good) = (Sink::start().await, Sink::start().await);
    let costly = condition("message.l.all(x, x != 5)");
    put(&world, 0..1_000, &bad, ("bad", &costly));
    let cheap = condition("message.l.exists(x, x == 1)");
    put(&world, 1_000..1_001, &good, ("good", &cheap));
    world.start();
    world.append([notification_of("bad", &list(98_000))]).await;
    until("conditions are evaluated", || async {
        let stats = world.dispatcher.as_ref().expect("it runs").stats();
        stats.conditions_waiting > 0
    })
    .await;
    for items in 1..=100 {
        // The directory is free, too.
        put(&world, 1_000..1_001, &good, ("good", &cheap));
        world.append([notification_of("good", &list(items))]).await;
    }
    // That takes a thread of the evaluator.
    world.append([notification_of("good", &list(10_000))]).await;
    until_taken(&good, 101).await;
    let stats = world.dispatcher.as_ref().expect("it runs").stats();
    assert!(
        bad.distinct() < 1_000 && stats.conditions_waiting > 0,
        "{stats:?}"
    );
    assert!(stats.conditions_deferred > 500, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_exceeds_the_budget_of_an_account_comes_later_and_nothing_is_lost() {
    /// Less than a notification has.
    const FEW_BYTES: usize = 10_000;
    let all = EvaluatorLimits {
        steps_of_account: u64::MAX,
        ..EvaluatorLimits::default()
    };
    let of_account = |steps_of_account| EvaluatorLimits {
        steps_of_account,
        ..all
    };
    let few_bytes_of_account = EvaluatorLimits {
        bytes_of_account: FEW_BYTES,
        ..all
    };
    let few_bytes = EvaluatorLimits {
        bytes: FEW_BYTES,
        ..all
    };
    // What may wait to be evaluated: nothing, by steps or bytes, some of it, all.
    for (limits, expected) in [
        (of_account(0), 25..=75),
        (of_account(4_000_000), 1..=74),
        (few_bytes_of_account, 25..=75),
        (few_bytes, 25..=75),
        (all, 0..=0),
    ] {
        let mut world = World::new();
        world.conditions = limits;
        let sink = Sink::start().await;
        let some = condition("message.l.exists(x, x == 1)");
        let none = condition("message.l.all(x, x != 1)");
        put(&world, 0..20, &sink, ("a", &some));
        put(&world, 20..25, &sink, ("a", &none));
        world.start();
        let deferred = || {
            world
                .dispatcher
                .as_ref()
                .expect("it runs")
                .stats()
                .conditions_deferred
        };
        for round in 1..=3 {
            world.append([notification_of("a", &list(9_000))]).await;
            until_taken(&sink, 20 * round).await;
            world.committed().await;
            until("nothing is owed", || async {
                let kept = world.ledger.kept();
                kept.owed.is_empty() && kept.ranges.is_empty()
            })
            .await;
        }
        let deferred = deferred();
        assert!(expected.contains(&deferred), "{deferred} with {limits:?}");
        // What is cheap comes at once, whatever is left.
        world.append([notification_of("a", &list(2))]).await;
        until_taken(&sink, 80).await;
        world.stop().await;
        assert_eq!((sink.distinct(), world.ledger.made_again()), (80, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_is_not_run_is_counted_and_explained() {
    let mut world = World::new();
    let sink = Sink::start().await;
    let endless = condition("message.l.all(x, x in message.l)");
    put(&world, 0..1, &sink, ("a", &endless));
    let cheap = condition("has(message.l)");
    put(&world, 1..2, &sink, ("a", &cheap));
    world.start();
    world.append([notification_of("a", &list(50_000))]).await;
    until_taken(&sink, 1).await;
    world.committed().await;
    let stats = world.dispatcher.as_ref().expect("it runs").stats();
    assert_eq!(
        (stats.conditions_not_run, stats.conditions_deferred),
        (1, 0)
    );
    assert_eq!((stats.delivered, stats.matched), (1, 1));
    let evaluator = world.dispatcher.as_ref().expect("it runs").evaluator();
    let large = notification("a", &list(50_000));
    for (condition, expected) in [(&endless, Some(Mismatch::Cost)), (&cheap, None)] {
        let found = evaluator.mismatch(&filter(0, "a", condition), &large).await;
        assert_eq!(found, expected);
    }
    world.stop().await;
}

fn notification(account: &str, message: &str) -> Notification {
    Notification {
        id: NotificationId(Uuid::nil()),
        application: "a".into(),
        event_type: "e".into(),
        level: None,
        account: account.into(),
        timestamp: Bytes::from_static(b"0"),
        message: message.to_owned().into(),
        key: None,
        headers: Vec::new(),
    }
}

#[tokio::test]
async fn accounts_take_turns() {
    let limits = EvaluatorLimits {
        threads: 1,
        steps_of_turn: 1,
        ..EvaluatorLimits::default()
    };
    let evaluator = Arc::new(Evaluator::new(limits));
    let all = condition("message.l.all(x, x == 1)");
    let message = Arc::new(list(10_000));
    let mut asked = JoinSet::new();
    let mut ask = |account: &'static str| {
        let (evaluator, all) = (Arc::clone(&evaluator), Arc::clone(&all));
        let message = Arc::clone(&message);
        asked.spawn(async move {
            let filter = filter(0, account, &all);
            let found = evaluator
                .mismatch(&filter, &notification(account, &message))
                .await;
            assert_eq!(found, None);
            account
        });
    };
    for _ in 0..50 {
        ask("many");
    }
    ask("one");
    let mut before = BTreeMap::new();
    while let Some(account) = asked.join_next().await {
        let account = account.expect("no panic");
        if account == "one" {
            break;
        }
        *before.entry(account).or_insert(0) += 1;
    }
    let before = before.get("many").copied().unwrap_or(0);
    assert!(before < 10, "{before} of another account were first");
    assert_eq!(asked.join_all().await.len(), 50 - before);
}
