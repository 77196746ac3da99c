//! What one transaction adds: to each partition the rows of its records, marks, committed offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Transaction, params};

use super::Mark;
use super::batch::Builder;
use super::sample::{self, Sampler};
use super::store::{MAX_OFFSET, key};
use super::topics::Topic;
use crate::{Appended, NewRecord, now_ms};

/// A row is closed when its records take so much.
const ROW_BYTES: usize = 1024 * 1024;

/// A transaction in the making.
pub(super) struct Additions {
    sampler: Sampler,
    pub(super) new_topics: BTreeMap<Arc<str>, Arc<Topic>>,
    pub(super) partitions: BTreeMap<u64, PartitionAdditions>,
    pub(super) bytes: u64,
}

/// What a transaction adds to a partition.
pub(super) struct PartitionAdditions {
    pub(super) topic: Arc<Topic>,
    pub(super) number: u32,
    pub(super) next_offset: u64,
    pub(super) next_pos: u64,
    open: Option<Builder>,
}

impl Additions {
    /// Nothing yet, of a log that keeps so many bytes.
    pub(super) fn new(retention_bytes: Option<u64>) -> Self {
        Self {
            sampler: Sampler::new(retention_bytes),
            new_topics: BTreeMap::new(),
            partitions: BTreeMap::new(),
            bytes: 0,
        }
    }

    pub(super) fn push(
        &mut self,
        transaction: &Transaction<'_>,
        topic: &Arc<Topic>,
        number: u32,
        record: &NewRecord,
    ) -> rusqlite::Result<()> {
        let Some(partition) = topic.partitions.get(number as usize) else {
            return Ok(());
        };
        let added = self
            .partitions
            .entry(partition.id)
            .or_insert_with(|| PartitionAdditions {
                topic: Arc::clone(topic),
                number,
                next_offset: partition.end(),
                next_pos: partition.end_pos(),
                open: None,
            });
        let base = added.next_offset.min(MAX_OFFSET - 1);
        let builder = added
            .open
            .get_or_insert_with(|| Builder::new(&topic.name, number, base));
        let before = builder.len();
        builder.push(record);
        if let Some(bytes) = self.sampler.take(builder.len() - before) {
            let place = key(partition.id, added.next_offset);
            sample::write(transaction, place, record.key.as_deref(), bytes)?;
        }
        added.next_offset += 1;
        if builder.len() >= ROW_BYTES {
            self.bytes += added.write(transaction, partition.id)?;
        }
        Ok(())
    }

    pub(super) fn write_open(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for (id, added) in &mut self.partitions {
            self.bytes += added.write(transaction, *id)?;
        }
        Ok(())
    }
}

impl PartitionAdditions {
    /// Writes the open row; says how much that is.
    fn write(&mut self, transaction: &Transaction<'_>, id: u64) -> rusqlite::Result<u64> {
        let Some(builder) = self.open.take() else {
            return Ok(0);
        };
        let (base, count) = (builder.base, builder.count);
        let bytes = builder.finish();
        transaction
            .prepare_cached(
                "INSERT INTO batch (key, count, time_ms, pos, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                key(id, base),
                count.cast_signed(),
                now_ms(),
                self.next_pos.cast_signed(),
                bytes
            ])?;
        self.next_pos += bytes.len() as u64;
        Ok(bytes.len() as u64)
    }
}

pub(super) fn write_mark(
    transaction: &Transaction<'_>,
    mark: Option<&Mark>,
) -> rusqlite::Result<()> {
    let Some(mark) = mark else {
        return Ok(());
    };
    transaction
        .prepare_cached("INSERT OR REPLACE INTO mark (name, value) VALUES (?1, ?2)")?
        .execute(params![mark.name, mark.value.cast_signed()])
        .map(|_| ())
}

pub(super) fn write_positions(
    transaction: &Transaction<'_>,
    group: &str,
    positions: &[(u64, u64)],
) -> rusqlite::Result<Appended> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO committed (consumer_group, partition_id, offset) VALUES (?1, ?2, ?3)",
    )?;
    for (id, offset) in positions {
        statement.execute(params![group, id.cast_signed(), offset.cast_signed()])?;
    }
    Ok(Appended::default())
}
