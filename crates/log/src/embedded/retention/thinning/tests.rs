//! Two keys in one partition, one of which fills it: whose records are left, and what readers,
//! restarts and failed writes see of that.

use bytes::Bytes;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::sync::watch;

use super::super::pass::Pass;
use super::super::{Now, Retention, step};
use super::*;
use crate::embedded::additions::Additions;
use crate::embedded::store::Store;
use crate::embedded::{Embedded, EmbeddedOptions, load};
use crate::{Log, LogError, NewRecord, Reader, StartAt};

const TOPIC: &str = "hooks.outbox";
const VICTIM: &str = "victim";
const GREEDY: &str = "greedy";
/// What the log keeps: some 150 records. Each is a sample.
const LIMIT: u64 = 20_000;

/// A log of one partition, and its retention.
struct World {
    dir: TempDir,
    shared: Shared,
    connection: Connection,
    retention: Retention,
    now: Now,
}

fn record(key: &str) -> NewRecord {
    NewRecord {
        topic: Arc::from(TOPIC),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: Bytes::from("x".repeat(100)),
        headers: Vec::new(),
        timestamp_ms: 0,
        id: None,
    }
}

impl World {
    fn new(limit: u64, group: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let shared = Shared {
            store: Store::in_dir(dir.path()),
            options: Arc::new(EmbeddedOptions {
                retention_bytes: Some(limit),
                retain_for_group: group.map(str::to_owned),
                ..EmbeddedOptions::default()
            }),
            topics: Arc::default(),
            pool: Arc::default(),
            counters: Arc::default(),
            commits: watch::Sender::new(0),
            damage: Arc::default(),
            gathering: Arc::default(),
        };
        let connection = shared.store.open_writer().expect("a store");
        connection
            .execute_batch(&format!(
                "INSERT INTO topic (id, name) VALUES (1, '{TOPIC}');
                INSERT INTO partition (id, topic, number) VALUES (0, 1, 0);"
            ))
            .expect("a topic");
        load::load(&shared, &connection).expect("a log");
        let now = Now::read();
        Self {
            dir,
            shared,
            connection,
            retention: Retention::new(now),
            now,
        }
    }

    fn topic(&self) -> Arc<Topic> {
        self.shared.topics.get(TOPIC).expect("it is made")
    }

    /// One commit of records with these keys.
    fn append(&mut self, keys: &[&str]) {
        let topic = self.topic();
        let mut additions = Additions::new(self.shared.options.retention_bytes);
        let transaction = self.connection.transaction().expect("it begins");
        for key in keys {
            let done = additions.push(&transaction, &topic, 0, &record(key));
            done.expect("room");
        }
        additions.write_open(&transaction).expect("room");
        transaction.commit().expect("room");
        for added in additions.partitions.into_values() {
            topic.partitions[0].set_end_pos(added.next_pos);
            topic.partitions[0].set_end(added.next_offset);
        }
    }

    /// Appends so many commits of ten records each.
    fn flood(&mut self, key: &str, commits: usize) {
        for _ in 0..commits {
            self.append(&[key; 10]);
            self.retain();
        }
    }

    /// The victim's records, twenty, each with ten of the other one behind it.
    fn fill(&mut self) {
        for _ in 0..20 {
            self.append(&[VICTIM]);
            self.append(&[GREEDY; 10]);
        }
    }

    fn retain(&mut self) {
        let retention = &mut self.retention;
        while step(&self.shared, &mut self.connection, retention, self.now)
            .expect("room")
            .is_more_due
        {}
    }

    fn commit_group(&self, group: &str, offset: u64) {
        self.connection
            .execute(
                "INSERT INTO committed (consumer_group, partition_id, offset) VALUES (?1, 0, ?2)",
                params![group, offset.cast_signed()],
            )
            .expect("room");
    }

    /// Offsets and keys of what is left, and how many batches are without records. Offsets have no
    /// gap, and bytes are counted as they are.
    fn left(&self) -> (Vec<(u64, String)>, usize) {
        let topic = self.topic();
        let partition = &topic.partitions[0];
        let (mut left, mut empty) = (Vec::new(), 0);
        let (mut next, mut stored) = (partition.begin(), 0);
        for (base, count, bytes) in rows(&self.connection) {
            assert_eq!(base, next, "a gap");
            next = base + count;
            stored += bytes.len() as u64;
            let records = batch::records(&bytes, &topic.name, (0, base), base);
            let Some(records) = records.expect("intact") else {
                empty += 1;
                continue;
            };
            assert_eq!(records.len() as u64, count);
            left.extend(records.into_iter().map(|record| {
                assert_eq!(record.value.len(), 100);
                let key = record.key.expect("a key").to_vec();
                (record.offset, String::from_utf8(key).expect("text"))
            }));
        }
        assert_eq!(next, partition.end());
        assert_eq!(stored, partition.bytes(), "bytes are not what is stored");
        (left, empty)
    }

