//! Removes the oldest batches: those that are too old, and those that are too much.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::store::{StoreError, key, unkey};
use super::topics::{Partition, Topic};
use super::writer::Shared;

/// Batches that one step removes at most: appends wait for it.
const BATCHES_PER_STEP: usize = 500;
/// Pages that one step gives back to the file system.
const PAGES_PER_STEP: u32 = 2000;

/// The oldest batch of a partition.
struct Oldest {
    topic: Arc<Topic>,
    place: usize,
    end: u64,
    time_ms: i64,
    pos: u64,
    bytes: u64,
}

impl Oldest {
    fn partition(&self) -> &Partition {
        &self.topic.partitions[self.place]
    }
}

/// What a step has done.
pub(super) struct Step {
    /// Bytes of the batches that were removed.
    pub(super) bytes: u64,
    /// There may be more to remove.
    pub(super) is_more_due: bool,
}

/// Removes what is due, up to a bound.
pub(super) fn step(shared: &Shared, connection: &mut Connection) -> Result<Step, StoreError> {
    remove(shared, connection).map_err(|error| shared.store.error("trim", &error))
}

fn remove(shared: &Shared, connection: &mut Connection) -> rusqlite::Result<Step> {
    let options = &shared.options;
    let cutoff_ms = options.retention_ms.map_or(i64::MIN, |age_ms| {
        now_ms().saturating_sub(i64::try_from(age_ms).unwrap_or(i64::MAX))
    });
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut all = Vec::new();
    let mut total = 0;
    for topic in shared.topics.all() {
        for place in 0..topic.partitions.len() {
            total += topic.partitions[place].bytes();
            all.extend(oldest(shared, &transaction, &topic, place)?);
        }
    }
    let mut gone: Vec<(Oldest, u64)> = Vec::new();
    while gone.len() < BATCHES_PER_STEP {
        // The oldest of all; where the clock was set back, what says it is the oldest.
        let Some(i) = (0..all.len()).min_by_key(|i| all[*i].time_ms) else {
            break;
        };
        let is_too_old = all[i].time_ms < cutoff_ms;
        let is_too_much = options.retention_bytes.is_some_and(|bytes| total > bytes);
        if !is_too_old && !is_too_much {
            break;
        }
        let first = all.swap_remove(i);
        let (id, begin) = (first.partition().id, first.end);
        transaction
            .prepare_cached("DELETE FROM batch WHERE key >= ?1 AND key < ?2")?
            .execute(params![key(id, 0), key(id, begin)])?;
        transaction
            .prepare_cached("UPDATE part SET begin = ?2, end = max(end, ?3) WHERE id = ?1")?
            .execute(params![
                id.cast_signed(),
                begin.cast_signed(),
                first.partition().end().cast_signed()
            ])?;
        total = total.saturating_sub(first.bytes);
        all.extend(oldest(shared, &transaction, &first.topic, first.place)?);
        gone.push((first, begin));
    }
    transaction.commit()?;
    let mut step = Step {
        bytes: 0,
        is_more_due: gone.len() >= BATCHES_PER_STEP,
    };
    for (batch, begin) in gone {
        let partition = batch.partition();
        let records = begin.saturating_sub(partition.begin());
        shared
            .counters
            .removed
            .fetch_add(records, Ordering::Relaxed);
        step.bytes += batch.bytes;
        partition.set_begin_pos(batch.pos + batch.bytes);
        partition.set_begin(begin);
    }
    if step.bytes > 0 {
        // It gives back a page for each row that is asked for.
        let mut vacuum =
            connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES_PER_STEP})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(step)
}

/// The oldest batch of a partition, unless the group that everything is kept for still wants it.
fn oldest(
    shared: &Shared,
    connection: &Connection,
    topic: &Arc<Topic>,
    place: usize,
) -> rusqlite::Result<Option<Oldest>> {
    let id = topic.partitions[place].id;
    let row = connection
        .prepare_cached(
            "SELECT key, count, time_ms, pos, length(bytes) FROM batch WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1",
        )?
        .query_row(params![key(id, 0), key(id + 1, 0)], |row| {
            let base = unkey(row.get(0)?).1;
            Ok(Oldest {
                topic: Arc::clone(topic),
                place,
                end: base + row.get::<_, i64>(1)?.cast_unsigned(),
                time_ms: row.get(2)?,
                pos: row.get::<_, i64>(3)?.cast_unsigned(),
                bytes: row.get::<_, i64>(4)?.cast_unsigned(),
            })
        })
        .optional()?;
    let (Some(oldest), Some(group)) = (&row, &shared.options.retain_for_group) else {
        return Ok(row);
    };
    let committed: Option<i64> = connection
        .prepare_cached("SELECT offset FROM committed WHERE grp = ?1 AND part = ?2")?
        .query_row(params![group, id.cast_signed()], |row| row.get(0))
        .optional()?;
    let is_done = committed.is_some_and(|offset| offset.cast_unsigned() >= oldest.end);
    Ok(row.filter(|_| is_done))
}

pub(super) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
