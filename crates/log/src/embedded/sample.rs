//! Samples of what is appended: whose keys the bytes of a partition are, without reading them.
//!
//! A record of at least the mean distance of samples is one; of smaller ones chance takes some,
//! with a likelihood that is their size by that distance, and each stands for the whole distance.
//! So the samples of a key stand for as many bytes as it has, more or less, and nobody can send
//! such records that others are taken for theirs. Rows go with the records; those of a log that an
//! earlier version has written, or that had no limit, are missing.

use std::hash::{BuildHasher, Hasher, RandomState};

use rusqlite::{OptionalExtension, Transaction, params};
use sha2::{Digest, Sha256};

use super::store::key;

/// Samples of a log that is as large as it may be, about.
const SAMPLES: u64 = 1 << 16;
/// Distance of samples that is enough for a small log: more of them would make appends dear.
const ENOUGH_BYTES: u64 = 16 * 1024;
/// Samples that a log has at least, however small it is.
const FEWEST_SAMPLES: u64 = 1 << 12;

/// Takes samples.
pub(super) struct Sampler {
    /// Mean distance of samples in bytes. `None`: none are taken.
    distance: Option<u64>,
    state: u64,
}

impl Sampler {
    /// Samples of a log that keeps so many bytes.
    pub(super) fn new(retention_bytes: Option<u64>) -> Self {
        let distance = |limit: u64| {
            let enough = ENOUGH_BYTES.min(limit / FEWEST_SAMPLES);
            enough.max(limit / SAMPLES).max(1)
        };
        Self {
            distance: retention_bytes.map(distance),
            // The keys of a hasher are random.
            state: RandomState::new().build_hasher().finish(),
        }
    }

    /// Bytes that a record of this size stands for, if it is a sample.
    pub(super) fn take(&mut self, bytes: usize) -> Option<u64> {
        let distance = self.distance?;
        let bytes = bytes as u64;
        if bytes >= distance {
            return Some(bytes);
        }
        (self.random() % distance < bytes).then_some(distance)
    }

    /// Next number of SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What is kept of a record's key: nobody finds another key with the same. Records without a key
/// have one owner.
pub(super) fn owner(key: Option<&[u8]>) -> i64 {
    let mut hash = Sha256::new();
    hash.update([u8::from(key.is_some())]);
    hash.update(key.unwrap_or_default());
    let hash = hash.finalize();
    hash.first_chunk()
        .map_or(0, |first| i64::from_le_bytes(*first))
}

/// Notes that the record at a place stands for so many bytes.
pub(super) fn write(
    transaction: &Transaction<'_>,
    place: i64,
    record_key: Option<&[u8]>,
    bytes: u64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO sample (key, owner, bytes) VALUES (?1, ?2, ?3)")?
        .execute(params![place, owner(record_key), bytes.cast_signed()])?;
    Ok(())
}

/// Forgets what stands before an offset of a partition.
pub(super) fn remove(
    transaction: &Transaction<'_>,
    partition: u64,
    before: u64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM sample WHERE key >= ?1 AND key < ?2")?
        .execute(params![key(partition, 0), key(partition, before)])?;
    Ok(())
}

/// Forgets what an owner has among some offsets of a partition.
pub(super) fn remove_of(
    transaction: &Transaction<'_>,
    (partition, owner): (u64, i64),
    offsets: std::ops::Range<u64>,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM sample WHERE key >= ?1 AND key < ?2 AND owner = ?3")?
        .execute(params![
            key(partition, offsets.start),
            key(partition, offsets.end),
            owner
        ])?;
    Ok(())
}

/// The two owners that have most of a partition, and how many bytes.
pub(super) fn heaviest(
    transaction: &Transaction<'_>,
    partition: u64,
) -> rusqlite::Result<Vec<(i64, u64)>> {
    let mut statement = transaction.prepare_cached(
        "SELECT owner, sum(bytes) FROM sample WHERE key >= ?1 AND key < ?2
         GROUP BY owner ORDER BY 2 DESC LIMIT 2",
    )?;
    let range = params![key(partition, 0), key(partition + 1, 0)];
    let rows = statement.query_map(range, |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
    })?;
    rows.collect()
}

/// Bytes of an owner before an offset of a partition.
pub(super) fn bytes_before(
    transaction: &Transaction<'_>,
    (partition, owner): (u64, i64),
    offset: u64,
) -> rusqlite::Result<u64> {
    transaction
        .prepare_cached(
            "SELECT ifnull(sum(bytes), 0) FROM sample WHERE key >= ?1 AND key < ?2 AND owner = ?3",
        )?
        .query_row(
            params![key(partition, 0), key(partition, offset), owner],
            |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()),
        )
}

/// Place of an owner's first sample at or behind a place, before another one.
pub(super) fn first_of(
    transaction: &Transaction<'_>,
    owner: i64,
    (from, to): (i64, i64),
) -> rusqlite::Result<Option<i64>> {
    transaction
        .prepare_cached(
            "SELECT key FROM sample WHERE key >= ?1 AND key < ?2 AND owner = ?3
             ORDER BY key LIMIT 1",
        )?
        .query_row(params![from, to, owner], |row| row.get(0))
        .optional()
}

/// Place of the sample that is so many before a place, where there are so many from another one on.
pub(super) fn back(
    transaction: &Transaction<'_>,
    (from, to): (i64, i64),
    samples: u32,
) -> rusqlite::Result<Option<i64>> {
    transaction
        .prepare_cached(
            "SELECT key FROM sample WHERE key >= ?1 AND key < ?2
             ORDER BY key DESC LIMIT 1 OFFSET ?3",
        )?
        .query_row(params![from, to, samples.saturating_sub(1)], |row| {
            row.get(0)
        })
        .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stand_for_about_as_much_as_there_is() {
        const RECORDS: u64 = 1_000_000;
        const BYTES: u64 = 100;
        let mut sampler = Sampler::new(Some(1 << 30));
        let taken = (0..RECORDS).filter_map(|_| sampler.take(100));
        let all: u64 = taken.sum();
        let expected = RECORDS * BYTES;
        assert!(all.abs_diff(expected) < expected / 10, "{all}");
    }

    #[test]
    fn a_large_record_stands_for_itself_and_without_a_limit_none_does() {
        assert_eq!(Sampler::new(Some(1 << 30)).take(1 << 20), Some(1 << 20));
        assert_eq!(Sampler::new(Some(0)).take(1), Some(1));
        assert_eq!(Sampler::new(None).take(1 << 20), None);
    }

    #[test]
    fn owners_are_told_apart_and_records_without_a_key_have_one() {
        let owners = [None, Some(&b""[..]), Some(b"a"), Some(b"b")].map(owner);
        for (i, one) in owners.iter().enumerate() {
            assert!(!owners[i + 1..].contains(one));
        }
        assert_eq!(owner(None), owners[0]);
    }
}
