//! The oldest batch of a partition, and the oldest of those of all partitions, whatever clocks
//! said.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use crate::embedded::store::{MAX_OFFSET, key, unkey};
use crate::embedded::topics::{Partition, Topic};
use crate::embedded::writer::Shared;

/// The oldest batch of a partition.
pub(super) struct Oldest {
    pub(super) topic: Arc<Topic>,
    pub(super) place: usize,
    /// Offset of its first record.
    pub(super) base: u64,
    /// Offset behind its last record.
    pub(super) end: u64,
    /// What the clock said when it was appended, or what the one before it counted with, if that is
    /// later.
    pub(super) time_ms: i64,
    /// Earlier than `time_ms` where the clock was ahead then: the time of the first batch behind
    /// those.
    pub(super) counted_ms: i64,
    pub(super) pos: u64,
    pub(super) bytes: u64,
    /// What it was looked for with, see [`Wanted`].
    pub(super) removed_ms: i64,
}

impl Oldest {
    pub(super) fn partition(&self) -> &Partition {
        &self.topic.partitions[self.place]
    }

    /// Whether it was appended while the clock was ahead.
    fn is_ahead(&self) -> bool {
        self.counted_ms < self.time_ms
    }
}

/// The oldest of all that are asked for, and the time it counts with.
pub(super) fn oldest_of(all: &[Oldest], among: impl Fn(&Oldest) -> bool) -> Option<(usize, i64)> {
    // There is one clock: batches of all partitions that were appended while it was ahead are older
    // than what came when it was right again. Among themselves their times are right.
    let ahead = all.iter().filter(|oldest| oldest.is_ahead());
    let right_again_ms = ahead.map(|oldest| oldest.counted_ms).min();
    let order = |oldest: &Oldest| {
        let counted_ms = right_again_ms.filter(|_| oldest.is_ahead());
        (counted_ms.unwrap_or(oldest.time_ms), oldest.time_ms)
    };
    let asked = (0..all.len()).filter(|i| among(&all[*i]));
    let place = asked.min_by_key(|i| order(&all[*i]))?;
    Some((place, order(&all[place]).0))
}

/// Which partition's oldest batch is looked for.
pub(super) struct Wanted<'t> {
    pub(super) topic: &'t Arc<Topic>,
    pub(super) place: usize,
    /// What the batch before it counted with.
    pub(super) removed_ms: i64,
}

/// The oldest batch of a partition, unless the group that everything is kept for still wants it.
pub(super) fn oldest(
    shared: &Shared,
    connection: &Connection,
    now_ms: i64,
    wanted: &Wanted<'_>,
) -> rusqlite::Result<Option<Oldest>> {
    let id = wanted.topic.partitions[wanted.place].id;
    let mut row = connection
        .prepare_cached(
            "SELECT key, count, time_ms, pos, length(bytes) FROM batch WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1",
        )?
        .query_row(params![key(id, 0), key(id + 1, 0)], |row| {
            let base = unkey(row.get(0)?).1;
            Ok(Oldest {
                topic: Arc::clone(wanted.topic),
                place: wanted.place,
                base,
                end: base + row.get::<_, i64>(1)?.cast_unsigned(),
                time_ms: row.get::<_, i64>(2)?.max(wanted.removed_ms),
                counted_ms: 0,
                pos: row.get::<_, i64>(3)?.cast_unsigned(),
                bytes: row.get::<_, i64>(4)?.cast_unsigned(),
                removed_ms: wanted.removed_ms,
            })
        })
        .optional()?;
    if let Some(oldest) = &mut row {
        let behind_ms = first_before(connection, id, oldest)?.unwrap_or(oldest.time_ms);
        oldest.counted_ms = oldest
            .time_ms
            .min(now_ms)
            .min(behind_ms.max(wanted.removed_ms));
    }
    let (Some(oldest), Some(group)) = (&row, &shared.options.retain_for_group) else {
        return Ok(row);
    };
    let committed = committed(connection, group, id)?;
    let is_done = committed.is_some_and(|offset| offset >= oldest.end);
    Ok(row.filter(|_| is_done))
}

/// How far a group is in a partition.
pub(super) fn committed(
    connection: &Connection,
    group: &str,
    id: u64,
) -> rusqlite::Result<Option<u64>> {
    let committed: Option<i64> = connection
        .prepare_cached(
            "SELECT offset FROM committed WHERE consumer_group = ?1 AND partition_id = ?2",
        )?
        .query_row(params![group, id.cast_signed()], |row| row.get(0))
        .optional()?;
    Ok(committed.map(i64::cast_unsigned))
}

/// The time of the first batch behind the oldest that is earlier: the clock was set back there.
/// `None`: the last one is not, either the clock never was, or what it said then has passed.
fn first_before(
    connection: &Connection,
    id: u64,
    oldest: &Oldest,
) -> rusqlite::Result<Option<i64>> {
    // The last batch that begins at an offset or before it.
    let mut statement = connection.prepare_cached(
        "SELECT key, time_ms FROM batch WHERE key >= ?1 AND key <= ?2 ORDER BY key DESC LIMIT 1",
    )?;
    let mut batch_at = |offset: u64| {
        let range = params![key(id, oldest.end), key(id, offset)];
        let read = |row: &rusqlite::Row<'_>| Ok((unkey(row.get(0)?).1, row.get::<_, i64>(1)?));
        statement.query_row(range, read).optional()
    };
    let Some(mut found) = batch_at(MAX_OFFSET - 1)? else {
        return Ok(None);
    };
    if found.1 >= oldest.time_ms {
        return Ok(None);
    }
    // Up to here no batch is known to be earlier. The clock may have been ahead more than once: in
    // growing steps, the first place is found where it was right for as long as it was ahead.
    let mut low = oldest.end;
    let mut stride = 1;
    while low + stride < found.0 {
        match batch_at(low + stride)? {
            Some(batch) if batch.1 < oldest.time_ms => {
                found = batch;
                break;
            }
            _ => low += stride + 1,
        }
        stride *= 2;
    }
    while low < found.0 {
        let middle = low.midpoint(found.0);
        match batch_at(middle)? {
            Some(batch) if batch.1 < oldest.time_ms => found = batch,
            _ => low = middle + 1,
        }
    }
    Ok(Some(found.1))
}
