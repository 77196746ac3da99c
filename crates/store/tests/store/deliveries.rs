//! The ledger of the dispatcher: what was noted is there, claimed by one at a time, and the past
//! does not grow for ever.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::ledger::{
    AttemptRow, DeadLetter, Happened, Ledger, Owed, OwedRange, RangeId,
};
use dovecast_notification::{EndpointId, NotificationId};
use dovecast_store::{KeptPast, Store, StoreOptions};
use uuid::Uuid;

use crate::setup::{self, Kind, Test, cases, create, each};

cases![
    an_owed_delivery_is_claimed_once_while_the_claimer_lives,
    what_is_left_claimed_is_free_for_whoever_begins_in_the_same_process,
    a_dispatcher_that_begins_on_a_file_has_no_rivals,
    what_fails_again_is_given_back_or_is_done_is_so,
    two_dispatchers_never_claim_the_same,
    what_waits_hides_nothing_that_is_due_behind_it,
    a_range_grows_shrinks_and_ends,
    who_was_taken_for_dead_takes_nothing_back,
    a_range_that_cannot_be_read_is_left_to_others,
    ranges_of_one_log_are_nothing_to_who_reads_another,
    everything_is_noted_or_nothing,
    dead_letters_of_any_bytes_come_back_as_they_were,
    a_dead_letter_is_owed_again_due_now_and_dead_no_more,
    dead_letters_since_a_time_are_owed_again_however_many,
    what_is_owed_for_later_is_due_now_when_it_is_redelivered,
    attempts_are_kept_by_endpoint_and_show_how_it_is,
    the_past_is_forgotten_by_age_and_by_number,
    what_is_noted_again_is_noted_once,
];

const ENDPOINT: EndpointId = EndpointId(Uuid::from_u128(7));

fn notification(number: u128) -> NotificationId {
    NotificationId(Uuid::from_u128(number))
}

