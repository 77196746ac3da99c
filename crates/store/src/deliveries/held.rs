//! What this process has claimed and still works on, so that it can be written again where the
//! database has lost it.
//!
//! A PostgreSQL that fails over to a standby that lagged behind has lost its last commits, though
//! they were acknowledged. Deliveries that are owed singly are written whole whenever anything
//! becomes of them; ranges are kept here, and written again when the database is seen to have gone
//! back.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use dovecast_dispatch::work::ledger::{Happened, OwedRange, RangeId};
use sqlx::Row;

use super::record::{self, Bound};
use crate::error::{Result, with_sources};
use crate::open::Store;

/// A range that is claimed by us stays so; one that others have claimed since is theirs.
const HOLD: &str = "INSERT INTO owed_range (endpoint_id, topic, part, start_offset, from_offset, to_offset, claimed_by, log) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (log, endpoint_id, topic, part, start_offset) \
    DO UPDATE SET claimed_by = excluded.claimed_by, to_offset = \
    CASE WHEN excluded.to_offset > owed_range.to_offset THEN excluded.to_offset ELSE owed_range.to_offset END \
    WHERE owed_range.claimed_by IS NULL OR owed_range.claimed_by = excluded.claimed_by";
/// The first part of the name of what PostgreSQL writes to: another one after each failover, and
/// after a restore.
const TIMELINE: &str = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline";
/// Ranges that are written again in one transaction.
const AT_A_TIME: usize = 500;

/// Time until what could not be written again is tried once more: a database that has just failed
/// over is seldom ready at once.
const AGAIN: Duration = Duration::from_secs(1);

/// Where a range that we work on begins and ends by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// What this process knows of what it has written.
#[derive(Debug, Default)]
pub(crate) struct Held {
    ranges: BTreeMap<RangeId, Extent>,
    /// Until when we live, as was last acknowledged.
    alive_until_ms: i64,
    timeline: Option<String>,
}

/// What becomes of the ranges of one record: `None`: held no more.
pub(super) type Changed = BTreeMap<RangeId, Option<Extent>>;

impl Held {
    /// Remembers what was acknowledged; gives what was so before.
    pub(super) fn alive_until(&mut self, until_ms: i64) -> i64 {
        std::mem::replace(&mut self.alive_until_ms, until_ms)
    }

    pub(super) fn claimed(&mut self, ranges: &[OwedRange]) {
        let extent = |range: &OwedRange| Extent {
            from: range.from,
            to: range.to,
        };
        let ranges = ranges.iter().map(|range| (range.id.clone(), extent(range)));
        self.ranges.extend(ranges);
    }

    /// Holds nothing more: what was claimed is free.
    pub(super) fn forget(&mut self) {
        self.ranges.clear();
        self.alive_until_ms = 0;
    }

    /// How ranges are after this has happened.
    pub(super) fn after(&self, happened: &Happened) -> Changed {
        let mut changed = Changed::new();
        let now = |changed: &Changed, id: &RangeId| {
            let known = self.ranges.get(id).copied();
            changed.get(id).copied().unwrap_or(known)
        };
        for (id, to) in &happened.begun {
            let from = id.start;
            let to = now(&changed, id).map_or(*to, |extent| extent.to.max(*to));
            changed.insert(id.clone(), Some(Extent { from, to }));
        }
        for (id, to) in &happened.grown {
            let extent = now(&changed, id).unwrap_or(Extent {
                from: id.start,
                to: *to,
            });
            let to = extent.to.max(*to);
            changed.insert(id.clone(), Some(Extent { to, ..extent }));
        }
        for (id, from) in &happened.progress {
            if let Some(extent) = now(&changed, id) {
                let from = extent.from.max(*from);
                changed.insert(id.clone(), Some(Extent { from, ..extent }));
            }
        }
        for (id, to) in &happened.ended {
            if now(&changed, id).is_some_and(|extent| extent.to <= *to) {
                changed.insert(id.clone(), None);
            }
        }
        for id in happened.released.iter().chain(&happened.unwanted_ranges) {
            changed.insert(id.clone(), None);
        }
        changed
    }

    /// The extent of a range in a record, which may be released by it.
    pub(super) fn extent(&self, changed: &Changed, id: &RangeId) -> Option<Extent> {
        let known = self.ranges.get(id).copied();
        changed.get(id).copied().flatten().or(known)
    }

    /// A record was committed.
    pub(super) fn apply(&mut self, changed: Changed) {
        for (id, extent) in changed {
            match extent {
                Some(extent) => self.ranges.insert(id, extent),
                None => self.ranges.remove(&id),
            };
        }
    }
}

impl Store {
    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what we hold again where the database is not what it was, or may not be.
    pub(super) async fn look_for_losses(&self, has_lost: bool) {
        let timeline = self.timeline().await;
        let is_another = {
            let held = self.held();
            let both = timeline.as_ref().zip(held.timeline.as_ref());
            both.is_some_and(|(now, before)| now != before)
        };
        if timeline.is_some() {
            self.held().timeline = timeline;
        }
        if has_lost || is_another {
            tracing::error!(
                has_lost,
                "the database has been failed over or put back: what this process works on is written again; if commits were lost, \
                 set the offsets of the group back to before that (operations.md)"
            );
            // Beats go on meanwhile.
            tokio::spawn(hold_again(self.clone()));
        }
    }

    /// `None`: there is none, or it is not told.
    async fn timeline(&self) -> Option<String> {
        if !self.database.is_postgres {
            return None;
        }
        // What a service offers instead of a PostgreSQL may not know it.
        let found = sqlx::query(TIMELINE)
            .fetch_one(&self.database.pool)
            .await
            .ok()?;
        found.try_get("timeline").ok()
    }

    async fn hold_all(&self) -> Result<usize> {
        let ranges: Vec<(RangeId, Extent)> = {
            let held = self.held();
            held.ranges.clone().into_iter().collect()
        };
        for part in ranges.chunks(AT_A_TIME) {
            let mut tx = self.database.begin_writing().await?;
            for (id, extent) in part {
                self.hold(id, *extent).execute(&mut *tx).await?;
            }
            tx.commit().await?;
        }
        Ok(ranges.len())
    }

    fn hold(&self, id: &RangeId, extent: Extent) -> Bound<'static> {
        record::range(HOLD, id)
            .bind(record::offset(extent.from))
            .bind(record::offset(extent.to))
            .bind(self.dispatcher_id())
            .bind(self.log.to_string())
    }
}

/// Until it is done, or the store is closed.
async fn hold_again(store: Store) {
    while !store.database.pool.is_closed() {
        match store.hold_all().await {
            Ok(ranges) => {
                tracing::info!(ranges, "what this process works on is written again");
                return;
            }
            Err(error) => {
                let error = with_sources(&error);
                tracing::warn!(
                    error,
                    "what this process works on cannot be written again now"
                );
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
