//! Damage: what is intact comes back, what is not is named, and the log goes on.

mod rescue;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Consumer, Log, LogError, NewRecord, Position, Reader, Record, StartAt};

fn record(number: u64) -> NewRecord {
    NewRecord {
        topic: Arc::from("events"),
        key: Some(Bytes::from_static(b"a")),
        value: Bytes::from(format!("{number} {}", "x".repeat(300))),
        headers: vec![],
        timestamp_ms: 0,
        id: Some(u128::from(number)),
    }
}

fn options() -> EmbeddedOptions {
    EmbeddedOptions {
        partitions: 1,
        ..EmbeddedOptions::default()
    }
}

/// A closed log with so many batches of one record, all of which a group has read.
async fn filled(dir: &Path, records: u64) {
    let log = Embedded::open(dir, &options()).expect("the log opens");
    for number in 0..records {
        log.append(vec![record(number)]).await.expect("room");
    }
    let mut consumer = log.consumer_of_all("g");
    let position = Position {
        topic: Arc::from("events"),
        partition: 0,
        offset: records,
    };
    consumer.commit(&[position]).await.expect("committed");
    log.close().await;
}

/// Gives the tables of a closed log the names that they had first, without those that came later.
fn make_version_1(dir: &Path) {
    let sqlite = rusqlite::Connection::open(dir.join("log.db")).expect("the file");
    sqlite
        .execute_batch(
            "ALTER TABLE partition RENAME TO part;
             ALTER TABLE committed RENAME COLUMN consumer_group TO grp;
             ALTER TABLE committed RENAME COLUMN partition_id TO part;
             DROP TABLE thinned;
             DROP TABLE sample;
             PRAGMA user_version = 1",
        )
        .expect("altered");
}

/// What the group has committed.
async fn committed(log: &Embedded) -> u64 {
    log.groups().await.expect("groups")[0].committed
}

async fn read_all(log: &Embedded) -> (Vec<Record>, Vec<LogError>) {
    let mut reader = log
        .reader("events", StartAt::Beginning)
        .await
        .expect("a reader");
    let (mut records, mut damage) = (Vec::new(), Vec::new());
    // Damage that is only found while reading is seen to within a second or two.
    while let Ok(next) = tokio::time::timeout(Duration::from_millis(2500), reader.next()).await {
        match next {
            Ok(more) => records.extend(more),
            Err(error) => damage.push(error),
        }
    }
    (records, damage)
}

/// Whether a damaged file was kept.
fn is_put_aside(dir: &Path) -> bool {
    let mut files = fs::read_dir(dir).expect("the directory");
    files.any(|file| {
        let name = file.expect("a file").file_name();
        name.to_string_lossy().starts_with("log.db.damaged-")
    })
}

/// Each record is what was appended at its offset, and offsets ascend.
fn check_intact(records: &[Record]) {
    for record in records {
        let expected = self::record(record.offset).value;
        assert_eq!(record.value, expected, "offset {}", record.offset);
    }
    assert!(records.is_sorted_by_key(|record| record.offset));
}

/// What is said of damage while the eight records that are left are read.
async fn said_beside_eight(dir: &Path) -> Vec<String> {
    let log = Embedded::open(dir, &options()).expect("the log opens");
    let (records, damage) = read_all(&log).await;
    check_intact(&records);
    assert_eq!(records.len(), 8);
    damage.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_damaged_batch_is_named_and_passed_over() {
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path(), 10).await;
    let sqlite = rusqlite::Connection::open(dir.path().join("log.db")).expect("the file");
    let changed = sqlite.execute(
        "UPDATE batch SET bytes = zeroblob(length(bytes)) WHERE key IN (3, 7)",
        [],
    );
    assert_eq!(changed, Ok(2));
    drop(sqlite);
    assert_eq!(
        said_beside_eight(dir.path()).await,
        [3, 7].map(|offset| format!(
            "offsets {offset} to {offset} of `events` partition 0 are damaged: the checksum is wrong"
        ))
    );
}

#[tokio::test]
async fn a_batch_that_is_missing_is_named_and_passed_over() {
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path(), 10).await;
    let sqlite = rusqlite::Connection::open(dir.path().join("log.db")).expect("the file");
    let changed = sqlite.execute("DELETE FROM batch WHERE key IN (4, 5)", []);
    assert_eq!(changed, Ok(2));
    drop(sqlite);
    assert_eq!(
        said_beside_eight(dir.path())
            .await
            .first()
            .map(String::as_str),
        Some("offsets 4 to 5 of `events` partition 0 are damaged: it is missing")
    );
}

