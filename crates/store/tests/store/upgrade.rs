//! Databases of earlier versions: what is owed, dead, or a range goes on where it was.

use anyhow::{Context, Result, ensure};
use dovecast_dispatch::ledger::{Ledger, OwedRange};
use dovecast_notification::{Notification, NotificationId};
use dovecast_store::Store;

use crate::setup::{Kind, Test, cases};

cases![what_version_9_owes_is_delivered_and_its_dead_letters_are_kept];

const ACCOUNTS: [&str; 2] = ["42", "o\"ne\\two"];
/// The log in Kafka that ranges in the PostgreSQL are of.
const LOG: &str = "d7fd074a59f9f07c";
/// Behind what the databases were made at.
const LATER_MS: i64 = 2_000_000_000_000;

/// Makes the database what a server of that version has left.
pub(crate) fn restore(test: &Test) -> Result<()> {
    test.execute(match &test.kind {
        Kind::Sqlite => include_str!("version_9/sqlite.sql"),
        Kind::Postgres(_) => include_str!("version_9/postgres.sql"),
    })
}

/// The notifications that were sent to an account, by their numbers.
fn check(id: NotificationId, content: &bytes::Bytes) -> Result<(String, u64)> {
    let notification = Notification::from_canonical(id, content)?;
    let message: serde_json::Value = serde_json::from_slice(&notification.message)?;
    let number = message["n"].as_u64().context("a number")?;
    let level = if number == 0 { "\"l\"" } else { "null" };
    let time = std::str::from_utf8(&notification.timestamp)?;
    let expected = format!(
        r#"{{"timestamp":{time},"application":"a","event_type":"e\"ä","level":{level},"message":{{"n": {number}, "text": "\u00e4\\ \u0001", "f": 1.5}}}}"#
    );
    ensure!(notification.body() == expected, "{:?}", notification.body());
    Ok((notification.account.into_string(), number))
}

async fn what_version_9_owes_is_delivered_and_its_dead_letters_are_kept(test: Test) -> Result<()> {
    restore(&test)?;
    let mut options = test.options()?;
    if let Kind::Postgres(_) = &test.kind {
        LOG.clone_into(&mut options.log);
    }
    let store = Store::open(&options).await?;
    let all: Vec<_> = ACCOUNTS
        .iter()
        .flat_map(|account| (0..3).map(|number| ((*account).to_owned(), number)))
        .collect();
    store.beat(LATER_MS, LATER_MS + 1_000_000).await?;
    let owed = store.claim_owed(LATER_MS, 100).await?;
    ensure!(owed.iter().all(|owed| owed.failures == 1));
    let owed = owed
        .iter()
        .map(|owed| check(owed.notification, &owed.content));
    let mut owed = owed.collect::<Result<Vec<_>>>()?;
    owed.sort();
    ensure!(owed == all, "{owed:?}");

    let letters = store.dead_letters(None, 100).await?.letters;
    let (records, letters): (Vec<_>, Vec<_>) = letters
        .into_iter()
        .map(|kept| kept.letter)
        .partition(|letter| letter.endpoint.is_none());
    ensure!(records.len() == 1 && records[0].content == "no notification");
    let letters = letters
        .iter()
        .map(|letter| check(letter.notification, &letter.content));
    let mut letters = letters.collect::<Result<Vec<_>>>()?;
    letters.sort();
    ensure!(letters == all, "{letters:?}");

    let mut ranges = Vec::new();
    for range in store.claim_ranges(LATER_MS, 100).await? {
        let OwedRange { id, from, to } = range;
        let account = store.account_of_endpoint(id.endpoint).await?;
        let account = account.context("an account")?.number;
        ranges.push((
            account,
            id.topic.to_string(),
            id.partition,
            id.start,
            from,
            to,
        ));
    }
    ranges.sort();
    // Three notifications of each account were there, in the partition of its key.
    let of = |account: &str, partition| {
        let topic = "hooks.outbox".to_owned();
        (account.to_owned(), topic, partition, 0, 0, 3)
    };
    ensure!(
        ranges == [of(ACCOUNTS[0], 4), of(ACCOUNTS[1], 3)],
        "{ranges:?}"
    );
    let endpoints = store.load_endpoints_after(None, 100).await?;
    let paused = endpoints.iter().filter(|found| found.endpoint.flow.paused);
    let paused: Vec<&str> = paused.map(|found| &*found.endpoint.name).collect();
    ensure!(paused == ["paused", "paused"], "{paused:?}");
    Ok(())
}
