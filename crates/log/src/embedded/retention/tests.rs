//! Clocks that are wrong for a while, against logs whose clock was right.

use std::sync::Arc;

use rusqlite::params;
use tokio::sync::watch;

use super::super::store::{Store, key};
use super::super::{EmbeddedOptions, load};
use super::*;
use crate::now_ms;

mod stepped;

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const YEAR: i64 = 365 * 24 * HOUR;
/// Bytes of a batch.
const BYTES: u64 = 10;
/// How much of what is appended goes to each partition, of ten.
const SHARES: [u8; 10] = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3];

/// A log of so many batches, one a second until now, as a clock that was wrong has stamped them.
struct Case {
    batches: i64,
    /// From this batch to before that one the clock was wrong by so much.
    wrong: &'static [(i64, i64, i64)],
    /// Partitions get nothing from here on.
    idle: &'static [(u64, i64)],
}

/// A store in a directory, which keeps so many bytes, and milliseconds.
fn shared(dir: &std::path::Path, keep: (Option<u64>, Option<u64>)) -> Shared {
    Shared {
        store: Store::in_dir(dir),
        options: Arc::new(EmbeddedOptions {
            retention_bytes: keep.0,
            retention_ms: keep.1,
            ..EmbeddedOptions::default()
        }),
        topics: Arc::default(),
        pool: Arc::default(),
        counters: Arc::default(),
        commits: watch::Sender::new(0),
        damage: Arc::default(),
        gathering: Arc::default(),
    }
}

/// How many batches are left of each partition.
fn left(case: &Case, is_clock_right: bool, keep: (Option<u64>, Option<u64>)) -> [u64; 4] {
    let dir = tempfile::tempdir().expect("a directory");
    let shared = shared(dir.path(), (keep.0.map(|batches| batches * BYTES), keep.1));
    let mut connection = shared.store.open_writer().expect("a store");
    // The retention clock has kept up until now. All of it happens then, however long it takes.
    let now = Now::read();
    let mut retention = Retention::new(now);
    step(&shared, &mut connection, &mut retention, now).expect("room");
    fill(case, is_clock_right, &connection, now.time_ms);
    load::load(&shared, &connection).expect("a log");
    while step(&shared, &mut connection, &mut retention, now)
        .expect("room")
        .is_more_due
    {}
    [0, 1, 2, 3].map(|partition| batches(&connection, partition))
}

fn batches(connection: &Connection, partition: u64) -> u64 {
    connection
        .query_row(
            "SELECT count(*) FROM batch WHERE key >= ?1 AND key < ?2",
            params![key(partition, 0), key(partition + 1, 0)],
            |row| row.get::<_, i64>(0),
        )
        .expect("a number")
        .cast_unsigned()
}

fn fill(case: &Case, is_clock_right: bool, connection: &Connection, now_ms: i64) {
    connection
        .execute_batch("BEGIN; INSERT INTO topic (id, name) VALUES (1, 'dovecot');")
        .expect("a topic");
    for id in 0..4 {
        connection
            .execute(
                "INSERT INTO partition (id, topic, number) VALUES (?1, 1, ?1)",
                [id],
            )
            .expect("a partition");
    }
    let mut offsets = [0_u64; 4];
    for i in 0..case.batches {
        // Scattered, so that partitions have batches in common seconds and none.
        let partition = u64::from(SHARES[usize::try_from(i * 7 % 10).expect("small")]);
        if case
            .idle
            .iter()
            .any(|(idle, from)| *idle == partition && i >= *from)
        {
            continue;
        }
        let mut time_ms = now_ms - (case.batches - i) * SECOND;
        for (from, to, by_ms) in case.wrong {
            if !is_clock_right && (*from..*to).contains(&i) {
                time_ms += by_ms;
            }
        }
        let offset = &mut offsets[usize::try_from(partition).expect("small")];
        let pos = (*offset * BYTES).cast_signed();
        let bytes = vec![0_u8; usize::try_from(BYTES).expect("small")];
        connection
            .execute(
                "INSERT INTO batch (key, count, time_ms, pos, bytes) VALUES (?1, 1, ?2, ?3, ?4)",
                params![key(partition, *offset), time_ms, pos, bytes],
            )
            .expect("room");
        *offset += 1;
    }
    connection.execute_batch("COMMIT").expect("room");
}

