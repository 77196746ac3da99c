//! What dead letters are of is there once, as long as a letter names it.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::ledger::{DeadLetter, Happened, Ledger};
use dovecast_log::now_ms;
use dovecast_notification::NotificationId;
use dovecast_store::{AccountPast, EndpointId, KeptPast, Store};
use uuid::Uuid;

use crate::setup::{Test, cases, create, each, soon};

cases![
    a_body_is_there_once_for_all_endpoints_until_the_last_letter_goes,
    a_letter_that_comes_while_the_last_one_goes_keeps_its_body,
    a_node_of_before_bodies_redelivers_no_letter_whose_body_it_does_not_see,
    a_body_whose_letter_a_node_of_before_has_removed_goes,
    letters_of_before_accounts_were_counted_count,
    two_who_write_the_same_bodies_in_another_order_wait_for_each_other_once,
    a_page_of_letters_ends_with_four_mebibytes_and_goes_on_behind_them,
    large_letters_are_delivered_again_a_page_at_a_time,
];

pub(crate) const UNBOUNDED: AccountPast = AccountPast {
    dead_letters: 0,
    dead_letter_bytes: 0,
    attempt_rows: 0,
};

fn content(number: u128) -> String {
    format!("{{\"{number:06}\":\"{}\"}}", "x".repeat(9_985))
}

pub(crate) fn letter(endpoint: EndpointId, number: u128) -> DeadLetter {
    DeadLetter {
        note: String::new(),
        together: None,
        record: None,
        endpoint: Some(endpoint),
        notification: NotificationId(Uuid::from_u128(number)),
        content: Bytes::from(content(number)),
        reason: "refused".to_owned(),
        time_ms: i64::try_from(number).unwrap_or(0),
        attempts: 1,
    }
}

pub(crate) async fn endpoints(
    store: &Store,
    account: &str,
    count: usize,
) -> Result<Vec<EndpointId>> {
    let account = store.account_seen(account).await?;
    let mut made = Vec::new();
    for number in 0..count {
        let created = create(store, &account, &format!("e{number}"), None).await?;
        made.push(created.endpoint.id);
    }
    Ok(made)
}

