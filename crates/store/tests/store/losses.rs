//! A database that has lost what it had acknowledged, as a PostgreSQL after a failover to a standby
//! that lagged behind: what a dispatcher works on is there again.

use anyhow::{Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::ledger::{Happened, Ledger, Owed, OwedRange, RangeId};
use dovecast_notification::{EndpointId, NotificationId};
use dovecast_store::Store;
use uuid::Uuid;

use crate::cuts::until;
use crate::setup::{Kind, SLEEPING, Test, cases, each, grown, soon};

cases![
    a_delivery_whose_row_is_lost_is_owed_when_it_fails_or_is_given_back,
    a_range_whose_row_is_lost_is_there_again_when_it_moves_on_or_is_released,
    ranges_that_wait_are_written_again_when_the_database_has_gone_back,
    ranges_that_wait_are_written_again_when_the_row_of_the_dispatcher_is_an_older_one,
    ranges_that_wait_are_written_again_on_a_new_timeline_of_the_database,
    ranges_that_others_have_finished_do_not_come_back_from_who_was_taken_for_dead,
    ranges_that_are_released_while_they_are_written_again_are_free,
    a_loss_is_not_forgotten_when_the_answer_to_a_beat_does_not_come,
];

const ENDPOINT: EndpointId = EndpointId(Uuid::from_u128(7));

fn owed(number: u128) -> Owed {
    Owed {
        note: String::new(),
        endpoint: ENDPOINT,
        notification: NotificationId(Uuid::from_u128(number)),
        content: Bytes::from(format!("{{\"n\":{number}}}")),
        failures: 2,
        due_ms: 0,
        reason: "the endpoint answers 503".to_owned(),
        place: None,
    }
}

fn range(number: u64) -> RangeId {
    RangeId {
        endpoint: ENDPOINT,
        topic: "hooks.outbox".into(),
        partition: 3,
        start: number,
    }
}

async fn a_delivery_whose_row_is_lost_is_owed_when_it_fails_or_is_given_back(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let both = vec![owed(1), owed(2)];
    store
        .record(&each(Happened::UnderWay, both.clone()))
        .await?;
    test.execute("DELETE FROM owed")?;
    let ended = [Happened::FailedAgain(owed(1)), Happened::GivenBack(owed(2))];
    store.record(&ended).await?;
    let mut claimed = test.open().await?.claim_owed(0, 10).await?;
    claimed.sort_by_key(|owed| owed.notification);
    ensure!(claimed == both, "{claimed:?}");
    Ok(())
}

/// Claims as somebody who begins when the others are gone.
async fn left(test: &Test, store: &Store) -> Result<Vec<OwedRange>> {
    store.leave().await?;
    let mut ranges = test.open().await?.claim_ranges(0, 10).await?;
    ranges.sort_by_key(|range| range.id.clone());
    Ok(ranges)
}

async fn a_range_whose_row_is_lost_is_there_again_when_it_moves_on_or_is_released(
    test: Test,
) -> Result<()> {
    let before = test.open().await?;
    before.record(&[Happened::Grown(range(1), 9)]).await?;
    before.leave().await?;
    let store = test.open().await?;
    // One was begun by another process, the others by this one.
    ensure!(store.claim_ranges(0, 10).await?.len() == 1);
    let begun = [(range(20), 30), (range(40), 50), (range(60), 70)];
    store.record(&grown(begun)).await?;
    test.execute("DELETE FROM owed_range")?;
    let moved = [
        Happened::Progress(range(1), 5),
        Happened::Progress(range(20), 22),
        Happened::Released(range(40)),
        Happened::Ended(range(60), 70),
    ];
    store.record(&moved).await?;
    let extents: Vec<_> = left(&test, &store)
        .await?
        .into_iter()
        .map(|range| (range.id.start, range.from, range.to))
        .collect();
    ensure!(
        extents == [(1, 5, 9), (20, 22, 30), (40, 40, 50)],
        "{extents:?}"
    );
    // What has ended does not come back by what is told of it late.
    store.record(&[Happened::Progress(range(60), 65)]).await?;
    let ranges = left(&test, &store).await?;
    ensure!(ranges.iter().all(|kept| kept.id != range(60)), "{ranges:?}");
    Ok(())
}

/// A dispatcher that has beaten once and works on two ranges, one of which has moved on.
async fn with_two_ranges(store: &Store) -> Result<()> {
    store.beat(0, 50_000).await?;
    let begun = [(range(1), 9), (range(20), 30)];
    store.record(&grown(begun)).await?;
    let moved = Happened::Progress(range(20), 25);
    store.record(&[moved]).await?;
    Ok(())
}

/// Waits until the ranges of [`with_two_ranges`] are stored again, as far as each was delivered.
async fn two_ranges_are_there_again(test: &Test, store: &Store) -> Result<()> {
    let are_there = || {
        let rows = test.dump("owed_range")?;
        Ok((rows.lines().count() == 2).then_some(()))
    };
    soon(until(are_there)).await??;
    let extents: Vec<_> = left(test, store)
        .await?
        .into_iter()
        .map(|range| (range.from, range.to))
        .collect();
    ensure!(extents == [(1, 9), (25, 30)], "{extents:?}");
    Ok(())
}

async fn ranges_that_wait_are_written_again_when_the_database_has_gone_back(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    with_two_ranges(&store).await?;
    store.beat(1, 50_001).await?;
    // Everything since the first beat is lost, and that one as well.
    test.execute("DELETE FROM owed_range; DELETE FROM dispatcher")?;
    store.beat(2, 50_002).await?;
    two_ranges_are_there_again(&test, &store).await
}

async fn ranges_that_wait_are_written_again_when_the_row_of_the_dispatcher_is_an_older_one(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    with_two_ranges(&store).await?;
    store.beat(1, 50_001).await?;
    // The first beat is there, and nothing that was acknowledged after it.
    test.execute(
        "DELETE FROM owed_range; UPDATE dispatcher SET alive_until_ms = alive_until_ms - 1",
    )?;
    store.beat(2, 50_002).await?;
    two_ranges_are_there_again(&test, &store).await
}

/// What a failover leaves where every beat has reached the standby, and other commits have not.
async fn ranges_that_wait_are_written_again_on_a_new_timeline_of_the_database(
    test: Test,
) -> Result<()> {
    let Kind::Postgres(_) = &test.kind else {
        // A file has no timelines.
        return Ok(());
    };
    // Functions of `public` are found before those of PostgreSQL, by sessions from now on.
    test.execute("CREATE TABLE wal_name (name TEXT NOT NULL)")?;
    test.execute("INSERT INTO wal_name (name) VALUES ('000000010000000000000001')")?;
    test.execute(
        "CREATE FUNCTION public.pg_walfile_name(pg_lsn) RETURNS text LANGUAGE sql \
         AS 'SELECT name FROM public.wal_name'",
    )?;
    test.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', \
         current_database()); END $$",
    )?;
    let store = test.open().await?;
    with_two_ranges(&store).await?;
    store.beat(1, 50_001).await?;
    test.execute("DELETE FROM owed_range")?;
    // Another file of the same timeline says nothing.
    test.execute("UPDATE wal_name SET name = '000000010000000000000002'")?;
    store.beat(2, 50_002).await?;
    test.execute("UPDATE wal_name SET name = '000000020000000000000002'")?;
    ensure!(test.dump("owed_range")?.is_empty(), "nothing was lost yet");
    store.beat(3, 50_003).await?;
    two_ranges_are_there_again(&test, &store).await
}