#[test]
fn a_clock_that_was_wrong_does_not_decide_which_partition_is_emptied() {
    let wrong: [&[(i64, i64, i64)]; 7] = [
        &[],
        &[(0, 1000, YEAR)],
        &[(1000, 2000, YEAR)],
        &[(1000, 2000, HOUR)],
        &[(500, 900, HOUR), (1500, 2500, YEAR)],
        &[(2000, 3000, YEAR)],
        &[(0, 3000, YEAR)],
    ];
    let case = |wrong| Case {
        batches: 3000,
        wrong,
        idle: &[],
    };
    for keep in [2900, 1982, 1000, 10] {
        // With a clock that was right it does not matter when it was wrong.
        let expected = left(&case(&[]), true, (Some(keep), None));
        assert_eq!(expected.iter().sum::<u64>(), keep);
        for wrong in wrong {
            let left = left(&case(wrong), false, (Some(keep), None));
            assert_eq!(left, expected, "{wrong:?}, {keep} are kept");
        }
    }
}

#[test]
fn what_is_removed_and_needed_besides_what_groups_read_is_counted() {
    let case = Case {
        batches: 100,
        wrong: &[],
        idle: &[],
    };
    // Half of the batches go; partition 0 has forty, of which it loses the first.
    for (needed, expected) in [(None, false), (Some(0..1), true), (Some(39..40), false)] {
        let dir = tempfile::tempdir().expect("a directory");
        let shared = shared(dir.path(), (Some(50 * BYTES), None));
        let mut connection = shared.store.open_writer().expect("a store");
        let now = Now::read();
        let mut retention = Retention::new(now);
        fill(&case, true, &connection, now.time_ms);
        load::load(&shared, &connection).expect("a log");
        let place = crate::TopicPartition {
            topic: "dovecot".into(),
            partition: 0,
        };
        let needed = needed.map(|offsets| (place, offsets));
        shared.topics.needed.set("endpoints", needed.clone());
        step(&shared, &mut connection, &mut retention, now).expect("room");
        let removed = shared.counters.removed_unread.load(Ordering::Relaxed);
        assert_eq!(removed > 0, expected, "{needed:?}: {removed}");
    }
}

#[test]
fn a_clock_that_was_behind_empties_no_partition() {
    let case = Case {
        batches: 3000,
        wrong: &[(1000, 2000, -YEAR)],
        idle: &[],
    };
    for keep in [2900, 1982, 1000] {
        let expected = left(&case, true, (Some(keep), None));
        let left = left(&case, false, (Some(keep), None));
        // Not to the batch: what is removed goes by the partition that came first to where the
        // clock was behind.
        let is_near = left
            .iter()
            .zip(expected)
            .all(|(left, expected)| left.abs_diff(expected) <= expected / 10);
        assert!(is_near, "{left:?} instead of {expected:?}");
    }
}

#[test]
fn a_partition_that_got_nothing_since_the_clock_was_ahead_is_emptied_with_the_others() {
    let case = Case {
        batches: 3000,
        wrong: &[(500, 1500, YEAR)],
        idle: &[(3, 1500)],
    };
    for keep in [2000, 1500, 1000] {
        let expected = left(&case, true, (Some(keep), None));
        assert_eq!(
            left(&case, false, (Some(keep), None)),
            expected,
            "{keep} are kept"
        );
    }
}

#[test]
fn age_is_not_what_a_wrong_clock_said() {
    const KEPT_MS: u64 = 1_000_500;
    let expected = [400, 200, 200, 200];
    for (wrong, what) in [
        (&[][..], "right"),
        (&[(0, 2500, YEAR)], "ahead until lately"),
        (&[(0, 500, YEAR)], "ahead at first"),
    ] {
        let case = Case {
            batches: 3000,
            wrong,
            idle: &[],
        };
        let left = left(&case, false, (None, Some(KEPT_MS)));
        let is_kept = left
            .iter()
            .zip(expected)
            .all(|(left, expected)| *left >= expected);
        assert!(is_kept, "{what}: {left:?}");
        if wrong.first().is_none_or(|(_, to, _)| *to < 2000) {
            assert_eq!(left, expected, "{what}");
        }
    }
    // What is younger than the step back of the clock is not older than it was before.
    let case = Case {
        batches: 3000,
        wrong: &[(2400, 2900, -YEAR)],
        idle: &[],
    };
    assert_eq!(left(&case, false, (None, Some(KEPT_MS))), expected);
}

#[test]
fn who_fills_the_log_loses_its_own_records_first() {
    // Partition 0 gets four tenths of all until the others stop, and then everything.
    let case = Case {
        batches: 6000,
        wrong: &[],
        idle: &[(1, 500), (2, 500), (3, 500)],
    };
    for keep in [2000, 1500, 800] {
        let left = left(&case, true, (Some(keep), None));
        // A hundred each, which is less than their share, and the oldest there is.
        assert_eq!(left[1..], [100, 100, 100], "{keep} are kept");
        assert_eq!(left[0], keep - 300);
    }
    let left = left(&case, true, (Some(200), None));
    assert!(left.iter().all(|left| *left == 50), "{left:?}");
}
