//! Which key loses records within a partition that has more than its share: the one that has most
//! of it, if that is a good part. Batches are written anew without its oldest records.
//!
//! Who has most, samples say (`sample.rs`), and where its oldest records are. A batch that is
//! written anew becomes one for each run of records: those that stay are as they were, with their
//! offsets; of those that go a batch without records is left, which tells readers that they were
//! removed, and takes in its neighbours of the same kind. All of it is in the transaction of the
//! pass: after a crash it is there or not. The last batch of a partition is never written anew, so
//! there always are records behind those that are gone.

mod rewrite;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use rusqlite::{OptionalExtension, Transaction, params};

use super::oldest::{Oldest, committed};
use crate::LineLimit;
use crate::embedded::batch::{self, Entry};
use crate::embedded::sample;
use crate::embedded::store::{key, unkey};
use crate::embedded::topics::Topic;
use crate::embedded::writer::Shared;
use rewrite::Row;

/// Part of a partition from which on a key is what fills it: the eighth.
const HEAVY_PART: u64 = 8;
/// Part of a partition that goes at least before it is weighed anew.
const WEIGHED_PART: u64 = 32;
/// Bytes of batches that one pass reads, at least and at most; in between twice what is too much.
const READ_BYTES: Range<u64> = 4 * 1024 * 1024..64 * 1024 * 1024;
/// What a batch counts as that is smaller: it has to be found.
const LEAST_ROW_BYTES: u64 = 4096;
/// Samples before one of the key from which on its records are looked for: those before it are of
/// others, and so is nearly everything that they stand for.
const SAMPLES_BEFORE: u32 = 4;
/// Places that are remembered; without them some batches are read twice.
const MOST_CURSORS: usize = 4096;
/// Partitions that are named in the log at a time.
const MOST_TOLD: usize = 20;
/// About records of keys that are removed.
static LINES: LineLimit = LineLimit::a_minute(1);

/// A key that has most of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heavy {
    /// A hash of the key.
    pub(super) owner: i64,
    /// Bytes that it has, as samples say.
    pub(super) bytes: u64,
    /// Bytes that it may lose before the partition is weighed anew.
    left: u64,
}

/// How far the batches of a partition were looked through for the records of an owner.
#[derive(Default)]
pub(super) struct Cursors(HashMap<(u64, i64), u64>);

impl Cursors {
    fn set(&mut self, of: (u64, i64), offset: u64) {
        if self.0.len() >= MOST_CURSORS {
            self.0.clear();
        }
        self.0.insert(of, offset);
    }
}

/// What became of a partition.
pub(super) enum Thinned {
    /// No key has so much of it, or it has nothing that may go.
    Nobody,
    /// The oldest batch is the key's, or has no records any more: it goes as a whole.
    Oldest,
    /// Records are gone.
    Records(Removed),
    /// The pass has read as much as it may.
    Later,
}

/// Records that are gone.
pub(super) struct Removed {
    pub(super) bytes: u64,
    /// In order.
    pub(super) offsets: Vec<Range<u64>>,
}

/// What a pass has taken from keys of a partition.
pub(super) struct ThinnedPartition {
    pub(super) topic: Arc<Topic>,
    /// Which of the topic's partitions.
    pub(super) place: usize,
    /// Bytes that are gone from between batches.
    pub(super) bytes: u64,
    /// Bytes of batches that were written anew.
    pub(super) written_bytes: u64,
    /// Records that were removed.
    pub(super) records: u64,
}

/// What a pass knows of keys.
pub(super) struct Thinning<'s> {
    shared: &'s Shared,
    transaction: &'s Transaction<'s>,
    /// `None`: nothing is written anew.
    cursors: Option<&'s mut Cursors>,
    /// By partition; `None`: no key has so much of it.
    heaviest: HashMap<u64, Option<Heavy>>,
    /// Bytes of batches that may be read.
    left_bytes: u64,
    done: Vec<ThinnedPartition>,
}

impl<'s> Thinning<'s> {
    pub(super) fn new(
        shared: &'s Shared,
        transaction: &'s Transaction<'s>,
        cursors: Option<&'s mut Cursors>,
    ) -> Self {
        Self {
            shared,
            transaction,
            cursors,
            heaviest: HashMap::new(),
            left_bytes: 0,
            done: Vec::new(),
        }
    }

