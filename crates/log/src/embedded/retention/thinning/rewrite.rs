//! A batch that is written anew without some of its records.

use std::ops::Range;
use std::sync::Arc;

use rusqlite::{OptionalExtension, Transaction, params};

use crate::embedded::batch::{self, Builder, Entry};
use crate::embedded::store::{key, unkey};
use crate::embedded::topics::Partition;

/// What a row costs besides its bytes, about: more of them have to be worth it.
const ROW_BYTES: usize = 64;
/// Bytes of a batch without records, at most: a checksum, a name, four numbers.
const MOST_EMPTY_BYTES: i64 = 300;

/// A row of the table `batch`.
pub(super) struct Row {
    pub(super) base: u64,
    pub(super) count: u64,
    time_ms: i64,
    pos: u64,
    pub(super) bytes: Vec<u8>,
}

impl Row {
    pub(super) fn end(&self) -> u64 {
        self.base + self.count
    }

    /// The batch of a partition that has an offset, or the next one behind it.
    pub(super) fn at(
        transaction: &Transaction<'_>,
        id: u64,
        offset: u64,
    ) -> rusqlite::Result<Option<Self>> {
        let before: Option<i64> = transaction
            .prepare_cached("SELECT max(key) FROM batch WHERE key >= ?1 AND key <= ?2")?
            .query_row(params![key(id, 0), key(id, offset)], |row| row.get(0))
            .optional()?
            .flatten();
        let behind = key(id + 1, 0);
        let row = Self::from(
            transaction,
            (before.unwrap_or(key(id, offset)), behind),
            None,
        )?;
        match row {
            Some(row) if row.end() <= offset => {
                Self::from(transaction, (key(id, offset), behind), None)
            }
            row => Ok(row),
        }
    }

    /// The first batch at or behind a place, before another one; with so many bytes at most.
    fn from(
        transaction: &Transaction<'_>,
        (from, to): (i64, i64),
        most_bytes: Option<i64>,
    ) -> rusqlite::Result<Option<Self>> {
        transaction
            .prepare_cached(
                "SELECT key, count, time_ms, pos, bytes FROM batch
                 WHERE key >= ?1 AND key < ?2 AND length(bytes) <= ?3 ORDER BY key LIMIT 1",
            )?
            .query_row(params![from, to, most_bytes.unwrap_or(i64::MAX)], |row| {
                Ok(Self {
                    base: unkey(row.get(0)?).1,
                    count: row.get::<_, i64>(1)?.cast_unsigned(),
                    time_ms: row.get(2)?,
                    pos: row.get::<_, i64>(3)?.cast_unsigned(),
                    bytes: row.get(4)?,
                })
            })
            .optional()
    }

    /// The batch at a place, if its records were removed.
    fn empty_at(transaction: &Transaction<'_>, place: i64) -> rusqlite::Result<Option<Self>> {
        let row = Self::from(transaction, (place, place + 1), Some(MOST_EMPTY_BYTES))?;
        Ok(row.filter(|row| matches!(batch::entries(&row.bytes), Ok(None))))
    }
}

/// What came of a batch.
pub(super) struct Rewritten {
    /// Offsets whose records are gone, in order.
    pub(super) removed: Vec<Range<u64>>,
    pub(super) removed_bytes: u64,
    pub(super) written_bytes: u64,
}

/// Records that are written as one batch.
struct Piece<'e> {
    base: u64,
    count: u64,
    /// None: they were removed.
    kept: &'e [Entry<'e>],
    time_ms: i64,
}

