//! A client without a relay, or with one that the test plays.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;

use tempfile::TempDir;
use uuid::Uuid;

use super::spilling::SPILL_AGAIN;
use super::*;
use crate::spill::Reader;
use crate::wire;

const QUEUE_BYTES: usize = 16 * 1024;

/// A client whose spill directory is there.
fn client(dir: &TempDir, queue_bytes: usize) -> Client {
    std::fs::create_dir_all(spill_dir(dir)).expect("a directory");
    Client::new(Options {
        socket: dir.path().join("relay.sock"),
        spill_dir: spill_dir(dir),
        queue_bytes,
        spill_bytes: 100 * 1024 * 1024,
        host: "mail1".to_owned(),
        program: "imap".to_owned(),
    })
}

fn spill_dir(dir: &TempDir) -> PathBuf {
    dir.path().join("spill")
}

fn record(number: u32, value: &[u8]) -> WireRecord<'_> {
    WireRecord {
        topic: "dovecot",
        key: b"alice",
        value,
        time_ms: 0,
        id: Uuid::from_u128(number.into()),
        txn: Uuid::nil(),
        txn_seq: number,
        txn_last: true,
    }
}

/// The only spill file.
fn spill_file(dir: &Path) -> File {
    let mut entries = std::fs::read_dir(dir).expect("the directory");
    let entry = entries.next().expect("a file").expect("an entry");
    assert!(entries.next().is_none(), "more than one file");
    File::open(entry.path()).expect("the file")
}

/// The numbers of the records in the only spill file.
fn spilled(dir: &Path) -> Vec<u32> {
    let file = spill_file(dir);
    let mut reader = Reader::open(file, 0).expect("a spill file");
    let mut numbers = Vec::new();
    while let Some((record, _)) = reader.next().expect("a whole record") {
        numbers.push(record.txn_seq);
    }
    numbers
}

#[test]
fn the_longest_record_behind_a_short_one_is_spilled_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut client = client(&dir, 16 * 1024 * 1024);
    client.push(&record(0, b"{}"));
    let frame_bytes = FRAME_HEAD_BYTES + size_of::<u32>();
    let empty = record_bytes(&record(1, b""));
    client.push(&record(
        1,
        &vec![b' '; MAX_FRAME_BYTES - frame_bytes - empty],
    ));
    client.flush();
    assert!(client.queue.is_empty());
    assert_eq!(spilled(&spill_dir(&dir)), [0, 1]);
    let news = client.take_news();
    let is_lost = |news: &News| matches!(news, News::Lost { .. });
    assert!(!news.iter().any(is_lost), "{news:?}");
}

#[test]
fn a_late_acknowledgement_of_what_was_given_up_counts_for_nothing_newer() {
    let dir = tempfile::tempdir().expect("a directory");
    let listener = UnixListener::bind(dir.path().join("relay.sock")).expect("a socket");
    let mut client = client(&dir, QUEUE_BYTES);
    std::fs::remove_dir(spill_dir(&dir)).expect("nothing can be spilled");
    let first = record(0, b"{}");
    // Others hold all but the head of the frame.
    client.others_bytes = QUEUE_BYTES - record_bytes(&first) - 4;
    client.push(&first);
    client.flush();
    let lost = client.take_news().into_iter().find_map(|news| match news {
        News::Lost { records, .. } => Some(records),
        News::Trouble(_) => None,
    });
    assert_eq!((lost, client.queue.len()), (Some(1), 0));
    client.others_bytes = 0;
    let (mut relay, _) = listener.accept().expect("a connection");
    let mut said = Vec::new();
    wire::write_welcome(&mut said);
    wire::write_ack(&mut said, 1);
    // A client that has left does not hear it.
    let _ = relay.write_all(&said);
    client.push(&record(1, b"{}"));
    client.flush();
    client.serve();
    assert_eq!(client.queue.len(), 1, "nobody has acknowledged it");
}

#[test]
fn a_file_that_the_relay_reads_is_left_until_the_timer_comes() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut client = client(&dir, QUEUE_BYTES);
    client.push(&record(0, b"{}"));
    client.flush();
    client.let_go();
    let read = spill_file(&spill_dir(&dir));
    read.lock().expect("nobody has it open");
    client.push(&record(1, b"{}"));
    client.flush();
    assert_eq!(client.queue.len(), 1);
    let next = client.serve();
    assert!(next.is_some_and(|next| next <= LOCKED_AGAIN), "{next:?}");
    let news = client.take_news();
    let is_trouble = |news: &News| match news {
        News::Trouble(text) => text.contains("cannot spill"),
        News::Lost { .. } => true,
    };
    assert!(!news.iter().any(is_trouble), "{news:?}");
    drop(read);
    client.serve();
    assert!(client.queue.is_empty());
    assert_eq!(spilled(&spill_dir(&dir)), [0, 1]);
}

#[test]
fn where_nothing_can_be_spilled_not_each_record_tries_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut client = client(&dir, QUEUE_BYTES);
    std::fs::remove_dir(spill_dir(&dir)).expect("an empty directory");
    let mut number = 0;
    while client.spill_failed.is_none() || !client.is_over(1000) {
        client.push(&record(number, &[b' '; 1000]));
        number += 1;
        assert!(number < 1000, "it is never full");
    }
    let failed = client.spill_failed.expect("it has failed");
    for number in number..number + 100 {
        client.push(&record(number, &[b' '; 1000]));
        let again = client.spill_failed;
        // A machine that stood still meanwhile has let it try again.
        assert!(again == Some(failed) || failed.elapsed() >= SPILL_AGAIN);
    }
    let is_lost = |news: &News| matches!(news, News::Lost { .. });
    assert!(client.take_news().iter().any(is_lost));
}