/// Opens a damaged log, reads it, appends to it, opens it again: intact records are there, offsets
/// go on. The offsets that a group has seen are not given again, though their records are lost.
async fn check_goes_on(dir: &Path, at_least: usize, seen: u64) {
    let log = Embedded::open(dir, &options()).expect("the log opens");
    let (before, _) = read_all(&log).await;
    check_intact(&before);
    assert!(before.len() >= at_least, "only {} are left", before.len());
    let highest = before.last().map_or(0, |record| record.offset + 1);
    let log_again = log.clone();
    let end = async move {
        // Not among those that were there: it must not be taken for a duplicate.
        let done = log_again.append(vec![NewRecord {
            id: None,
            ..record(0)
        }]);
        done.await.expect("room");
        log_again.topics().await.expect("topics")[0].partitions[0].end
    };
    let end = end.await;
    assert!(end > highest.max(seen), "an offset was used again: {end}");
    log.close().await;
    drop(log);
    let log = Embedded::open(dir, &options()).expect("the log opens again");
    assert_eq!(read_all(&log).await.0.len(), before.len() + 1);
}

#[tokio::test]
async fn a_truncated_file_gives_what_is_left() {
    for part in [2, 3] {
        let dir = tempfile::tempdir().expect("a directory");
        filled(dir.path(), 400).await;
        let path = dir.path().join("log.db");
        let length = fs::metadata(&path).expect("the file").len();
        let file = fs::File::options().write(true).open(&path);
        file.expect("the file")
            .set_len(length * part / 4)
            .expect("cut");
        check_goes_on(dir.path(), 1, 400).await;
        assert!(is_put_aside(dir.path()), "the damaged file is not kept");
    }
}

#[tokio::test]
async fn a_log_of_the_first_version_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path(), 10).await;
    make_version_1(dir.path());
    let log = Embedded::open(dir.path(), &options()).expect("the log opens");
    assert_eq!(read_all(&log).await.0.len(), 10);
    assert_eq!(committed(&log).await, 10);
    log.close().await;
    drop(log);
    // Damaged before it was altered: what the group has committed says where offsets go on.
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path(), 400).await;
    make_version_1(dir.path());
    let path = dir.path().join("log.db");
    let length = fs::metadata(&path).expect("the file").len();
    let file = fs::File::options().write(true).open(&path);
    file.expect("the file").set_len(length / 2).expect("cut");
    check_goes_on(dir.path(), 1, 400).await;
    let log = Embedded::open(dir.path(), &options()).expect("the log opens");
    assert_eq!(committed(&log).await, 400);
}

#[tokio::test]
async fn overwritten_pages_cost_what_is_in_them() {
    // One page after the other, the first ones included: header, schema, interior pages, leaves.
    for page in [0, 1, 3, 8] {
        let dir = tempfile::tempdir().expect("a directory");
        filled(dir.path(), 400).await;
        let path = dir.path().join("log.db");
        let mut bytes = fs::read(&path).expect("the file");
        let at = page * 4096;
        assert!(
            at + 4096 <= bytes.len(),
            "the file is shorter than page {page}"
        );
        bytes[at..at + 4096].fill(0xa5);
        fs::write(&path, bytes).expect("the file");
        // A file without its head or its schema is no database any more.
        let at_least = if page < 8 { 0 } else { 300 };
        check_goes_on_or_begins_anew(dir.path(), at_least).await;
    }
}

async fn check_goes_on_or_begins_anew(dir: &Path, at_least: usize) {
    let log = Embedded::open(dir, &options()).expect("the log opens");
    let (records, _) = read_all(&log).await;
    check_intact(&records);
    assert!(records.len() >= at_least, "only {} are left", records.len());
    let new = NewRecord {
        id: None,
        ..record(0)
    };
    log.append(vec![new]).await.expect("the log takes records");
}

