//! What is written is read again; what was cut off or changed is read as far as it is whole.

use super::*;

const WHO: Author<'_> = Author {
    host: "mail1",
    program: "imap",
};

fn record(number: u32) -> WireRecord<'static> {
    WireRecord {
        topic: "dovecot",
        key: b"alice",
        value: b"{}",
        time_ms: 7,
        id: Uuid::from_u128(u128::from(number)),
        txn: Uuid::nil(),
        txn_seq: number,
        txn_last: false,
    }
}

/// A file with `count` records, closed.
fn written(dir: &Path, count: u32) -> PathBuf {
    let mut writer = Writer::create(dir, &WHO, &record(0), 1 << 20).expect("a file");
    for number in 0..count {
        writer.push(&record(number));
        writer.flush().expect("room");
    }
    writer.path().to_owned()
}

fn read(path: &Path, from: u64) -> (Vec<u32>, u64, Option<SpillError>) {
    let mut numbers = Vec::new();
    let mut at = from;
    let mut reader = match Reader::open(File::open(path).expect("the file"), from) {
        Ok(reader) => reader,
        Err(error) => return (numbers, at, Some(error)),
    };
    assert_eq!(reader.host(), "mail1");
    loop {
        match reader.next() {
            Ok(Some((record, behind))) => {
                numbers.push(record.txn_seq);
                at = behind;
            }
            Ok(None) => return (numbers, at, None),
            Err(error) => return (numbers, at, Some(error)),
        }
    }
}

#[test]
fn what_is_written_reads_back_from_any_position_that_was_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = written(dir.path(), 3);
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.and_then(|name| name.strip_suffix(".spill"));
    let secret =
        name.and_then(|name| name.strip_prefix("0000000000000-00000000000000000000000000000000-"));
    assert_eq!(secret.map(str::len), Some(32), "{name:?}");
    let other = written(&dir.path().join("."), 1);
    assert_ne!(path, other, "the same first record");
    let (all, end, error) = read(&path, 0);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(
        (all, end),
        (vec![0, 1, 2], path.metadata().expect("it").len())
    );
    let mut reader = Reader::open(File::open(&path).expect("the file"), 0).expect("a spill");
    let (_, behind_first) = reader.next().expect("whole").expect("a record");
    assert_eq!(read(&path, behind_first).0, [1, 2]);
    assert_eq!(read(&path, end).0, [0; 0]);
}

#[test]
fn a_file_cut_off_anywhere_gives_every_whole_record_and_says_where_it_is_torn() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = written(dir.path(), 2);
    let bytes = std::fs::read(&path).expect("the file");
    let mut reader = Reader::open(File::open(&path).expect("the file"), 0).expect("a spill");
    let (_, behind_first) = reader.next().expect("whole").expect("a record");
    for cut in 0..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).expect("the file");
        let (numbers, at, error) = read(&path, 0);
        let is_whole = cut as u64 == behind_first;
        let whole: &[u32] = if cut as u64 >= behind_first {
            &[0]
        } else {
            &[]
        };
        assert_eq!(numbers, whole, "cut at {cut}");
        match error {
            None => assert!(is_whole || numbers.is_empty(), "cut at {cut}"),
            Some(SpillError::Torn { at: torn, .. }) if !numbers.is_empty() => {
                assert_eq!(torn, at, "cut at {cut}");
            }
            Some(SpillError::Torn { .. }) => {}
            Some(other) => panic!("cut at {cut}: {other}"),
        }
    }
}

#[test]
fn damage_is_told_and_what_is_no_spill_file_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = written(dir.path(), 1);
    let mut bytes = std::fs::read(&path).expect("the file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).expect("the file");
    let error = read(&path, 0).2.expect("damage").to_string();
    assert!(error.ends_with("a record's checksum is wrong"), "{error}");
    std::fs::write(&path, b"From alice").expect("the file");
    assert!(matches!(read(&path, 0).2, Some(SpillError::NotASpill)));
}

#[test]
fn a_file_that_may_not_grow_stays_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut writer = Writer::create(dir.path(), &WHO, &record(0), 200).expect("a file");
    writer.push(&record(0));
    writer.flush().expect("room for one");
    writer.push(&record(1));
    writer.push(&record(2));
    let error = writer.flush().expect_err("no room");
    assert!(error.to_string().contains("200 bytes"), "{error}");
    assert_eq!(read(writer.path(), 0).0, [0]);
}
