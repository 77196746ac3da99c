//! One pass of retention, within one transaction: what goes, batch by batch, up to a bound.

use std::ops::Range;

use rusqlite::{OptionalExtension, Transaction, params};

use super::oldest::{Oldest, Wanted, oldest, oldest_of};
use super::shares::{self, Shares, Unread};
use super::thinning::{Thinned, ThinnedPartition, Thinning};
use super::{BATCHES_PER_STEP, BYTES_PER_STEP};
use crate::embedded::batch::Builder;
use crate::embedded::sample;
use crate::embedded::store::key;
use crate::embedded::writer::Shared;

/// A pass under way.
pub(super) struct Pass<'s> {
    shared: &'s Shared,
    transaction: &'s Transaction<'s>,
    now_ms: i64,
    thinning: Thinning<'s>,
    parts: Shares,
    /// The oldest batch of each partition that may go.
    all: Vec<Oldest>,
    gone: Vec<Gone>,
    unread_records: u64,
}

/// A batch that was removed.
pub(super) struct Gone {
    pub(super) batch: Oldest,
    /// The time it counted with.
    pub(super) counted_ms: i64,
    /// Records that were in it.
    pub(super) records: u64,
    /// Bytes that were gone already between it and the next one.
    pub(super) passed_bytes: u64,
}

/// What a pass has done, to be shown when it is committed.
pub(super) struct Done {
    pub(super) gone: Vec<Gone>,
    pub(super) thinned: Vec<ThinnedPartition>,
    pub(super) unread_records: u64,
    pub(super) is_more_due: bool,
}

/// What came of looking for one more.
enum Found {
    Removed,
    /// Nothing is due.
    Nothing,
    /// More is due than may be read in one pass.
    Later,
}

impl<'s> Pass<'s> {
    pub(super) fn new(
        shared: &'s Shared,
        transaction: &'s Transaction<'s>,
        now_ms: i64,
        thinning: Thinning<'s>,
    ) -> rusqlite::Result<Self> {
        let mut pass = Self {
            shared,
            transaction,
            now_ms,
            thinning,
            parts: Shares::new(shared.options.retention_bytes),
            all: Vec::new(),
            gone: Vec::new(),
            unread_records: 0,
        };
        for topic in shared.topics.all() {
            for (place, partition) in topic.partitions.iter().enumerate() {
                pass.parts.add(partition.id, partition.bytes());
                let wanted = Wanted {
                    topic: &topic,
                    place,
                    removed_ms: partition.removed_ms(),
                };
                pass.all
                    .extend(oldest(shared, transaction, now_ms, &wanted)?);
            }
        }
        pass.thinning.allow(pass.parts.excess());
        Ok(pass)
    }