/// Numbers of the notifications of an endpoint's letters, oldest first, each with its content.
pub(crate) async fn numbers(store: &Store, endpoint: EndpointId) -> Result<Vec<u128>> {
    let letters = store.dead_letters_of(endpoint, None, 10_000).await?.letters;
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
    ensure!(store.redeliver(*last, first).await? == 1);
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

/// What a node of version 16 of the schema takes when it redelivers.
const TAKEN_BEFORE: &str = "dead_letter WHERE is_base64 = 0";

async fn a_node_of_before_bodies_redelivers_no_letter_whose_body_it_does_not_see(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let endpoint = endpoints(&store, "1", 1).await?[0];
    let two = [1, 2].map(|number| letter(endpoint, number));
    store.record(&each(Happened::Dead, two)).await?;
    ensure!(test.count(TAKEN_BEFORE)? == 0);
    // Of builds that had the table already.
    test.execute("UPDATE dead_letter SET is_base64 = 0 WHERE time_ms = 1")?;
    ensure!(numbers(&store, endpoint).await? == [1, 2]);
    let id = NotificationId(Uuid::from_u128(1));
    let other = NotificationId(Uuid::from_u128(2));
    for of in [id, other] {
        ensure!(store.content_of(endpoint, of).await?.is_some(), "{of:?}");
    }
    ensure!(store.redeliver(endpoint, id).await? == 1);
    ensure!(store.redeliver_since(endpoint, 0).await? == 1);
    ensure!(test.count("owed WHERE content <> ''")? == 2);
    ensure!(test.count("dead_body")? == 0);
    Ok(())
}

async fn a_body_whose_letter_a_node_of_before_has_removed_goes(test: Test) -> Result<()> {
    let store = test.open().await?;
    let endpoint = endpoints(&store, "1", 1).await?[0];
    let now_ms = u128::try_from(now_ms())?;
    let all = (0..3).map(|number| letter(endpoint, now_ms + number));
    store.record(&each(Happened::Dead, all)).await?;
    test.execute("DELETE FROM dead_letter WHERE time_ms = (SELECT MIN(time_ms) FROM dead_letter)")?;
    ensure!(test.count("dead_body")? == 3);
    for _ in 0..2 {
        store.forget_past(KeptPast::default()).await?;
        ensure!(test.count("dead_body")? == 2 && test.count("dead_letter")? == 2);
    }
    Ok(())
}

async fn letters_of_before_accounts_were_counted_count(test: Test) -> Result<()> {
    let store = test.open().await?;
    let endpoint = endpoints(&store, "1", 1).await?[0];
    let all = (1..=1_200).map(|number| letter(endpoint, number));
    store.record(&each(Happened::Dead, all)).await?;
    test.execute("UPDATE dead_letter SET account_id = ''")?;
    store.trim_past(&UNBOUNDED).await?;
    ensure!(test.count("dead_letter WHERE account_id = ''")? == 0);
    // A node of before writes more.
    store
        .record(&[Happened::Dead(letter(endpoint, 2_000))])
        .await?;
    test.execute("UPDATE dead_letter SET account_id = '' WHERE time_ms = 2000")?;
    let few = AccountPast {
        dead_letters: 1_000,
        ..UNBOUNDED
    };
    let trimmed = store.trim_past(&few).await?;
    ensure!(trimmed.dead_letters == 201, "{trimmed:?}");
    Ok(())
}

async fn two_who_write_the_same_bodies_in_another_order_wait_for_each_other_once(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let all = endpoints(&store, "1", 2).await?;
    let dead = |endpoint, numbers: Vec<u128>| {
        let letters = numbers.into_iter().map(|number| letter(endpoint, number));
        each(Happened::Dead, letters)
    };
    for round in 0..20 {
        let numbers: Vec<u128> = (0..50).map(|number| round * 50 + number).collect();
        let there = dead(all[0], numbers.clone());
        let back = dead(all[1], numbers.into_iter().rev().collect());
        let (one, other) =
            soon(async { tokio::join!(store.record(&there), store.record(&back)) }).await?;
        one?;
        other?;
    }
    ensure!(test.count("dead_letter")? == 2_000 && test.count("dead_body")? == 1_000);
    Ok(())
}

/// A letter of so many bytes, of which a page holds so many.
fn large(endpoint: Option<EndpointId>, number: u128, bytes: usize) -> DeadLetter {
    let content = format!("{number:06}{}", "x".repeat(bytes - 6));
    DeadLetter {
        endpoint,
        content: Bytes::from(content),
        ..letter(EndpointId(Uuid::nil()), number)
    }
}

const MEBIBYTE: usize = 1024 * 1024;

async fn a_page_of_letters_ends_with_four_mebibytes_and_goes_on_behind_them(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let endpoint = endpoints(&store, "1", 1).await?[0];
    let letters = (1..=6).map(|number| large(Some(endpoint), number, MEBIBYTE));
    // One that is larger than a page, and what stands in the letter itself.
    let more = [
        large(Some(endpoint), 7, 5 * MEBIBYTE),
        large(None, 8, 3 * MEBIBYTE),
        large(None, 9, 3 * MEBIBYTE),
    ];
    store
        .record(&each(Happened::Dead, letters.chain(more)))
        .await?;
    for (of, expected) in [
        (Some(endpoint), vec![vec![7], vec![6, 5, 4, 3], vec![2, 1]]),
        (
            None,
            vec![vec![9], vec![8], vec![7], vec![6, 5, 4, 3], vec![2, 1]],
        ),
    ] {
        let mut before = None;
        for (place, expected) in expected.iter().enumerate() {
            ensure!(
                place == 0 || before.is_some(),
                "nothing before {expected:?}"
            );
            let page = match of {
                Some(endpoint) => store.dead_letters_of(endpoint, before, 100).await?,
                None => store.dead_letters(before, 100).await?,
            };
            let letters = page.letters.iter();
            let numbers: Vec<_> = letters.map(|kept| kept.letter.time_ms).collect();
            ensure!(numbers == *expected, "{numbers:?}, and not {expected:?}");
            before = page.older_before;
        }
        ensure!(before.is_none(), "{before:?}");
    }
    Ok(())
}

async fn large_letters_are_delivered_again_a_page_at_a_time(test: Test) -> Result<()> {
    let store = test.open().await?;
    let endpoint = endpoints(&store, "1", 1).await?[0];
    let letters = (1..=10).map(|number| large(Some(endpoint), number, MEBIBYTE));
    store.record(&each(Happened::Dead, letters)).await?;
    let before = store.statements();
    ensure!(store.redeliver_since(endpoint, 0).await? == 10);
    let large_ones = store.statements() - before;
    ensure!(test.count("owed")? == 10 && test.count("dead_letter")? == 0);
    // As many that are small are one transaction.
    let letters = (1..=10).map(|number| large(Some(endpoint), number, 100));
    store.record(&each(Happened::Dead, letters)).await?;
    let before = store.statements();
    ensure!(store.redeliver_since(endpoint, 0).await? == 10);
    let small_ones = store.statements() - before;
    ensure!(
        large_ones > small_ones,
        "{large_ones} and {small_ones} statements"
    );
    Ok(())
}