/// Writes a batch anew without the records that go, as one for each run of those that stay and of
/// those that go; `None`: that would take as much room.
pub(super) fn rewrite(
    transaction: &Transaction<'_>,
    (topic, partition): (&Arc<str>, &Partition),
    row: &Row,
    (entries, goes): (&[Entry<'_>], &[bool]),
) -> rusqlite::Result<Option<Rewritten>> {
    let mut pieces = Vec::new();
    let mut removed = Vec::new();
    let mut left = entries;
    let mut base = row.base;
    for run in goes.chunk_by(|one, next| one == next) {
        let (of_run, behind) = left.split_at(run.len());
        let count = run.len() as u64;
        let is_removed = run.contains(&true);
        if is_removed {
            removed.push(base..base + count);
        }
        pieces.push(Piece {
            base,
            count,
            kept: if is_removed { &[] } else { of_run },
            time_ms: row.time_ms,
        });
        left = behind;
        base += count;
    }
    let id = partition.id;
    let (mut first_pos, mut old_bytes, mut old_rows) = (row.pos, row.bytes.len(), 1);
    let mut replaced = (row.base, row.base);
    if let Some(piece) = pieces.first_mut()
        && piece.kept.is_empty()
        && let Some(before) = before(transaction, id, row.base)?
        && before.end() == row.base
    {
        (piece.base, piece.time_ms) = (before.base, before.time_ms);
        piece.count += before.count;
        (first_pos, replaced.0) = (before.pos, before.base);
        old_bytes += before.bytes.len();
        old_rows += 1;
    }
    if let Some(piece) = pieces.last_mut()
        && piece.kept.is_empty()
        && let Some(behind) = Row::empty_at(transaction, key(id, row.end()))?
    {
        piece.count += behind.count;
        replaced.1 = behind.base;
        old_bytes += behind.bytes.len();
        old_rows += 1;
    }
    let written: Vec<(Piece<'_>, Vec<u8>)> = pieces
        .into_iter()
        .map(|piece| {
            let bytes = piece.bytes(topic, partition.number);
            (piece, bytes)
        })
        .collect();
    let new_bytes: usize = written.iter().map(|(_, bytes)| bytes.len()).sum();
    let is_worth_it = new_bytes + written.len() * ROW_BYTES < old_bytes + old_rows * ROW_BYTES;
    if !is_worth_it || new_bytes >= old_bytes {
        return Ok(None);
    }
    replace(transaction, id, replaced, first_pos, &written)?;
    let removed_bytes = (old_bytes - new_bytes) as u64;
    transaction
        .prepare_cached(
            "INSERT INTO thinned (partition_id, bytes) VALUES (?1, ?2)
             ON CONFLICT (partition_id) DO UPDATE SET bytes = bytes + excluded.bytes",
        )?
        .execute(params![id.cast_signed(), removed_bytes.cast_signed()])?;
    Ok(Some(Rewritten {
        removed,
        removed_bytes,
        written_bytes: new_bytes as u64,
    }))
}

impl Piece<'_> {
    fn bytes(&self, topic: &Arc<str>, number: u32) -> Vec<u8> {
        if self.kept.is_empty() {
            return Builder::removed(topic, number, self.base, self.count).finish();
        }
        let mut builder = Builder::new(topic, number, self.base);
        self.kept.iter().for_each(|entry| builder.push_entry(entry));
        builder.finish()
    }
}

/// The batch before one, if its records were removed.
fn before(transaction: &Transaction<'_>, id: u64, base: u64) -> rusqlite::Result<Option<Row>> {
    let place: Option<i64> = transaction
        .prepare_cached("SELECT max(key) FROM batch WHERE key >= ?1 AND key < ?2")?
        .query_row(params![key(id, 0), key(id, base)], |row| row.get(0))
        .optional()?
        .flatten();
    match place {
        Some(place) => Row::empty_at(transaction, place),
        None => Ok(None),
    }
}

/// Writes batches in place of those whose first offsets are from one to another.
fn replace(
    transaction: &Transaction<'_>,
    id: u64,
    (from, to): (u64, u64),
    first_pos: u64,
    written: &[(Piece<'_>, Vec<u8>)],
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM batch WHERE key >= ?1 AND key <= ?2")?
        .execute(params![key(id, from), key(id, to)])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO batch (key, count, time_ms, pos, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut pos = first_pos;
    for (piece, bytes) in written {
        insert.execute(params![
            key(id, piece.base),
            piece.count.cast_signed(),
            piece.time_ms,
            pos.cast_signed(),
            bytes
        ])?;
        pos += bytes.len() as u64;
    }
    Ok(())
}