    /// Bytes of batches that may be read go by how many are too much.
    pub(super) fn allow(&mut self, excess_bytes: u64) {
        let wanted = excess_bytes.saturating_mul(2);
        self.left_bytes = wanted.clamp(READ_BYTES.start, READ_BYTES.end);
    }

    pub(super) fn done(self) -> Vec<ThinnedPartition> {
        self.done
    }

    /// The key that has most of a partition of so many bytes, if that is a good part.
    pub(super) fn heaviest(&mut self, id: u64, bytes: u64) -> rusqlite::Result<Option<Heavy>> {
        if self.cursors.is_none() {
            return Ok(None);
        }
        if let Some(known) = self.heaviest.get(&id) {
            return Ok(*known);
        }
        let heavy = weigh(&sample::heaviest(self.transaction, id)?, bytes);
        self.heaviest.insert(id, heavy);
        Ok(heavy)
    }

    /// Removes the oldest records of the key that has most of a partition, of one batch. `first`:
    /// the partition's oldest one.
    pub(super) fn next(&mut self, first: &Oldest, bytes: u64) -> rusqlite::Result<Thinned> {
        let id = first.partition().id;
        let Some(heavy) = self.heaviest(id, bytes)? else {
            return Ok(Thinned::Nobody);
        };
        let of = (id, heavy.owner);
        let known = self.cursors.as_ref().and_then(|cursors| cursors.0.get(&of));
        let mut cursor = known.map_or(first.base, |known| first.base.max(*known));
        let bounds = self.bounds(id)?;
        let behind = key(id + 1, 0);
        while let Some(place) =
            sample::first_of(self.transaction, heavy.owner, (key(id, cursor), behind))?
        {
            let sampled = unkey(place).1;
            let range = (key(id, cursor), place);
            if let Some(back) = sample::back(self.transaction, range, SAMPLES_BEFORE)? {
                cursor = unkey(back).1;
            }
            while let Some(row) = Row::at(self.transaction, id, cursor)?
                && row.base <= sampled
            {
                if row.base >= bounds.last || row.end() > bounds.committed {
                    return Ok(self.has_nothing(of));
                }
                if self.left_bytes == 0 {
                    self.remember(of, cursor);
                    return Ok(Thinned::Later);
                }
                let row_bytes = row.bytes.len() as u64;
                self.left_bytes = self
                    .left_bytes
                    .saturating_sub(row_bytes.max(LEAST_ROW_BYTES));
                cursor = row.end();
                match self.take_from(first, heavy.owner, &row)? {
                    Thinned::Nobody => {}
                    thinned => {
                        self.remember(of, cursor);
                        let removed_bytes = match &thinned {
                            Thinned::Records(removed) => removed.bytes,
                            _ => row_bytes,
                        };
                        self.spend(id, removed_bytes);
                        return Ok(thinned);
                    }
                }
            }
            cursor = cursor.max(sampled + 1);
        }
        Ok(self.has_nothing(of))
    }

    /// What goes of one batch.
    fn take_from(&mut self, first: &Oldest, owner: i64, row: &Row) -> rusqlite::Result<Thinned> {
        let is_first = row.base <= first.base;
        let entries = match batch::entries(&row.bytes) {
            Ok(Some(entries)) if entries.len() as u64 == row.count => entries,
            Ok(None) if is_first => return Ok(Thinned::Oldest),
            // Readers are told of what is damaged when they come to it.
            Ok(_) | Err(_) => return Ok(Thinned::Nobody),
        };
        let goes = owned(&entries, owner);
        if !goes.contains(&true) {
            return Ok(Thinned::Nobody);
        }
        if is_first && !goes.contains(&false) {
            return Ok(Thinned::Oldest);
        }
        let head = (&first.topic.name, first.partition());
        let Some(rewritten) = rewrite::rewrite(self.transaction, head, row, (&entries, &goes))?
        else {
            return Ok(Thinned::Nobody);
        };
        let id = first.partition().id;
        sample::remove_of(self.transaction, (id, owner), row.base..row.end())?;
        self.done.push(ThinnedPartition {
            topic: Arc::clone(&first.topic),
            place: first.place,
            bytes: rewritten.removed_bytes,
            written_bytes: rewritten.written_bytes,
            records: goes.iter().filter(|goes| **goes).count() as u64,
        });
        Ok(Thinned::Records(Removed {
            bytes: rewritten.removed_bytes,
            offsets: rewritten.removed,
        }))
    }

