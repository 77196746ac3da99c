//! Batches that are written, damaged, thinned and read back.

use proptest::prelude::*;

use super::*;

fn any_record() -> impl Strategy<Value = NewRecord> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let name = prop_oneof![
        prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned),
        "[a-z]{0,5}"
    ];
    let value = prop_oneof![
        bytes(),
        any::<u128>().prop_map(|number| uuid_text(number.to_be_bytes())),
        "[0-9a-fA-F-]{36}".prop_map(String::into_bytes),
    ];
    let headers = prop::collection::vec((name, value), 0..4);
    let parts = (any::<i64>(), prop::option::of(bytes()), bytes(), headers);
    parts.prop_map(|(timestamp_ms, key, value, headers)| NewRecord {
        topic: Arc::from("t"),
        key: key.map(Bytes::from),
        value: Bytes::from(value),
        headers: headers
            .into_iter()
            .map(|(name, value)| Header {
                name: Arc::from(name),
                value: Bytes::from(value),
            })
            .collect(),
        timestamp_ms,
        id: None,
    })
}

fn built(records: &[NewRecord]) -> Vec<u8> {
    let mut builder = Builder::new(&Arc::from("t"), 3, 100);
    for record in records {
        builder.push(record);
    }
    builder.finish()
}

proptest! {
    #[test]
    fn what_is_written_reads_back(records in prop::collection::vec(any_record(), 0..5), skip in 0..5_u64) {
        let topic = Arc::from("t");
        let read = super::records(&built(&records), &topic, (3, 100), 100 + skip).expect("our own");
        let read = read.expect("nothing is removed");
        let expected = records.iter().enumerate().map(|(i, new)| Record {
            topic: Arc::clone(&topic),
            partition: 3,
            offset: 100 + i as u64,
            key: new.key.clone(),
            value: new.value.clone(),
            headers: new.headers.clone(),
            timestamp_ms: new.timestamp_ms,
        });
        let expected: Vec<Record> = expected.skip(usize::try_from(skip).expect("small")).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn entries_make_the_same_records_in_another_batch(records in prop::collection::vec(any_record(), 1..5), skip in 0..5_usize) {
        let bytes = built(&records);
        let entries = entries(&bytes).expect("our own").expect("nothing is removed");
        for (entry, record) in entries.iter().zip(&records) {
            prop_assert_eq!(entry.key, record.key.as_deref());
        }
        let topic = Arc::from("t");
        let skip = skip.min(records.len());
        let from = 100 + skip as u64;
        let mut builder = Builder::new(&topic, 3, from);
        entries[skip..].iter().for_each(|entry| builder.push_entry(entry));
        let again = super::records(&builder.finish(), &topic, (3, from), from);
        prop_assert_eq!(again, super::records(&bytes, &topic, (3, 100), from));
    }

    #[test]
    fn a_changed_bit_is_noticed(records in prop::collection::vec(any_record(), 1..3), at: prop::sample::Index, bit in 0..8_u8) {
        let mut bytes = built(&records);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert_eq!(head(&bytes), Err(Damage::Checksum));
    }

    #[test]
    fn anything_is_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let content = bytes.clone();
        let mut sum = crc32fast::hash(&content).to_le_bytes().to_vec();
        sum.append(&mut bytes);
        let _ = super::records(&sum, &Arc::from("t"), (0, 0), 0);
        let _ = head(&sum);
        let _ = entries(&sum);
    }
}

#[test]
fn a_batch_in_another_place_is_not_taken_for_its_own() {
    let bytes = built(&[]);
    let misplaced = super::records(&bytes, &Arc::from("t"), (2, 100), 0);
    assert_eq!(misplaced, Err(Damage::Misplaced));
}

#[test]
fn what_is_left_of_removed_records_says_where_they_were_and_that_they_are_gone() {
    let topic = Arc::from("t");
    let bytes = Builder::removed(&topic, 3, 100, 7).finish();
    let head = head(&bytes).expect("our own");
    assert_eq!((head.base, head.count), (100, 7));
    assert_eq!(records(&bytes, &topic, (3, 100), 100), Ok(None));
    assert_eq!(entries(&bytes), Ok(None));
    let misplaced = records(&bytes, &topic, (2, 100), 100);
    assert_eq!(misplaced, Err(Damage::Misplaced));
}