    fn offsets_of(&self, key: &str) -> Vec<u64> {
        let (left, _) = self.left();
        let of_key = left.into_iter().filter(|(_, found)| found == key);
        of_key.map(|(offset, _)| offset).collect()
    }
}

fn rows(connection: &Connection) -> Vec<(u64, u64, Vec<u8>)> {
    let mut statement = connection
        .prepare("SELECT key, count, bytes FROM batch ORDER BY key")
        .expect("a table");
    let rows = statement.query_map([], |row| {
        let count = row.get::<_, i64>(1)?.cast_unsigned();
        Ok((unkey(row.get(0)?).1, count, row.get(2)?))
    });
    rows.expect("rows").map(|row| row.expect("a row")).collect()
}

#[test]
fn who_floods_a_partition_loses_its_own_oldest_and_others_lose_nothing() {
    let mut world = World::new(LIMIT, None);
    world.commit_group("readers", 1);
    world.fill();
    let victims = world.offsets_of(VICTIM);
    world.flood(GREEDY, 100);
    assert_eq!(world.offsets_of(VICTIM), victims);
    let topic = world.topic();
    let partition = &topic.partitions[0];
    assert!(partition.bytes() <= LIMIT, "{}", partition.bytes());
    assert!(partition.bytes() > LIMIT / 2, "too much is gone");
    // The newest are left, without a gap.
    let greedy = world.offsets_of(GREEDY);
    let newest = partition.end() - greedy.len() as u64;
    assert_eq!(greedy, (newest..partition.end()).collect::<Vec<_>>());
    let removed = partition.end() - (victims.len() + greedy.len()) as u64;
    let counters = world.shared.counters.snapshot();
    assert_eq!(
        (counters.removed, counters.removed_unread),
        (removed, removed)
    );
    assert_eq!(partition.thinned_records(), removed);
    // One for each of the victim's records, however much has gone.
    assert_eq!(world.left().1, 20);
}

#[test]
fn what_was_flooded_over_goes_when_its_own_key_has_most() {
    let mut world = World::new(LIMIT, None);
    world.fill();
    world.flood(GREEDY, 20);
    world.flood(VICTIM, 100);
    let victims = world.offsets_of(VICTIM);
    assert!(victims.first().is_some_and(|first| *first > 0));
    // Neither has more than its half, or a batch of it.
    for left in [victims.len(), world.offsets_of(GREEDY).len()] {
        assert!((60..120).contains(&left), "{left}");
    }
}

#[test]
fn batches_of_several_keys_keep_what_is_not_the_heaviest_keys() {
    let mut world = World::new(LIMIT, None);
    let mut mixed = vec![VICTIM];
    mixed.extend([GREEDY; 8]);
    let mixed = mixed.repeat(2);
    for _ in 0..5 {
        world.append(&mixed);
    }
    let victims = world.offsets_of(VICTIM);
    world.flood(GREEDY, 100);
    assert_eq!(world.offsets_of(VICTIM), victims);
    assert_eq!((victims.len(), world.left().1), (10, 10));
}

#[test]
fn few_samples_are_enough_to_know_who_floods() {
    let mut world = World::new(4_000_000, None);
    let mut victims = 0;
    for commit in 0..600 {
        world.append(&[GREEDY; 200]);
        if commit % 2 == 0 {
            world.append(&[VICTIM]);
            victims += 1;
        }
        if commit % 10 == 0 {
            world.retain();
        }
    }
    world.retain();
    assert_eq!(world.offsets_of(VICTIM).len(), victims);
    assert!(world.topic().partitions[0].bytes() <= 4_000_000);
}

#[test]
fn a_log_without_samples_loses_the_oldest() {
    let mut world = World::new(LIMIT, None);
    world.fill();
    let sampled = world.connection.execute("DELETE FROM sample", []);
    assert_eq!(sampled, Ok(220));
    world.retain();
    let (left, empty) = world.left();
    assert!(left[0].0 > 0);
    assert_eq!(empty, 0);
    assert!(world.offsets_of(VICTIM).len() < 20);
}

