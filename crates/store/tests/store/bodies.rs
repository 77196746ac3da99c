//! What dead letters are of is there once, as long as a letter names it; what an account has of
//! them is bounded, and the newest stay.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::ledger::{AttemptRow, DeadLetter, Happened, Ledger};
use dovecast_notification::NotificationId;
use dovecast_store::{AccountPast, EndpointId, Store, Trimmed};
use uuid::Uuid;

use crate::setup::{Test, cases, create, each, soon};

cases![
    a_body_is_there_once_for_all_endpoints_until_the_last_letter_goes,
    a_letter_that_comes_while_the_last_one_goes_keeps_its_body,
    an_account_keeps_its_newest_letters_and_takes_none_of_others,
    an_account_keeps_its_newest_attempts_and_takes_none_of_others,
];

const UNBOUNDED: AccountPast = AccountPast {
    dead_letters: 0,
    dead_letter_bytes: 0,
    attempt_rows: 0,
};

fn content(number: u128) -> String {
    format!("{{\"{number:06}\":\"{}\"}}", "x".repeat(9_985))
}

fn letter(endpoint: EndpointId, number: u128) -> DeadLetter {
    DeadLetter {
        record: None,
        endpoint: Some(endpoint),
        notification: NotificationId(Uuid::from_u128(number)),
        content: Bytes::from(content(number)),
        reason: "refused".to_owned(),
        time_ms: i64::try_from(number).unwrap_or(0),
        attempts: 1,
    }
}

async fn endpoints(store: &Store, account: &str, count: usize) -> Result<Vec<EndpointId>> {
    let account = store.account_seen(account).await?;
    let mut made = Vec::new();
    for number in 0..count {
        let created = create(store, &account, &format!("e{number}"), None).await?;
        made.push(created.endpoint.id);
    }
    Ok(made)
}

/// Numbers of the notifications of an endpoint's letters, oldest first, each with its content.
async fn numbers(store: &Store, endpoint: EndpointId) -> Result<Vec<u128>> {
    let letters = store.dead_letters_of(endpoint, None, 10_000).await?;
    let mut numbers = Vec::new();
    for kept in letters.into_iter().rev() {
        let number = kept.letter.notification.0.as_u128();
        ensure!(
            kept.letter.content == content(number).as_bytes(),
            "{number}"
        );
        numbers.push(number);
    }
    Ok(numbers)
}

async fn a_body_is_there_once_for_all_endpoints_until_the_last_letter_goes(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let all = endpoints(&store, "1", 20).await?;
    let dead = |number| {
        let letters = all.iter().map(|endpoint| letter(*endpoint, number));
        each(Happened::Dead, letters)
    };
    // Written twice, as after an answer that was lost.
    for number in [1, 2, 1] {
        store.record(&dead(number)).await?;
    }
    let bodies = || test.count("dead_body");
    ensure!(bodies()? == 2 && test.count("dead_letter")? == 40);
    ensure!(test.count("dead_letter WHERE content <> ''")? == 0);
    for endpoint in &all {
        ensure!(numbers(&store, *endpoint).await? == [1, 2]);
    }
    let first = NotificationId(Uuid::from_u128(1));
    let (last, others) = all.split_last().context("endpoints")?;
    for endpoint in others {
        ensure!(store.drop_dead_letter(*endpoint, first).await?);
        ensure!(bodies()? == 2);
    }
    // What is owed again has its content.
    ensure!(store.redeliver(*last, first).await?);
    ensure!(bodies()? == 1);
    let owed = store.claim_owed(1, 10).await?;
    ensure!(owed.len() == 1 && owed[0].content == content(1).as_bytes());
    ensure!(store.redeliver_since(others[0], 0).await? == 1);
    for endpoint in &others[1..] {
        ensure!(bodies()? == 1);
        ensure!(store.drop_dead_letters_since(*endpoint, 0).await? == 1);
    }
    ensure!(bodies()? == 1 && numbers(&store, *last).await? == [2]);
    ensure!(store.delete_account("1").await?);
    ensure!(bodies()? == 0 && test.count("dead_letter")? == 0);
    Ok(())
}