fn owed(number: u128, due_ms: i64) -> Owed {
    Owed {
        notification: notification(number),
        content: Bytes::from(format!(r#"{{"message":"ä{number}"}}"#)),
        reason: "the endpoint answers 503".to_owned(),
        ..setup::owed(ENDPOINT, due_ms)
    }
}

async fn an_owed_delivery_is_claimed_once_while_the_claimer_lives(test: Test) -> Result<()> {
    let store = test.open().await?;
    let both = vec![owed(1, 100), owed(2, 50), owed(3, 5_000)];
    store.record(&each(Happened::Owed, both)).await?;
    // One that is there stays as it is.
    let again = Owed {
        failures: 9,
        ..owed(1, 1)
    };
    store.record(&[Happened::Owed(again)]).await?;
    store.beat(0, 1_000).await?;
    ensure!(store.claim_owed(49, 10).await? == []);
    let counts = store.owed_counts().await?;
    ensure!(
        counts.len() == 1 && counts[&ENDPOINT].deliveries == 3,
        "{counts:?}"
    );
    ensure!(store.claim_owed(200, 10).await? == [owed(2, 50), owed(1, 100)]);
    ensure!(store.claim_owed(1_000, 10).await? == []);
    // Not even by itself, if it has not said that it lives.
    ensure!(store.claim_owed(1_001, 1).await? == []);
    store.beat(1_000, 2_000).await?;
    ensure!(store.claim_owed(1_500, 10).await? == []);
    store.leave().await?;
    let next = test.open().await?;
    ensure!(next.claim_owed(1_500, 10).await? == [owed(2, 50), owed(1, 100)]);
    Ok(())
}

async fn what_is_left_claimed_is_free_for_whoever_begins_in_the_same_process(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let range = RangeId {
        endpoint: ENDPOINT,
        topic: Arc::from("events"),
        partition: 0,
        start: 3,
    };
    store.beat(0, 1_000).await?;
    let what = [
        Happened::UnderWay(owed(1, 0)),
        Happened::Grown(range.clone(), 9),
    ];
    store.record(&what).await?;
    ensure!(store.claim_owed(1, 10).await? == []);
    ensure!(store.claim_ranges(1, 10).await? == []);
    store.leave().await?;
    store.beat(1, 1_001).await?;
    ensure!(store.claim_owed(1, 10).await? == [owed(1, 0)]);
    let ranges = store.claim_ranges(1, 10).await?;
    ensure!(ranges.len() == 1 && ranges[0].id == range, "{ranges:?}");
    Ok(())
}

async fn a_dispatcher_that_begins_on_a_file_has_no_rivals(test: Test) -> Result<()> {
    let (store, next) = (test.open().await?, test.open().await?);
    store.record(&[Happened::UnderWay(owed(1, 0))]).await?;
    store.beat(0, 50_000).await?;
    ensure!(next.claim_owed(1, 10).await? == []);
    next.beat(1, 50_000).await?;
    // What was killed need not be waited for, unless there may be several.
    let expected = match test.kind {
        Kind::Sqlite => vec![owed(1, 0)],
        Kind::Postgres(_) => Vec::new(),
    };
    ensure!(next.claim_owed(2, 10).await? == expected);
    Ok(())
}

async fn what_fails_again_is_given_back_or_is_done_is_so(test: Test) -> Result<()> {
    let store = test.open().await?;
    store.beat(0, 1_000_000).await?;
    let all = (1..=4).map(|number| owed(number, 0));
    store.record(&each(Happened::Owed, all)).await?;
    ensure!(store.claim_owed(1, 10).await?.len() == 4);
    let failed = Owed {
        failures: 2,
        reason: "refused".to_owned(),
        ..owed(1, 300)
    };
    let next = [
        Happened::FailedAgain(failed.clone()),
        Happened::GivenBack(owed(2, 200)),
        Happened::Done((ENDPOINT, notification(3))),
    ];
    store.record(&next).await?;
    let given_back = Owed {
        due_ms: 200,
        ..owed(2, 0)
    };
    // The fourth is still claimed, the third is gone.
    ensure!(store.claim_owed(400, 10).await? == [given_back, failed]);
    // New and done at once, as when a delivery ends that took its time.
    let brief = [
        Happened::UnderWay(owed(5, 0)),
        Happened::Done((ENDPOINT, notification(5))),
    ];
    store.record(&brief).await?;
    let left = store.claim_owed(2_000_000, 10).await?;
    ensure!(
        left.iter().all(|owed| owed.notification != notification(5)),
        "{left:?}"
    );
    Ok(())
}

async fn two_dispatchers_never_claim_the_same(test: Test) -> Result<()> {
    let (one, two) = (test.open().await?, test.open().await?);
    let now = 1;
    for store in [&one, &two] {
        store.beat(now, 50_000).await?;
    }
    // On a file the second one is alone now, and the first is dead.
    one.beat(now, 50_000).await?;
    let rival = match test.kind {
        Kind::Sqlite => one.clone(),
        Kind::Postgres(_) => two,
    };
    let all = (0..600).map(|number| owed(number, 0));
    one.record(&each(Happened::Owed, all)).await?;
    let claim = |store: Store| async move {
        let mut claimed = Vec::new();
        loop {
            let more = store.claim_owed(now, 7).await?;
            if more.is_empty() {
                return anyhow::Ok(claimed);
            }
            claimed.extend(more.into_iter().map(|owed| owed.notification));
        }
    };
    let (first, second) = tokio::join!(claim(one.clone()), claim(rival));
    let (mut first, second) = (first?, second?);
    first.extend(second);
    // Nobody waits for anybody, so one may end while the other holds the rest.
    first.extend(claim(one).await?);
    let count = first.len();
    first.sort_unstable();
    first.dedup();
    ensure!(
        (count, first.len()) == (600, 600),
        "{count} claims of {}",
        first.len()
    );
    Ok(())
}

/// More endpoints must wait than were ever named in a statement, and owe more than is looked at
/// from the front.
async fn what_waits_hides_nothing_that_is_due_behind_it(test: Test) -> Result<()> {
    let store = test.open().await?;
    store.beat(0, 50_000).await?;
    let of = |endpoint: u128, number: u128, due_ms| Owed {
        endpoint: EndpointId(Uuid::from_u128(endpoint)),
        ..owed(number, due_ms)
    };
    let mut waiting: Vec<Owed> = (1_000..1_600).map(|id| of(id, 1, 1)).collect();
    waiting.extend((2..300).map(|number| of(1_000, number, 2)));
    let except: Vec<EndpointId> = (1_000..1_600)
        .map(|id| EndpointId(Uuid::from_u128(id)))
        .collect();
    store.record(&each(Happened::Owed, waiting)).await?;
    ensure!(store.claim_owed_except(50, 20, except.clone()).await? == []);
    // Of two, one of which owes much.
    let mut due: Vec<Owed> = (0..40).map(|number| of(2_000, number, 10)).collect();
    due.push(of(500, 7, 11));
    due.push(of(600, 8, 99));
    store.record(&each(Happened::Owed, due)).await?;
    for expected in [20, 20, 1, 0] {
        let claimed = store.claim_owed_except(50, 20, except.clone()).await?;
        ensure!(claimed.len() == expected, "{} of {expected}", claimed.len());
        ensure!(claimed.iter().all(|owed| (10..12).contains(&owed.due_ms)));
    }
    Ok(())
}

async fn a_range_grows_shrinks_and_ends(test: Test) -> Result<()> {
    let store = test.open().await?;
    store.beat(0, 1_000).await?;
    let id = RangeId {
        endpoint: ENDPOINT,
        topic: Arc::from("hooks.outbox"),
        partition: 3,
        start: 10,
    };
    let range = |from, to| OwedRange {
        id: id.clone(),
        from,
        to,
    };
    for to in [12, 20] {
        store.record(&[Happened::Grown(id.clone(), to)]).await?;
    }
    ensure!(
        store.claim_ranges(150, 10).await?.is_empty(),
        "it is claimed by who makes it"
    );
    let other = test.open().await?;
    store.beat(0, -1).await?;
    ensure!(other.claim_ranges(1_001, 10).await? == [range(10, 20)]);
    store.record(&[Happened::Progress(id.clone(), 15)]).await?;
    other.beat(1_001, 50_000).await?;
    ensure!(store.claim_ranges(1_500, 10).await? == []);
    other.leave().await?;
    ensure!(store.claim_ranges(1_500, 10).await? == [range(15, 20)]);
    // What was done is not all that is owed by now.
    let end = |to| [Happened::Ended(id.clone(), to)];
    store.record(&end(19)).await?;
    ensure!(other.claim_ranges(5_000, 10).await? == [range(15, 20)]);
    store.record(&end(20)).await?;
    ensure!(store.claim_ranges(6_000, 10).await? == []);
    Ok(())
}

async fn who_was_taken_for_dead_takes_nothing_back(test: Test) -> Result<()> {
    let (one, two) = (test.open().await?, test.open().await?);
    let id = RangeId {
        endpoint: ENDPOINT,
        topic: Arc::from("t"),
        partition: 0,
        start: 5,
    };
    one.beat(0, -1).await?;
    let begun = [
        Happened::UnderWay(owed(1, 1)),
        Happened::UnderWay(owed(2, 1)),
        Happened::Grown(id.clone(), 9),
        Happened::Progress(id.clone(), 6),
    ];
    one.record(&begun).await?;
    two.beat(20, 50_000).await?;
    ensure!(two.claim_owed(20, 10).await?.len() == 2);
    ensure!(two.claim_ranges(20, 10).await?.len() == 1);
    two.record(&[Happened::Progress(id.clone(), 8)]).await?;
    let late = [
        Happened::FailedAgain(owed(1, 21)),
        Happened::GivenBack(owed(2, 21)),
        Happened::Progress(id.clone(), 7),
        Happened::Released(id.clone()),
    ];
    one.record(&late).await?;
    one.beat(20, 50_000).await?;
    let three = match test.kind {
        // Whoever opens a file is alone with it.
        Kind::Sqlite => one,
        Kind::Postgres(_) => test.open().await?,
    };
    if matches!(test.kind, Kind::Postgres(_)) {
        ensure!(three.claim_owed(50, 10).await? == []);
        ensure!(three.claim_ranges(50, 10).await? == []);
    }
    two.leave().await?;
    let range = OwedRange { id, from: 8, to: 9 };
    ensure!(three.claim_ranges(50, 10).await? == [range]);
    Ok(())
}

async fn a_range_that_cannot_be_read_is_left_to_others(test: Test) -> Result<()> {
    let (one, two) = (test.open().await?, test.open().await?);
    let id = RangeId {
        endpoint: ENDPOINT,
        topic: Arc::from("t"),
        partition: 0,
        start: 5,
    };
    one.record(&[Happened::Grown(id.clone(), 9)]).await?;
    one.beat(0, 100).await?;
    one.record(&[Happened::Released(id.clone())]).await?;
    let range = OwedRange { id, from: 5, to: 9 };
    ensure!(two.claim_ranges(1, 10).await? == [range]);
    Ok(())
}

async fn ranges_of_one_log_are_nothing_to_who_reads_another(test: Test) -> Result<()> {
    let options = test.options()?;
    let open = async |log: &str| {
        let log = log.to_owned();
        Store::open(&StoreOptions {
            log,
            ..options.clone()
        })
        .await
    };
    let (here, there) = (open("here").await?, open("there").await?);
    let id = RangeId {
        endpoint: ENDPOINT,
        topic: Arc::from("t"),
        partition: 0,
        start: 5,
    };
    let grown = |to| [Happened::Grown(id.clone(), to)];
    here.record(&grown(9)).await?;
    there.record(&grown(7)).await?;
    here.leave().await?;
    there.leave().await?;
    there.record(&[Happened::Ended(id.clone(), 9)]).await?;
    let range = OwedRange {
        id: id.clone(),
        from: 5,
        to: 9,
    };
    ensure!(open("there").await?.claim_ranges(10, 10).await? == []);
    ensure!(open("here").await?.claim_ranges(10, 10).await? == [range]);
    Ok(())
}

async fn everything_is_noted_or_nothing(test: Test) -> Result<()> {
    let store = test.open().await?;
    // As a database does that has lost a table half-way.
    test.execute("DROP TABLE dead_letter")?;
    let both = [Happened::Owed(owed(1, 0)), Happened::Dead(letter(b"x"))];
    let error = store
        .record(&both)
        .await
        .expect_err("half of it cannot be noted");
    ensure!(error.to_string().starts_with("cannot record"), "{error}");
    ensure!(store.claim_owed(1, 10).await? == []);
    Ok(())
}

fn letter(body: &'static [u8]) -> DeadLetter {
    DeadLetter {
        note: String::new(),
        together: None,
        record: None,
        endpoint: None,
        notification: notification(1),
        content: Bytes::from_static(body),
        reason: "not a notification".to_owned(),
        time_ms: 5,
        attempts: 0,
    }
}

async fn dead_letters_of_any_bytes_come_back_as_they_were(test: Test) -> Result<()> {
    let store = test.open().await?;
    let all: [&'static [u8]; 4] = [b"{}", b"\xff\0\x01", "ä\0".as_bytes(), b""];
    let mut letters: Vec<DeadLetter> = all.into_iter().map(letter).collect();
    letters.push(DeadLetter {
        record: None,
        endpoint: Some(ENDPOINT),
        attempts: 8,
        ..letter(b"[]")
    });
    let dead = each(Happened::Dead, letters.clone());
    store.record(&dead).await?;
    let page = store.dead_letters(None, 2).await?;
    let rest = store.dead_letters(page.older_before, 10).await?.letters;
    let mut found: Vec<DeadLetter> = page
        .letters
        .into_iter()
        .chain(rest)
        .map(|kept| kept.letter)
        .collect();
    found.reverse();
    ensure!(found == letters, "{found:?}");
    Ok(())
}

fn attempt(endpoint: EndpointId, time_ms: i64, is_delivered: bool) -> AttemptRow {
    AttemptRow {
        endpoint,
        notification: notification(1),
        time_ms,
        number: 1,
        is_delivered,
        status: is_delivered.then_some(204),
        latency_us: 900,
        said: format!("said at {}", time_ms / 10),
    }
}

async fn attempts_are_kept_by_endpoint_and_show_how_it_is(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let created = create(&store, &account, "one", None).await?;
    let id = created.endpoint.id;
    let other = EndpointId(Uuid::from_u128(99));
    let note = async |rows: Vec<AttemptRow>| store.record(&each(Happened::Attempt, rows)).await;
    note(vec![
        attempt(id, 20, false),
        attempt(other, 15, true),
        attempt(id, 10, true),
    ])
    .await?;
    let shown = || async {
        let endpoint = store.endpoint(account.id, created.endpoint.id).await?;
        let endpoint = endpoint.context("it is gone")?;
        anyhow::Ok((
            endpoint
                .last_delivery_status
                .map(dovecast_store::DeliveryStatus::as_str),
            endpoint.last_delivery_ms,
            endpoint.first_failure_ms,
        ))
    };
    ensure!(
        shown().await? == (Some("failure"), Some(20), Some(20)),
        "{:?}",
        shown().await?
    );
    note(vec![attempt(id, 30, false), attempt(id, 40, false)]).await?;
    ensure!(
        shown().await? == (Some("failure"), Some(40), Some(20)),
        "{:?}",
        shown().await?
    );
    note(vec![attempt(id, 35, true)]).await?;
    ensure!(
        shown().await? == (Some("failure"), Some(40), Some(40)),
        "every attempt since 20 has failed, it says"
    );
    note(vec![attempt(id, 50, true)]).await?;
    ensure!(
        shown().await? == (Some("success"), Some(50), None),
        "{:?}",
        shown().await?
    );
    let kept = store.attempts(id, 4).await?;
    let times: Vec<i64> = kept.iter().map(|attempt| attempt.time_ms).collect();
    ensure!(times == [50, 40, 30, 35], "{times:?}");
    ensure!(
        (kept[0].status, kept[1].said.as_str()) == (Some(204), "said at 4"),
        "{kept:?}"
    );
    ensure!(store.attempts(other, 10).await?.len() == 1);
    Ok(())
}

async fn the_past_is_forgotten_by_age_and_by_number(test: Test) -> Result<()> {
    let store = test.open().await?;
    let now = 1_700_000_000_000;
    test.clock.pass(now);
    for time_ms in [1, now - 3, now - 2, now - 1] {
        let note = [
            Happened::Attempt(attempt(ENDPOINT, time_ms, true)),
            Happened::Dead(DeadLetter {
                time_ms,
                ..letter(b"{}")
            }),
        ];
        store.record(&note).await?;
    }
    let kept = KeptPast {
        attempts_ms: 1_000_000,
        attempt_rows: 2,
        dead_letters_ms: 1_000_000,
        dead_letters: 1,
    };
    let dropped = store.forget_past(kept).await?;
    ensure!(
        (dropped.attempt_rows, dropped.dead_letters) == (2, 3),
        "{dropped:?}"
    );
    ensure!(store.attempts(ENDPOINT, 10).await?.len() == 2);
    let left = store.dead_letters(None, 10).await?.letters;
    ensure!(
        left.len() == 1 && left[0].letter.time_ms == now - 1,
        "{left:?}"
    );
    Ok(())
}

fn dead(endpoint: EndpointId, number: u128, time_ms: i64) -> DeadLetter {
    DeadLetter {
        endpoint: Some(endpoint),
        notification: notification(number),
        content: owed(number, 0).content,
        reason: "refused".to_owned(),
        time_ms,
        attempts: 8,
        ..letter(b"")
    }
}

/// What is due at the end of time: notification, body, failures.
async fn due(store: &Store) -> Result<Vec<(NotificationId, Bytes, u32)>> {
    store.beat(0, i64::MAX).await?;
    let mut due = store.claim_owed(i64::MAX - 1, 10_000).await?;
    due.sort_by_key(|owed| owed.notification);
    let due = due.into_iter();
    Ok(due
        .map(|owed| (owed.notification, owed.content, owed.failures))
        .collect())
}

async fn a_dead_letter_is_owed_again_due_now_and_dead_no_more(test: Test) -> Result<()> {
    let store = test.open().await?;
    let other = EndpointId(Uuid::from_u128(8));
    // It may be one twice: in the log, and read again after a crash.
    let letters = vec![
        dead(ENDPOINT, 1, 5),
        dead(ENDPOINT, 1, 6),
        dead(ENDPOINT, 2, 7),
        dead(other, 1, 8),
    ];
    store.record(&each(Happened::Dead, letters)).await?;
    ensure!(store.redeliver(ENDPOINT, notification(1)).await? == 1);
    let left = store.dead_letters(None, 10).await?.letters;
    let left: Vec<_> = left
        .iter()
        .map(|kept| (kept.letter.endpoint, kept.letter.notification))
        .collect();
    ensure!(
        left == [
            (Some(other), notification(1)),
            (Some(ENDPOINT), notification(2))
        ]
    );
    // It is owed, and may be said again.
    ensure!(store.redeliver(ENDPOINT, notification(1)).await? == 1);
    ensure!(store.redeliver(ENDPOINT, notification(3)).await? == 0);
    let found = due(&store).await?;
    ensure!(
        found == [(notification(1), owed(1, 0).content, 0)],
        "{found:?}"
    );
    Ok(())
}

async fn dead_letters_since_a_time_are_owed_again_however_many(test: Test) -> Result<()> {
    let store = test.open().await?;
    let many = (1..=1_234).map(|number| dead(ENDPOINT, number, i64::try_from(number).unwrap_or(0)));
    let other = dead(EndpointId(Uuid::from_u128(8)), 1_000, 1_000);
    let record = DeadLetter {
        endpoint: None,
        ..dead(ENDPOINT, 1_000, 1_000)
    };
    let letters = many.chain([other, record]);
    store.record(&each(Happened::Dead, letters)).await?;
    ensure!(store.redeliver_since(ENDPOINT, 101).await? == 1_134);
    ensure!(store.redeliver_since(ENDPOINT, 101).await? == 0);
    ensure!(store.dead_letters(None, 10_000).await?.letters.len() == 102);
    let found = due(&store).await?;
    ensure!(found.len() == 1_134 && found[0] == (notification(101), owed(101, 0).content, 0));
    Ok(())
}

async fn what_is_owed_for_later_is_due_now_when_it_is_redelivered(test: Test) -> Result<()> {
    let store = test.open().await?;
    let far = i64::MAX - 1;
    let all = vec![owed(1, far), owed(2, far), owed(3, far)];
    store.record(&each(Happened::Owed, all)).await?;
    ensure!(store.redeliver(ENDPOINT, notification(1)).await? == 1);
    for number in [2, 4] {
        store
            .owe_now(ENDPOINT, &setup::notification(number))
            .await?;
    }
    store.beat(0, i64::MAX).await?;
    let mut found = store.claim_owed(far - 1, 10).await?;
    found.sort_by_key(|owed| owed.notification);
    let found: Vec<_> = found
        .iter()
        .map(|owed| (owed.notification, owed.failures))
        .collect();
    // As if for the first time.
    ensure!(
        found
            == [
                (notification(1), 0),
                (notification(2), 0),
                (notification(4), 0)
            ],
        "{found:?}"
    );
    Ok(())
}

/// Whoever has no answer does not know whether it was noted.
async fn what_is_noted_again_is_noted_once(test: Test) -> Result<()> {
    let store = test.open().await?;
    let letters: Vec<DeadLetter> = (0..40)
        .map(|number| DeadLetter {
            endpoint: Some(ENDPOINT).filter(|_| number % 2 == 0),
            notification: notification(number),
            time_ms: 1_795_000_000_000,
            attempts: 3,
            ..letter(b"{}")
        })
        .collect();
    let attempts = (0..2_500).map(|number| AttemptRow {
        endpoint: ENDPOINT,
        notification: notification(number),
        time_ms: 1_795_000_000_000,
        number: 1,
        is_delivered: true,
        status: Some(200),
        latency_us: 5,
        said: String::new(),
    });
    let mut what = each(Happened::Dead, letters.clone());
    what.extend(attempts.map(Happened::Attempt));
    for _ in 0..3 {
        store.record(&what).await?;
    }
    let kept = store.dead_letters(None, 1_000).await?.letters;
    let kept: Vec<DeadLetter> = kept.into_iter().rev().map(|kept| kept.letter).collect();
    ensure!(kept == letters, "{} of {}", kept.len(), letters.len());
    let kept = store.attempts(ENDPOINT, 10_000).await?;
    ensure!(kept.len() == 2_500, "{}", kept.len());
    Ok(())
}
