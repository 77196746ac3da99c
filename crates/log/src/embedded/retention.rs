//! Removes the oldest batches: those that are too old, and those that are too much.
//!
//! A batch has the time of the clock when it was appended, and a clock may have been wrong. The
//! order within a partition is right whatever the clock said; across partitions a batch counts with
//! at most the time of what was appended behind it, and now ([`Oldest::counted_ms`]), and with at
//! least the time of what was removed before it. So no partition stands in for the others. How old
//! a batch is, the retention clock says ([`clock`]), which no clock that is set moves on at once.
//! Of too many bytes partitions lose that have more than their share ([`shares`]).

mod clock;
mod needed;
mod shares;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::store::{MAX_OFFSET, StoreError, key, unkey};
use super::topics::{Partition, Topic};
use super::writer::Shared;

use shares::Shares;

pub(super) use needed::Needed;

pub(super) use clock::{Now, RetentionClock};

/// Batches that one step removes at most: appends wait for it.
const BATCHES_PER_STEP: usize = 500;
/// Pages that one step gives back to the file system.
const PAGES_PER_STEP: u32 = 2000;
/// What a mark adds to the write-ahead file: a page.
const MARK_BYTES: u64 = 4096;

/// The oldest batch of a partition.
struct Oldest {
    topic: Arc<Topic>,
    place: usize,
    end: u64,
    /// What the clock said when it was appended, or what the one before it counted with, if that is
    /// later.
    time_ms: i64,
    /// Earlier than `time_ms` where the clock was ahead then: the time of the first batch behind
    /// those.
    counted_ms: i64,
    pos: u64,
    bytes: u64,
}

impl Oldest {
    fn partition(&self) -> &Partition {
        &self.topic.partitions[self.place]
    }

    /// Whether it was appended while the clock was ahead.
    fn is_ahead(&self) -> bool {
        self.counted_ms < self.time_ms
    }
}

/// What a step has done.
pub(super) struct Step {
    /// Bytes of the batches that were removed, and of the mark that was written.
    pub(super) bytes: u64,
    /// There may be more to remove.
    pub(super) is_more_due: bool,
}

/// Removes what is due, up to a bound.
pub(super) fn step(
    shared: &Shared,
    connection: &mut Connection,
    clock: &mut RetentionClock,
    now: Now,
) -> Result<Step, StoreError> {
    remove(shared, connection, clock, now).map_err(|error| shared.store.error("trim", &error))
}

fn remove(
    shared: &Shared,
    connection: &mut Connection,
    clock: &mut RetentionClock,
    now: Now,
) -> rusqlite::Result<Step> {
    let options = &shared.options;
    let now_ms = now.time_ms;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut parts = Shares::new(options.retention_bytes);
    let mut all = oldest_of_each(shared, &transaction, now_ms, &mut parts)?;
    let is_over = |parts: &Shares, all: &[Oldest]| oldest_of(all, |oldest| parts.is_over(oldest));
    if let Some((next, _)) = is_over(&parts, &all) {
        parts.warn_of((&transaction, &shared.topics.needed), &all[next])?;
    }
    let (mut cutoff_ms, mut marked_ms) = (i64::MIN, None);
    if let Some(age_ms) = options.retention_ms {
        let age_ms = i64::try_from(age_ms).unwrap_or(i64::MAX);
        let oldest_ms = all.iter().map(|oldest| oldest.counted_ms).min();
        let time_ms = clock.go_on(now, &transaction, age_ms, oldest_ms)?;
        cutoff_ms = time_ms.saturating_sub(age_ms);
        marked_ms = clock.write(&transaction)?;
    }
    let mut gone: Vec<(Oldest, i64)> = Vec::new();
    let mut unread_records = 0;
    while gone.len() < BATCHES_PER_STEP {
        let Some((mut i, mut counted_ms)) = oldest_of(&all, |_| true) else {
            break;
        };
        // A time that has passed is believed here: it was perhaps a later one that was behind.
        let is_too_old = all[i].time_ms.min(now_ms) < cutoff_ms
            || all[i].time_ms > now_ms && counted_ms < cutoff_ms;
        if !is_too_old && !parts.is_too_much() {
            break;
        }
        // What may not go yet counts, too: perhaps nobody who has more than a share has any other.
        if !is_too_old && let Some(over) = is_over(&parts, &all) {
            (i, counted_ms) = over;
        }
        let first = all.swap_remove(i);
        if let Some(unread) =
            shares::unread(&transaction, &shared.topics.needed, &first, first.end)?
        {
            let from = unread.from.max(first.partition().begin());
            unread_records += first.end.saturating_sub(from);
        }
        delete(&transaction, &first)?;
        parts.remove(&first);
        let wanted = Wanted {
            topic: &first.topic,
            place: first.place,
            removed_ms: counted_ms,
        };
        all.extend(oldest(shared, &transaction, now_ms, &wanted)?);
        gone.push((first, counted_ms));
    }
    transaction.commit()?;
    clock.marked(marked_ms);
    let counters = &shared.counters;
    let unread = &counters.removed_unread;
    unread.fetch_add(unread_records, Ordering::Relaxed);
    let mut removed_bytes = 0;
    let is_more_due = gone.len() >= BATCHES_PER_STEP;
    for (batch, counted_ms) in gone {
        let (partition, begin) = (batch.partition(), batch.end);
        let records = begin.saturating_sub(partition.begin());
        counters.removed.fetch_add(records, Ordering::Relaxed);
        removed_bytes += batch.bytes;
        partition.set_begin_pos(batch.pos + batch.bytes);
        partition.set_begin(begin);
        partition.set_removed_ms(counted_ms);
    }
    if removed_bytes > 0 {
        // It gives back a page for each row that is asked for.
        let mut vacuum =
            connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES_PER_STEP})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(Step {
        bytes: removed_bytes + marked_ms.map_or(0, |_| MARK_BYTES),
        is_more_due,
    })
}