async fn a_letter_that_comes_while_the_last_one_goes_keeps_its_body(test: Test) -> Result<()> {
    let store = test.open().await?;
    let all = endpoints(&store, "1", 2).await?;
    let dead = |endpoint| [Happened::Dead(letter(endpoint, 1))];
    let id = NotificationId(Uuid::from_u128(1));
    for round in 0..50 {
        let (goes, comes) = (all[round % 2], all[(round + 1) % 2]);
        store.record(&dead(goes)).await?;
        let coming = dead(comes);
        let (dropped, recorded) =
            soon(async { tokio::join!(store.drop_dead_letter(goes, id), store.record(&coming)) })
                .await?;
        ensure!(dropped?);
        recorded?;
        ensure!(numbers(&store, comes).await? == [1], "round {round}");
        ensure!(test.count("dead_body")? == 1, "round {round}");
        ensure!(store.drop_dead_letter(comes, id).await?);
        ensure!(test.count("dead_body")? == 0, "round {round}");
    }
    Ok(())
}

async fn an_account_keeps_its_newest_letters_and_takes_none_of_others(test: Test) -> Result<()> {
    let store = test.open().await?;
    let mine = endpoints(&store, "1", 2).await?;
    let other = endpoints(&store, "2", 1).await?[0];
    let dead = (1..=300).map(|number| letter(mine[0], number));
    let dead = dead.chain((101..=300).map(|number| letter(mine[1], number)));
    let dead = dead.chain((1001..=1100).map(|number| letter(other, number)));
    store.record(&each(Happened::Dead, dead)).await?;
    let none = store.trim_past(&UNBOUNDED).await?;
    ensure!(none == Trimmed::default(), "{none:?}");
    let few = AccountPast {
        dead_letters: 300,
        ..UNBOUNDED
    };
    let trimmed = store.trim_past(&few).await?;
    ensure!(trimmed.dead_letters == 200, "{trimmed:?}");
    // Ids rise with the time of what they are of.
    let left: Vec<u128> = (151..=300).collect();
    for endpoint in &mine {
        ensure!(numbers(&store, *endpoint).await? == left);
    }
    ensure!(test.count("dead_body")? == 150 + 100);
    // What two endpoints have not got counts once.
    let small = AccountPast {
        dead_letter_bytes: 1_000_000,
        ..UNBOUNDED
    };
    let trimmed = store.trim_past(&small).await?;
    ensure!(trimmed.dead_letters == 100, "{trimmed:?}");
    for endpoint in &mine {
        ensure!(numbers(&store, *endpoint).await? == left[50..]);
    }
    ensure!(numbers(&store, other).await?.len() == 100);
    ensure!(test.count("dead_body")? == 200);
    ensure!(store.trimmed().dead_letters == 300);
    Ok(())
}

async fn an_account_keeps_its_newest_attempts_and_takes_none_of_others(test: Test) -> Result<()> {
    let store = test.open().await?;
    let mine = endpoints(&store, "1", 2).await?;
    let other = endpoints(&store, "2", 1).await?[0];
    for number in 1..=30 {
        let attempts = [mine[0], mine[1], other].map(|endpoint| AttemptRow {
            endpoint,
            notification: NotificationId(Uuid::from_u128(number)),
            time_ms: i64::try_from(number).unwrap_or(0),
            number: 1,
            is_delivered: true,
            status: Some(200),
            latency_us: 1,
            said: "200".to_owned(),
        });
        store.record(&each(Happened::Attempt, attempts)).await?;
    }
    let few = AccountPast {
        attempt_rows: 40,
        ..UNBOUNDED
    };
    let trimmed = store.trim_past(&few).await?;
    ensure!(trimmed.attempt_rows == 20, "{trimmed:?}");
    for (endpoint, expected) in [(mine[0], 20), (mine[1], 20), (other, 30)] {
        let kept = store.attempts(endpoint, 100).await?;
        ensure!(kept.len() == expected, "{}", kept.len());
    }
    Ok(())
}
