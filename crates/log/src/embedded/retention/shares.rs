//! Who loses records when all together are too many bytes: partitions that have more than their
//! share. Records of one key are in one partition, so who fills the log loses its own first. Within
//! a partition the key loses that has most of it ([`thinning`](super::thinning)).

use std::collections::HashMap;

use dovecast_event::brief;
use rusqlite::{OptionalExtension, Transaction, params};

use super::needed::Needed;
use super::oldest::Oldest;
use super::thinning::Heavy;
use crate::LineLimit;
use crate::embedded::sample;
use crate::embedded::store::key;

/// Part of the bytes that may be kept from which on it is looked at what goes next: nine in ten.
const NEARLY_FULL: (u64, u64) = (9, 10);
/// Part of the bytes that may be kept by which there may be more of them while records of one key
/// are looked for.
const FAR_TOO_MUCH: u64 = 4;
/// About records that go next and that a group has not read.
static LINES: LineLimit = LineLimit::a_minute(1);

/// Bytes of each partition, as batches of it are removed.
pub(super) struct Shares {
    limit: u64,
    bytes: HashMap<u64, u64>,
    total: u64,
}

/// What somebody has not got of a batch.
pub(super) struct Unread {
    /// Name of a consumer group, or of what is [`Needed`] besides.
    group: String,
    /// First offset that it has not read.
    pub(super) from: u64,
}

impl Shares {
    /// Shares of so many bytes; without a limit nothing is too much.
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self {
            limit: limit.unwrap_or(u64::MAX),
            bytes: HashMap::new(),
            total: 0,
        }
    }

    pub(super) fn add(&mut self, partition: u64, bytes: u64) {
        if bytes > 0 {
            self.bytes.insert(partition, bytes);
            self.total += bytes;
        }
    }

    pub(super) fn remove(&mut self, partition: u64, removed_bytes: u64) {
        self.total = self.total.saturating_sub(removed_bytes);
        if let Some(bytes) = self.bytes.get_mut(&partition) {
            *bytes = bytes.saturating_sub(removed_bytes);
        }
    }

    /// Bytes of a partition.
    pub(super) fn of(&self, partition: u64) -> u64 {
        self.bytes.get(&partition).copied().unwrap_or_default()
    }

    /// Bytes beyond what may be kept.
    pub(super) fn excess(&self) -> u64 {
        self.total.saturating_sub(self.limit)
    }

    /// Whether there are so many bytes more than may be kept that it does not matter whose they
    /// are.
    pub(super) fn is_far_too_much(&self) -> bool {
        self.excess() > self.limit / FAR_TOO_MUCH
    }

    /// Whether it is looked at what goes next.
    pub(super) fn is_nearly_full(&self) -> bool {
        let (part, of) = NEARLY_FULL;
        self.limit != u64::MAX && self.total >= self.limit / of * part
    }

    /// Whether there are more bytes than may be kept.
    pub(super) fn is_too_much(&self) -> bool {
        self.total > self.limit
    }

    /// Whether the partition of a batch has more than its share.
    pub(super) fn is_over(&self, oldest: &Oldest) -> bool {
        let parties = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX).max(1);
        let has = self.bytes.get(&oldest.partition().id);
        has.is_some_and(|has| *has > self.limit / parties)
    }

    /// What was not read by a group of what goes next, or behind less than there is room for: one
    /// step may remove more than one batch, and what was read goes before it. `heavy`: whose
    /// records go next, where it is not all records of the partition.
    pub(super) fn unread_soon(
        &self,
        (transaction, needed): (&Transaction<'_>, &Needed),
        next: &Oldest,
        heavy: Option<Heavy>,
    ) -> rusqlite::Result<Option<Unread>> {
        let partition = next.partition();
        let Some(unread) = unread(transaction, needed, next, partition.end())? else {
            return Ok(None);
        };
        // Who is hardly behind is far from it, however little there is.
        let soon = |bytes: u64| (self.limit / NEARLY_FULL.1).min(bytes / 2);
        let is_soon = if let Some(heavy) = heavy {
            let owner = (partition.id, heavy.owner);
            let before = sample::bytes_before(transaction, owner, unread.from)?;
            before <= soon(heavy.bytes)
        } else {
            let pos = position(transaction, partition.id, unread.from)?;
            let soon = soon(self.of(partition.id));
            // What is gone from between may all be before it.
            let begin = next.pos + partition.thinned();
            pos.is_none_or(|pos| pos.saturating_sub(begin) <= soon)
        };
        Ok(is_soon.then_some(unread))
    }

    /// Warns that this goes next.
    pub(super) fn warn_of(&self, next: &Oldest, unread: &Unread) {
        if LINES.take() {
            tracing::warn!(
                topic = &*next.topic.name,
                partition = next.place,
                group = brief(&unread.group),
                committed = unread.from,
                stored_bytes = self.total,
                retention_bytes = self.limit,
                "the log is nearly as large as it may be, and soon removes what was not delivered yet"
            );
        }
    }
}

/// Where in its partition the batch begins that has this offset; `None`: there is none.
fn position(
    transaction: &Transaction<'_>,
    partition: u64,
    offset: u64,
) -> rusqlite::Result<Option<u64>> {
    transaction
        .prepare_cached(
            "SELECT pos FROM batch WHERE key >= ?1 AND key <= ?2 ORDER BY key DESC LIMIT 1",
        )?
        .query_row(params![key(partition, 0), key(partition, offset)], |row| {
            Ok(row.get::<_, i64>(0)?.cast_unsigned())
        })
        .optional()
}

/// What before `end`, in the partition of a batch that is its oldest, was not read by a consumer
/// group, or is needed besides; of several that which is furthest behind.
pub(super) fn unread(
    transaction: &Transaction<'_>,
    needed: &Needed,
    batch: &Oldest,
    end: u64,
) -> rusqlite::Result<Option<Unread>> {
    let partition = batch.partition();
    let of_groups = transaction
        .prepare_cached(
            "SELECT consumer_group, offset FROM committed WHERE partition_id = ?1 AND offset < ?2 ORDER BY offset LIMIT 1",
        )?
        .query_row(
            params![partition.id.cast_signed(), end.cast_signed()],
            |row| {
                Ok(Unread {
                    group: row.get(0)?,
                    from: row.get::<_, i64>(1)?.cast_unsigned(),
                })
            },
        )
        .optional()?;
    let besides = needed.of(&batch.topic.name, partition.number, partition.begin()..end);
    let besides = besides.map(|(who, from)| Unread { group: who, from });
    Ok(of_groups
        .into_iter()
        .chain(besides)
        .min_by_key(|unread| unread.from))
}