/// The oldest batch of each partition that may go; `parts` gets the bytes of all.
fn oldest_of_each(
    shared: &Shared,
    transaction: &Transaction<'_>,
    now_ms: i64,
    parts: &mut Shares,
) -> rusqlite::Result<Vec<Oldest>> {
    let mut all = Vec::new();
    for topic in shared.topics.all() {
        for place in 0..topic.partitions.len() {
            let partition = &topic.partitions[place];
            parts.add(partition.id, partition.bytes());
            let removed_ms = topic.partitions[place].removed_ms();
            let wanted = Wanted {
                topic: &topic,
                place,
                removed_ms,
            };
            all.extend(oldest(shared, transaction, now_ms, &wanted)?);
        }
    }
    Ok(all)
}

/// Removes a batch from its partition.
fn delete(transaction: &Transaction<'_>, first: &Oldest) -> rusqlite::Result<()> {
    let (id, begin) = (first.partition().id, first.end);
    transaction
        .prepare_cached("DELETE FROM batch WHERE key >= ?1 AND key < ?2")?
        .execute(params![key(id, 0), key(id, begin)])?;
    transaction
        .prepare_cached("UPDATE partition SET begin = ?2, end = max(end, ?3) WHERE id = ?1")?
        .execute(params![
            id.cast_signed(),
            begin.cast_signed(),
            first.partition().end().cast_signed()
        ])?;
    Ok(())
}

/// The oldest of all that are asked for, and the time it counts with.
fn oldest_of(all: &[Oldest], among: impl Fn(&Oldest) -> bool) -> Option<(usize, i64)> {
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
struct Wanted<'t> {
    topic: &'t Arc<Topic>,
    place: usize,
    /// What the batch before it counted with.
    removed_ms: i64,
}

/// The oldest batch of a partition, unless the group that everything is kept for still wants it.
fn oldest(
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
                end: base + row.get::<_, i64>(1)?.cast_unsigned(),
                time_ms: row.get::<_, i64>(2)?.max(wanted.removed_ms),
                counted_ms: 0,
                pos: row.get::<_, i64>(3)?.cast_unsigned(),
                bytes: row.get::<_, i64>(4)?.cast_unsigned(),
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
    let committed: Option<i64> = connection
        .prepare_cached(
            "SELECT offset FROM committed WHERE consumer_group = ?1 AND partition_id = ?2",
        )?
        .query_row(params![group, id.cast_signed()], |row| row.get(0))
        .optional()?;
    let is_done = committed.is_some_and(|offset| offset.cast_unsigned() >= oldest.end);
    Ok(row.filter(|_| is_done))
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

#[cfg(test)]
mod tests;
