//! Spill files, as the relay finds them in a directory where every mail user may put one.
//!
//! An input is tried as it is, and with checksums that fit: nobody comes upon those by chance.

use std::fs::File;
use std::io::Write;

use dovecast_relay::spill::{MAGIC, Reader, SpillError};
use dovecast_relay::wire::write_record;
use rustix::fs::MemfdFlags;

use crate::expect::{readable_error, within};
use crate::relay::is_the_same_again;
use crate::{Outcome, Target};

/// See the module.
pub const TARGET: Target = Target { name: "spill", run };

const ENTRY_HEAD_BYTES: usize = 8;

fn run(bytes: &[u8]) -> Outcome {
    read_and_read_on(&sealed(bytes));
    read_and_read_on(bytes)
}

/// The records, each with the place behind it, and why there are no more.
struct Contents {
    records: Vec<(Vec<u8>, u64)>,
    begin: u64,
    end: Result<(), SpillError>,
}

fn read_and_read_on(bytes: &[u8]) -> Outcome {
    let file = file(bytes);
    let all = within(bytes.len() * 4 + 65_536, || read(&file, 0));
    let mut last = all.begin;
    for (_, behind) in &all.records {
        assert!(last < *behind && *behind <= bytes.len() as u64);
        last = *behind;
    }
    // What the relay has taken in it does not take in again.
    if let Some((_, behind)) = all.records.get(all.records.len() / 2) {
        let rest = read(&file, *behind);
        assert_eq!(rest.records, all.records[all.records.len() / 2 + 1..]);
        assert_eq!(rest.end.is_ok(), all.end.is_ok());
        let whole = usize::try_from(*behind).expect("a place in the file");
        let cut = read(&self::file(&bytes[..whole]), 0);
        assert_eq!(cut.records, all.records[..=all.records.len() / 2]);
        assert!(cut.end.is_ok());
    }
    // A mark may be of another file that had its name.
    for anywhere in [bytes.len() / 3, bytes.len() + 7] {
        if let Err(error) = read(&file, anywhere as u64).end {
            readable_error(&error);
        }
    }
    match all.end {
        Ok(()) => Outcome::Read,
        Err(error) => {
            readable_error(&error);
            if let SpillError::Torn { at, .. } = error {
                assert_eq!(at, last, "it is torn behind the last whole record");
            }
            Outcome::Refused
        }
    }
}

fn read(file: &File, from_bytes: u64) -> Contents {
    let file = file.try_clone().expect("the file");
    let mut contents = Contents {
        records: Vec::new(),
        begin: 0,
        end: Ok(()),
    };
    let mut reader = match Reader::open(file, from_bytes) {
        Ok(reader) => reader,
        Err(error) => {
            contents.end = Err(error);
            return contents;
        }
    };
    contents.begin = reader.position();
    loop {
        match reader.next() {
            Ok(Some((record, behind))) => {
                is_the_same_again(&record);
                let mut bytes = Vec::new();
                write_record(&mut bytes, &record);
                contents.records.push((bytes, behind));
            }
            Ok(None) => return contents,
            Err(error) => {
                contents.end = Err(error);
                return contents;
            }
        }
    }
}

/// In memory.
fn file(bytes: &[u8]) -> File {
    let file = rustix::fs::memfd_create("spill", MemfdFlags::CLOEXEC).expect("a file in memory");
    let mut file = File::from(file);
    file.write_all(bytes).expect("room");
    file
}

/// Spill file with the checksum of each entry put right.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    let mut at = MAGIC.len();
    while let Some((head, rest)) = bytes
        .get(at..)
        .and_then(<[u8]>::split_first_chunk::<ENTRY_HEAD_BYTES>)
    {
        let [l0, l1, l2, l3, ..] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let Some(content) = rest.get(..length) else {
            break;
        };
        let sum = crc32fast::hash(content).to_le_bytes();
        sealed[at + 4..at + ENTRY_HEAD_BYTES].copy_from_slice(&sum);
        at += ENTRY_HEAD_BYTES + length;
    }
    sealed
}