async fn ranges_that_others_have_finished_do_not_come_back_from_who_was_taken_for_dead(
    test: Test,
) -> Result<()> {
    let (one, two) = (test.open().await?, test.open().await?);
    one.beat(0, -1).await?;
    let begun = [(range(1), 9), (range(20), 30)];
    one.record(&grown(begun)).await?;
    ensure!(two.claim_ranges(20, 10).await?.len() == 2);
    let ended = [Happened::Ended(range(1), 9), Happened::Ended(range(20), 30)];
    two.record(&ended).await?;
    one.beat(20, 50_000).await?;
    let late = [
        Happened::Progress(range(20), 22),
        Happened::Released(range(1)),
        Happened::Released(range(20)),
    ];
    one.record(&late).await?;
    let rows = test.dump("owed_range")?;
    ensure!(rows.is_empty(), "{rows}");
    Ok(())
}

/// More than are written again in one transaction.
const MANY: u64 = 1_100;

async fn ranges_that_are_released_while_they_are_written_again_are_free(test: Test) -> Result<()> {
    let store = test.open().await?;
    store.beat(0, 50_000).await?;
    let begun = (1..=MANY).map(|number| (range(number), number + 1));
    store.record(&grown(begun)).await?;
    test.execute("DELETE FROM owed_range; DELETE FROM dispatcher")?;
    store.beat(1, 50_001).await?;
    let released = (1..MANY).map(range);
    store.record(&each(Happened::Released, released)).await?;
    // The last one is written with the last part.
    let is_held = || {
        let last = test.count(&format!("owed_range WHERE start_offset = {MANY}"))?;
        Ok((last == 1).then_some(()))
    };
    soon(until(is_held)).await??;
    let claimed = test.count("owed_range WHERE claimed_by IS NOT NULL")?;
    ensure!(claimed == 1, "{claimed} are claimed and one is held");
    Ok(())
}

async fn a_loss_is_not_forgotten_when_the_answer_to_a_beat_does_not_come(test: Test) -> Result<()> {
    let (Kind::Postgres(_), store) = (&test.kind, test.open().await?) else {
        // A file answers.
        return Ok(());
    };
    store.beat(0, 50_000).await?;
    store.record(&[Happened::Grown(range(1), 9)]).await?;
    test.execute("DELETE FROM owed_range; DELETE FROM dispatcher")?;
    test.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(4); RETURN NEW; END $$; \
         CREATE CONSTRAINT TRIGGER slow AFTER INSERT OR UPDATE ON dispatcher DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION slow()",
    )?;
    // Nobody waits for it any more when its commit is under way.
    let is_under_way = || Ok((test.count(SLEEPING)? > 0).then_some(()));
    tokio::select! {
        beat = store.beat(1, 50_001) => anyhow::bail!("it was answered: {beat:?}"),
        under_way = soon(until(is_under_way)) => under_way??,
    }
    // Waits until it is done.
    test.execute("DROP TRIGGER slow ON dispatcher")?;
    ensure!(test.dump("dispatcher")?.lines().count() == 1);
    store.beat(2, 50_002).await?;
    let is_there = || Ok((!test.dump("owed_range")?.is_empty()).then_some(()));
    soon(until(is_there)).await?
}