#[tokio::test]
async fn a_rescue_that_was_interrupted_is_begun_anew_or_finished() {
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path(), 10).await;
    let (file, unfinished) = (dir.path().join("log.db"), dir.path().join("log.db.new"));
    // Before the damaged file was put aside: what there is of the new one is worth nothing.
    fs::write(&unfinished, "half a file").expect("a file");
    let log = Embedded::open(dir.path(), &options()).expect("the log opens");
    assert_eq!(read_all(&log).await.0.len(), 10);
    assert!(!unfinished.exists());
    log.close().await;
    drop(log);
    // After it: the new one is complete. What was written ahead to the damaged one is there still.
    fs::rename(&file, &unfinished).expect("renamed");
    let other_dir = tempfile::tempdir().expect("a directory");
    let other = Embedded::open(other_dir.path(), &options()).expect("a log");
    other.append(vec![record(77)]).await.expect("room");
    let ahead = dir.path().join("log.db-wal");
    fs::copy(other_dir.path().join("log.db-wal"), &ahead).expect("it is not empty");
    assert!(fs::metadata(&ahead).expect("a file").len() > 0);
    let log = Embedded::open(dir.path(), &options()).expect("the log opens");
    let (records, damage) = read_all(&log).await;
    check_intact(&records);
    assert_eq!((records.len(), damage.len()), (10, 0), "{damage:?}");
    assert!(!unfinished.exists());
}

/// Another connection removes as retention does: the log has not told its readers of it yet.
#[tokio::test]
async fn what_retention_removes_while_it_is_read_is_expired_and_not_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path(), 10).await;
    let log = Embedded::open(dir.path(), &options()).expect("the log opens");
    let sqlite = rusqlite::Connection::open(dir.path().join("log.db")).expect("the file");
    sqlite
        .execute_batch(
            "BEGIN IMMEDIATE;
             DELETE FROM batch WHERE key < 6;
             UPDATE partition SET begin = 6;
             COMMIT",
        )
        .expect("removed");
    let (records, errors) = read_all(&log).await;
    check_intact(&records);
    assert_eq!(records.len(), 4);
    let [LogError::Expired { offsets, .. }] = &errors[..] else {
        panic!("{errors:?}");
    };
    assert_eq!(*offsets, 0..6);
    assert_eq!(log.stats().damaged, 0);
}

/// Records of many pages each, of which one page in the middle is overwritten that only who reads
/// or removes that record comes to.
#[tokio::test]
async fn damage_that_only_retention_meets_is_seen_to_and_old_records_go() {
    const LETTERS: [u8; 10] = *b"abcdefghij";
    const PAGE: usize = 4096;
    let dir = tempfile::tempdir().expect("a directory");
    let log = Embedded::open(dir.path(), &options()).expect("the log opens");
    for letter in LETTERS {
        let large = NewRecord {
            value: vec![letter; 20_000].into(),
            id: None,
            ..record(0)
        };
        log.append(vec![large]).await.expect("room");
    }
    log.close().await;
    drop(log);
    let path = dir.path().join("log.db");
    let mut bytes = fs::read(&path).expect("the file");
    let is_of_middle = |page: &[u8]| page[4..].iter().all(|byte| *byte == LETTERS[5]);
    let place = bytes.chunks(PAGE).position(is_of_middle).expect("a page");
    // Where the next page of the record is, and that the page behind it may be that one: the map of
    // pages is the second page, with five bytes for each from the third on.
    bytes[place * PAGE..][..4].fill(0xff);
    bytes[PAGE + 5 * (place - 1)..][..5].fill(0);
    fs::write(&path, bytes).expect("the file");
    let options = EmbeddedOptions {
        retention_bytes: Some(50_000),
        ..options()
    };
    let log = Embedded::open(dir.path(), &options).expect("the log opens");
    let removed = async {
        loop {
            let topics = log.topics().await.expect("topics");
            let [topic] = &topics[..] else {
                panic!("while the log is saved it has the topics {topics:?}");
            };
            if topic.partitions[0].begin > 5 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let removed = tokio::time::timeout(Duration::from_mins(2), removed).await;
    assert!(removed.is_ok(), "{:?}", log.stats());
    assert!(log.stats().retention_errors > 0);
    assert!(is_put_aside(dir.path()));
}

#[tokio::test]
async fn a_file_that_is_no_log_is_not_touched() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log.db");
    let other = rusqlite::Connection::open(&path).expect("a file");
    other
        .execute_batch("CREATE TABLE other (a); PRAGMA application_id = 7;")
        .expect("a table");
    drop(other);
    let before = fs::read(&path).expect("the file");
    let error = Embedded::open(dir.path(), &options()).expect_err("another application's");
    assert!(
        error.to_string().contains("another application's"),
        "{error}"
    );
    assert!(
        fs::read(&path).expect("the file") == before,
        "it is changed"
    );
}
