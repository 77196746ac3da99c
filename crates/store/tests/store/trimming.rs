//! The past of accounts is bounded: the newest dead letters and attempts of each stay, and so do
//! those of all others.

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{AttemptRow, DeadLetter, Happened, Ledger};
use dovecast_notification::NotificationId;
use dovecast_store::{AccountPast, Trimmed};
use uuid::Uuid;

use crate::bodies::{UNBOUNDED, endpoints, letter, numbers};
use crate::setup::{Test, cases, each};

cases![
    an_account_of_which_nothing_new_is_written_is_not_looked_at,
    an_account_keeps_its_newest_letters_and_takes_none_of_others,
    an_account_keeps_its_newest_attempts_and_takes_none_of_others,
    what_was_no_notification_takes_no_room_of_others,
];

async fn an_account_of_which_nothing_new_is_written_is_not_looked_at(test: Test) -> Result<()> {
    let store = test.open().await?;
    let (mine, other) = (
        endpoints(&store, "1", 1).await?[0],
        endpoints(&store, "2", 1).await?[0],
    );
    let few = AccountPast {
        dead_letters: 5,
        attempt_rows: 5,
        ..UNBOUNDED
    };
    store.trim_past(&few).await?;
    let dead = |endpoint, numbers: std::ops::Range<u128>| {
        each(
            Happened::Dead,
            numbers.map(|number| letter(endpoint, number)),
        )
    };
    store.record(&dead(other, 0..9)).await?;
    let trimmed = store.trim_past(&few).await?;
    ensure!(trimmed.dead_letters == 4, "{trimmed:?}");
    let before = store.statements();
    store.trim_past(&few).await?;
    let idle = store.statements() - before;
    ensure!(idle <= 2, "{idle} statements though nothing is new");
    store.record(&dead(mine, 10..17)).await?;
    let trimmed = store.trim_past(&few).await?;
    ensure!(trimmed.dead_letters == 2, "{trimmed:?}");
    ensure!(numbers(&store, other).await? == [4, 5, 6, 7, 8]);
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

async fn what_was_no_notification_takes_no_room_of_others(test: Test) -> Result<()> {
    let store = test.open().await?;
    let endpoint = endpoints(&store, "1", 1).await?[0];
    let mine = Happened::Dead(letter(endpoint, 1));
    let nonsense = (2..10_012).map(|number| DeadLetter {
        endpoint: None,
        ..letter(endpoint, number)
    });
    store
        .record(&[vec![mine], each(Happened::Dead, nonsense)].concat())
        .await?;
    let trimmed = store.trim_past(&UNBOUNDED).await?;
    ensure!(trimmed.dead_letters == 10, "{trimmed:?}");
    ensure!(test.count("dead_letter WHERE account_id <> ''")? == 1);
    ensure!(test.count("dead_letter WHERE account_id = '' AND time_ms > 11")? == 10_000);
    let trimmed = store.trim_past(&UNBOUNDED).await?;
    ensure!(trimmed.dead_letters == 0, "{trimmed:?}");
    Ok(())
}