    /// The time that the oldest batch counts with.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.all.iter().map(|oldest| oldest.counted_ms).min()
    }

    /// Warns where what goes next was not read.
    pub(super) fn warn(&mut self) -> rusqlite::Result<()> {
        if let Some((next, unread)) = self.unread_next()? {
            self.parts.warn_of(&self.all[next], &unread);
        }
        Ok(())
    }

    /// What goes next and was not read, and where the oldest batch of its partition is among all.
    pub(super) fn unread_next(&mut self) -> rusqlite::Result<Option<(usize, Unread)>> {
        if !self.parts.is_nearly_full() {
            return Ok(None);
        }
        // Where one partition has everything, none has more than its share before it is too much.
        let next = self.over().or_else(|| oldest_of(&self.all, |_| true));
        let Some((next, _)) = next else {
            return Ok(None);
        };
        let oldest = &self.all[next];
        let id = oldest.partition().id;
        let heavy = self.thinning.heaviest(id, self.parts.of(id))?;
        let needed = (self.transaction, &self.shared.topics.needed);
        let unread = self.parts.unread_soon(needed, oldest, heavy)?;
        Ok(unread.map(|unread| (next, unread)))
    }

    /// Removes what is older than a time, and what is too much.
    pub(super) fn remove(mut self, cutoff_ms: i64) -> rusqlite::Result<Done> {
        let mut is_later = false;
        while !self.is_enough() {
            match self.remove_one(cutoff_ms)? {
                Found::Removed => {}
                Found::Nothing => break,
                Found::Later => {
                    is_later = true;
                    break;
                }
            }
        }
        Ok(Done {
            is_more_due: is_later || self.is_enough(),
            gone: self.gone,
            thinned: self.thinning.done(),
            unread_records: self.unread_records,
        })
    }

    /// Whether a step removes no more.
    fn is_enough(&self) -> bool {
        let bytes: u64 = self.gone.iter().map(|gone| gone.batch.bytes).sum();
        self.gone.len() >= BATCHES_PER_STEP || bytes >= BYTES_PER_STEP
    }

    fn remove_one(&mut self, cutoff_ms: i64) -> rusqlite::Result<Found> {
        let Some((mut i, mut counted_ms)) = oldest_of(&self.all, |_| true) else {
            return Ok(Found::Nothing);
        };
        let first = &self.all[i];
        // A time that has passed is believed here: it was perhaps a later one that was behind.
        let is_too_old = first.time_ms.min(self.now_ms) < cutoff_ms
            || first.time_ms > self.now_ms && counted_ms < cutoff_ms;
        if !is_too_old && !self.parts.is_too_much() {
            return Ok(Found::Nothing);
        }
        let mut is_of_key = false;
        // What may not go yet counts, too: perhaps nobody who has more than a share has any other.
        if !is_too_old && let Some(over) = self.over() {
            (i, counted_ms) = over;
            match self.thin(i)? {
                Thinned::Records(_) => return Ok(Found::Removed),
                Thinned::Later if !self.parts.is_far_too_much() => return Ok(Found::Later),
                Thinned::Oldest => is_of_key = true,
                Thinned::Later | Thinned::Nobody => {}
            }
        }
        self.remove_oldest(i, counted_ms, is_of_key)?;
        Ok(Found::Removed)
    }

    /// The oldest batch of those partitions that have more than their share.
    fn over(&self) -> Option<(usize, i64)> {
        oldest_of(&self.all, |oldest| self.parts.is_over(oldest))
    }

    /// Removes records of the key that has most of a partition.
    fn thin(&mut self, i: usize) -> rusqlite::Result<Thinned> {
        let id = self.all[i].partition().id;
        let thinned = self.thinning.next(&self.all[i], self.parts.of(id))?;
        if let Thinned::Records(removed) = &thinned {
            self.parts.remove(id, removed.bytes);
            let first = self.all.swap_remove(i);
            self.count_unread(&first, &removed.offsets)?;
            // It may have been the first batch that was written anew.
            self.find_oldest(&first, first.removed_ms)?;
        }
        Ok(thinned)
    }

    fn remove_oldest(
        &mut self,
        i: usize,
        counted_ms: i64,
        is_of_key: bool,
    ) -> rusqlite::Result<()> {
        let first = self.all.swap_remove(i);
        let id = first.partition().id;
        let records = records(&first);
        if records > 0 {
            let offsets = first.base..first.end;
            self.count_unread(&first, std::slice::from_ref(&offsets))?;
        }
        if is_of_key && records > 0 {
            self.thinning.count(&first, records);
        }
        let passed_bytes = delete(self.transaction, &first)?;
        self.parts.remove(id, first.bytes);
        self.find_oldest(&first, counted_ms)?;
        self.gone.push(Gone {
            batch: first,
            counted_ms,
            records,
            passed_bytes,
        });
        Ok(())
    }

    /// The oldest batch that a partition has now may go next.
    fn find_oldest(&mut self, of: &Oldest, removed_ms: i64) -> rusqlite::Result<()> {
        let wanted = Wanted {
            topic: &of.topic,
            place: of.place,
            removed_ms,
        };
        let next = oldest(self.shared, self.transaction, self.now_ms, &wanted)?;
        self.all.extend(next);
        Ok(())
    }

    /// Counts what of some offsets was not read.
    fn count_unread(&mut self, of: &Oldest, offsets: &[Range<u64>]) -> rusqlite::Result<()> {
        let Some(end) = offsets.last().map(|last| last.end) else {
            return Ok(());
        };
        let needed = &self.shared.topics.needed;
        if let Some(unread) = shares::unread(self.transaction, needed, of, end)? {
            let unread = |offsets: &Range<u64>| {
                let from = offsets.start.max(unread.from);
                offsets.end.saturating_sub(from)
            };
            self.unread_records += offsets.iter().map(unread).sum::<u64>();
        }
        Ok(())
    }
}

/// Records in a batch: none where they were removed before.
fn records(batch: &Oldest) -> u64 {
    let count = batch.end - batch.base;
    let number = batch.partition().number;
    let removed = Builder::removed(&batch.topic.name, number, batch.base, count).finish();
    if removed.len() as u64 == batch.bytes {
        0
    } else {
        count
    }
}

/// Removes a batch from its partition; says how many bytes were gone between it and the next one.
fn delete(transaction: &Transaction<'_>, first: &Oldest) -> rusqlite::Result<u64> {
    let partition = first.partition();
    let (id, begin) = (partition.id, first.end);
    transaction
        .prepare_cached("DELETE FROM batch WHERE key >= ?1 AND key < ?2")?
        .execute(params![key(id, 0), key(id, begin)])?;
    sample::remove(transaction, id, begin)?;
    transaction
        .prepare_cached("UPDATE partition SET begin = ?2, end = max(end, ?3) WHERE id = ?1")?
        .execute(params![
            id.cast_signed(),
            begin.cast_signed(),
            partition.end().cast_signed()
        ])?;
    let next_pos: Option<i64> = transaction
        .prepare_cached("SELECT pos FROM batch WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1")?
        .query_row(params![key(id, begin), key(id + 1, 0)], |row| row.get(0))
        .optional()?;
    let next_pos = next_pos.map_or(first.pos + first.bytes, i64::cast_unsigned);
    let passed_bytes = next_pos.saturating_sub(first.pos + first.bytes);
    if passed_bytes > 0 {
        transaction
            .prepare_cached(
                "UPDATE thinned SET bytes = max(bytes - ?2, 0) WHERE partition_id = ?1",
            )?
            .execute(params![id.cast_signed(), passed_bytes.cast_signed()])?;
    }
    Ok(passed_bytes)
}