#[test]
fn whole_batches_go_where_none_can_be_written_anew() {
    let mut world = World::new(LIMIT, None);
    world.fill();
    world
        .connection
        .execute_batch(
            "CREATE TRIGGER no_room BEFORE INSERT ON thinned
             BEGIN SELECT RAISE(ABORT, 'no room'); END",
        )
        .expect("a trigger");
    world.retain();
    // Of what was begun nothing is left.
    let (left, empty) = world.left();
    assert!(left[0].0 > 0);
    assert_eq!(empty, 0);
    assert!(world.topic().partitions[0].bytes() <= LIMIT);
    world
        .connection
        .execute_batch("DROP TRIGGER no_room")
        .expect("a trigger");
    world.retention = Retention::new(world.now);
    let victims = world.offsets_of(VICTIM);
    world.flood(GREEDY, 20);
    assert_eq!(world.offsets_of(VICTIM), victims);
}

#[test]
fn nothing_goes_that_a_group_is_kept_for() {
    let mut world = World::new(LIMIT, Some("kafka"));
    world.commit_group("kafka", 105);
    world.fill();
    world.flood(GREEDY, 20);
    let (left, _) = world.left();
    let kept: Vec<u64> = left.iter().map(|(offset, _)| *offset).collect();
    let end = world.topic().partitions[0].end();
    assert!(kept.len() < usize::try_from(end).expect("small"));
    let from = kept.partition_point(|offset| *offset < 105);
    assert_eq!(kept[from..], (105..end).collect::<Vec<_>>());
}

#[test]
fn who_reads_meanwhile_sees_what_was_there_when_he_began() {
    let mut world = World::new(LIMIT, None);
    world.fill();
    let reader = world.shared.store.open_reader().expect("a reader");
    reader.execute_batch("BEGIN").expect("it begins");
    let before = rows(&reader);
    world.retain();
    assert!(rows(&reader) == before, "they changed while they were read");
    reader.execute_batch("COMMIT").expect("it ends");
    assert!(rows(&reader) == rows(&world.connection));
    assert!(rows(&reader) != before);
}

#[tokio::test]
async fn readers_are_told_of_each_gap_after_a_restart() {
    let mut world = World::new(LIMIT, None);
    world.fill();
    world.flood(GREEDY, 20);
    let (left, empty) = world.left();
    let (bytes, end) = {
        let topic = world.topic();
        (topic.partitions[0].bytes(), topic.partitions[0].end())
    };
    let World {
        dir,
        shared,
        connection,
        ..
    } = world;
    drop(connection);
    let log = Embedded::open(dir.path(), &shared.options).expect("the log opens");
    assert_eq!(log.stats().bytes, bytes);
    let mut reader = log
        .reader(TOPIC, StartAt::Beginning)
        .await
        .expect("a reader");
    let (mut next, mut read, mut gaps) = (0, Vec::new(), 0);
    while next < end {
        match reader.next().await {
            Ok(records) => {
                for record in records {
                    assert_eq!(record.offset, next);
                    next += 1;
                    read.push(record.offset);
                }
            }
            Err(LogError::Expired { offsets, .. }) => {
                assert_eq!(offsets.start, next);
                next = offsets.end;
                gaps += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let left: Vec<u64> = left.into_iter().map(|(offset, _)| offset).collect();
    assert_eq!((read, gaps), (left, empty));
    assert_eq!(log.stats().damaged, 0);
    log.close().await;
}

#[test]
fn it_is_warned_of_what_the_heaviest_key_loses_unread_however_old_others_are() {
    for (committed, is_soon) in [(60, true), (159, false)] {
        let mut world = World::new(LIMIT, None);
        for _ in 0..60 {
            world.append(&[VICTIM]);
        }
        for _ in 0..10 {
            world.append(&[GREEDY; 10]);
        }
        world.commit_group("readers", committed);
        let bytes = world.topic().partitions[0].bytes();
        assert!((LIMIT * 9 / 10..LIMIT).contains(&bytes), "{bytes}");
        let mut cursors = Cursors::default();
        let transaction = world.connection.transaction().expect("it begins");
        let thinning = Thinning::new(&world.shared, &transaction, Some(&mut cursors));
        let pass = Pass::new(&world.shared, &transaction, world.now.time_ms, thinning);
        let mut pass = pass.expect("a log");
        let unread = pass.unread_next().expect("a log");
        assert_eq!(unread.is_some(), is_soon, "{committed}");
    }
}