    /// Counts records of a key that went with a whole batch.
    pub(super) fn count(&mut self, batch: &Oldest, records: u64) {
        self.done.push(ThinnedPartition {
            topic: Arc::clone(&batch.topic),
            place: batch.place,
            bytes: 0,
            written_bytes: 0,
            records,
        });
    }

    fn bounds(&self, id: u64) -> rusqlite::Result<Bounds> {
        let last: Option<i64> = self
            .transaction
            .prepare_cached("SELECT max(key) FROM batch WHERE key >= ?1 AND key < ?2")?
            .query_row(params![key(id, 0), key(id + 1, 0)], |row| row.get(0))
            .optional()?
            .flatten();
        let committed = match &self.shared.options.retain_for_group {
            Some(group) => committed(self.transaction, group, id)?.unwrap_or_default(),
            None => u64::MAX,
        };
        Ok(Bounds {
            last: last.map_or(0, |last| unkey(last).1),
            committed,
        })
    }

    fn remember(&mut self, of: (u64, i64), cursor: u64) {
        if let Some(cursors) = &mut self.cursors {
            cursors.set(of, cursor);
        }
    }

    /// The key has lost so many bytes.
    fn spend(&mut self, id: u64, removed_bytes: u64) {
        if let Some(Some(heavy)) = self.heaviest.get_mut(&id) {
            heavy.left = heavy.left.saturating_sub(removed_bytes);
            if heavy.left == 0 {
                self.heaviest.remove(&id);
            }
        }
    }

    /// Nothing of the key may go now.
    fn has_nothing(&mut self, of: (u64, i64)) -> Thinned {
        if let Some(cursors) = &mut self.cursors {
            cursors.0.remove(&of);
        }
        self.heaviest.insert(of.0, None);
        Thinned::Nobody
    }
}

/// What of a partition may be written anew.
struct Bounds {
    /// Offset of the last batch, which stays.
    last: u64,
    /// Offset up to which the group that everything is kept for has it.
    committed: u64,
}

/// Whether the owner of most has so much of a partition that it fills it. `most`: who has most, and
/// who comes next.
fn weigh(most: &[(i64, u64)], partition_bytes: u64) -> Option<Heavy> {
    let (owner, bytes) = most.first().copied()?;
    let share = partition_bytes / HEAVY_PART;
    if bytes <= share {
        return None;
    }
    let next = most.get(1).map_or(0, |(_, bytes)| *bytes);
    let ahead = bytes.saturating_sub(next.max(share));
    Some(Heavy {
        owner,
        bytes,
        left: (ahead / 2).max(partition_bytes / WEIGHED_PART).max(1),
    })
}

/// Which records are an owner's.
fn owned(entries: &[Entry<'_>], owner: i64) -> Vec<bool> {
    let mut last: Option<(Option<&[u8]>, bool)> = None;
    let is_owned = |entry: &Entry<'_>| sample::owner(entry.key) == owner;
    let mut theirs = Vec::with_capacity(entries.len());
    for entry in entries {
        let is_owned = match last {
            Some((key, is_owned)) if key == entry.key => is_owned,
            _ => is_owned(entry),
        };
        last = Some((entry.key, is_owned));
        theirs.push(is_owned);
    }
    theirs
}

/// Records of keys that are removed and were not told of yet, by topic and partition.
#[derive(Default)]
pub(super) struct Told(BTreeMap<(Arc<str>, u32), u64>);

impl Told {
    /// Says in the log what was removed since it was said last, once a minute at most.
    pub(super) fn tell(&mut self, thinned: &[ThinnedPartition]) {
        for thinned in thinned {
            let number = thinned.topic.partitions[thinned.place].number;
            let place = (Arc::clone(&thinned.topic.name), number);
            *self.0.entry(place).or_default() += thinned.records;
        }
        if self.0.is_empty() || !LINES.take() {
            return;
        }
        for ((topic, partition), records) in std::mem::take(&mut self.0).into_iter().take(MOST_TOLD)
        {
            tracing::warn!(
                topic = &*topic,
                partition,
                records,
                "the log is as large as it may be: the oldest records of the key that has most of a partition were removed"
            );
        }
    }
}

#[cfg(test)]
mod tests;
