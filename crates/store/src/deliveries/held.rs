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

use dovecast_dispatch::ledger::{Millis, OwedRange, RangeId};
use dovecast_log::LineLimit;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::ranges::{self, offset};
use super::record::Bound;
use crate::connection::{Connection, Line};
use crate::error::{Result, with_sources};
use crate::open::Store;
use crate::row;

/// A range that is claimed by us stays so; one that others have claimed since is theirs.
const HOLD: &str = "INSERT INTO owed_range (endpoint_id, topic, part, start_offset, from_offset, to_offset, claimed_by, log) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (log, endpoint_id, topic, part, start_offset) \
    DO UPDATE SET claimed_by = excluded.claimed_by, to_offset = \
    CASE WHEN excluded.to_offset > owed_range.to_offset THEN excluded.to_offset ELSE owed_range.to_offset END \
    WHERE owed_range.claimed_by IS NULL OR owed_range.claimed_by = excluded.claimed_by";
/// The first part of the name of what PostgreSQL writes to: another one after each failover, and
/// after a restore.
const TIMELINE: &str = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline";
/// Whether our role may ask for it: else the transaction would fail that asks.
const MAY_ASK: &str = "SELECT CASE WHEN has_function_privilege('pg_walfile_name(pg_lsn)', 'EXECUTE') \
    AND has_function_privilege('pg_current_wal_lsn()', 'EXECUTE') THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END AS may";
/// Nothing is said of a row that we have never written.
const NEVER: i64 = 0;
/// Ranges that are written again in one transaction.
const AT_A_TIME: usize = 500;

/// Time until what could not be written again is tried once more, at first: a database that has
/// just failed over is seldom ready at once. It doubles up to [`MAX_RETRY_DELAY`].
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// A database that refuses for long is asked so often: what is held is written again soon after it
/// takes it.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// Where a range that we work on begins and ends by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) from: u64,
    pub(super) to: u64,
    /// The start that its row is known by: another one than its own where another dispatcher has
    /// claimed the row of its own.
    pub(super) row: u64,
    /// Whether others may have claimed it since, because we were taken for dead: it is not written
    /// again, and begins at its end when it grows and its row is gone.
    pub(super) is_lapsed: bool,
}

/// What this process knows of what it has written.
#[derive(Debug, Default)]
pub(crate) struct Held {
    ranges: BTreeMap<RangeId, Extent>,
    /// Until when we live, as was last acknowledged.
    alive_until_ms: i64,
    timeline: Option<String>,
    /// What bounds the lines about our role, as long as it may not ask for it any more.
    refused: Option<LineLimit>,
    /// Whether a loss was seen, and nothing was done about it yet.
    has_lost: bool,
    /// Tasks that write again what we hold.
    holding: usize,
}

/// What becomes of the ranges of one record: `None`: held no more.
pub(super) type Changed = BTreeMap<RangeId, Option<Extent>>;

impl Held {
    /// Notes that the database has acknowledged that we live; `true`: something was lost before,
    /// and has to be written again from now on.
    fn lives(&mut self, now_ms: Millis, until_ms: Millis) -> bool {
        let before = std::mem::replace(&mut self.alive_until_ms, until_ms);
        let has_lost = std::mem::take(&mut self.has_lost);
        self.holding += usize::from(has_lost);
        // Who was taken for dead may have lost all it held to others, and what they have finished
        // must not come back. Where the database has lost something, it is better to come back.
        if before != NEVER && before < now_ms && self.holding == 0 {
            // What has lapsed before, and has not grown since, is not remembered for ever.
            self.ranges.retain(|_, extent| !extent.is_lapsed);
            for extent in self.ranges.values_mut() {
                extent.is_lapsed = true;
            }
        }
        has_lost
    }

    /// Logs now and then that the timeline of the database is not known any more.
    fn log_refused(&self) {
        if self.refused.as_ref().is_some_and(LineLimit::take) {
            tracing::warn!(
                "PostgreSQL does not let this role ask for its timeline any more (EXECUTE on pg_walfile_name and pg_current_wal_lsn): \
                 a failover that loses commits may not be noticed"
            );
        }
    }

    pub(super) fn claimed(&mut self, ranges: &[OwedRange]) {
        let extent = |range: &OwedRange| Extent {
            from: range.from,
            to: range.to,
            row: range.id.start,
            is_lapsed: false,
        };
        let ranges = ranges.iter().map(|range| (range.id.clone(), extent(range)));
        self.ranges.extend(ranges);
    }

    /// Holds nothing more: what was claimed is free.
    pub(super) fn forget(&mut self) {
        self.ranges.clear();
        self.alive_until_ms = NEVER;
        self.has_lost = false;
    }

    /// What is known of a range, whether we hold it still or not.
    pub(super) fn known(&self, id: &RangeId) -> Option<Extent> {
        self.ranges.get(id).copied()
    }

    /// The range that a row of ours is of: another one than its own where another dispatcher has
    /// claimed the row of that.
    pub(super) fn name_of(&self, row: RangeId) -> RangeId {
        let first = RangeId {
            start: 0,
            ..row.clone()
        };
        let of_partition = self.ranges.range(first..=row.clone());
        let mut ours = of_partition.rev();
        let named = ours.find(|(_, extent)| !extent.is_lapsed && extent.row == row.start);
        named.map_or(row, |(id, _)| id.clone())
    }

    /// Ranges of `ids` that we hold still.
    fn still(&self, ids: &[RangeId]) -> Vec<(RangeId, Extent)> {
        let extent = |id: &RangeId| Some((id.clone(), *self.ranges.get(id)?));
        let held = ids.iter().filter_map(extent);
        held.filter(|(_, extent)| !extent.is_lapsed).collect()
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

    /// Sees whether the database is not what it was: our row, which nobody else writes, is older
    /// than what was acknowledged, or what is written to has another name. It is remembered until
    /// something is done about it.
    pub(super) async fn look_for_losses(
        &self,
        connection: &mut Connection,
        alive_until_ms: Option<Millis>,
    ) -> Result<()> {
        let known = self.held().timeline.clone();
        let now = match &known {
            Some(_) if may_ask(connection).await? => {
                let found = sqlx::query(TIMELINE).fetch_one(connection).await?;
                Some(timeline(&found)?)
            }
            _ => None,
        };
        let mut held = self.held();
        let last = held.alive_until_ms;
        let is_older = alive_until_ms.is_none_or(|before| before < last);
        let is_another = now.is_some() && now != known;
        held.has_lost |= (last != NEVER && is_older) || is_another;
        held.timeline = now;
        if known.is_some() && held.timeline.is_none() {
            held.refused = Some(LineLimit::default());
            held.log_refused();
        }
        Ok(())
    }

    /// We live, and others know it. What was lost is written again.
    pub(super) fn lives(&self, now_ms: Millis, until_ms: Millis) {
        if self.held().lives(now_ms, until_ms) {
            tracing::error!(
                "the database has failed over or was restored: the claims of this process are stored again; if commits were lost, \
                 set the offsets of the group back to before that (operations.md)"
            );
            // Beats go on meanwhile.
            tokio::spawn(hold_again(self.clone()));
        }
    }

    /// Asks for the name of what is written to, where it is not known yet. What a service offers
    /// instead of a PostgreSQL may not know it.
    pub(super) async fn learn_timeline(&self) {
        if !self.database.is_postgres || self.held().timeline.is_some() {
            return;
        }
        // What fails here is asked for again by the next heartbeat.
        if let Ok(Some(found)) = self.ask_timeline().await {
            let mut held = self.held();
            (held.timeline, held.refused) = (Some(found), None);
            return;
        }
        self.held().log_refused();
    }

    /// `None`: our role may not ask.
    async fn ask_timeline(&self) -> Result<Option<String>> {
        let mut connection = self.database.pool.acquire().await?;
        if !may_ask(&mut connection).await? {
            return Ok(None);
        }
        let found = sqlx::query(TIMELINE).fetch_one(&mut connection).await?;
        Ok(Some(timeline(&found)?))
    }

    /// Writes what we hold as this dispatcher, unless another one has begun in this process. What
    /// is recorded meanwhile is recorded before a part or after it: what was released or has ended
    /// by then is not held any more.
    async fn hold_all(&self, us: &str) -> Result<usize> {
        let ids: Vec<RangeId> = self.held().ranges.keys().cloned().collect();
        let mut written = 0;
        for part in ids.chunks(AT_A_TIME) {
            let _writing = self.writing_ranges.lock().await;
            if self.dispatcher_id() != us {
                break;
            }
            let held = self.held().still(part);
            let mut tx = self.database.begin_writing_in(Line::Deliveries).await?;
            for (id, extent) in &held {
                self.hold(us, id, *extent).execute(&mut *tx).await?;
            }
            tx.commit().await?;
            written += held.len();
        }
        Ok(written)
    }

    fn hold(&self, us: &str, id: &RangeId, extent: Extent) -> Bound<'static> {
        ranges::range(HOLD, &ranges::row(id, extent.row))
            .bind(offset(extent.from))
            .bind(offset(extent.to))
            .bind(us.to_owned())
            .bind(self.log.to_string())
    }
}

async fn may_ask(connection: &mut Connection) -> Result<bool> {
    row::truth(&sqlx::query(MAY_ASK).fetch_one(connection).await?, "may")
}

fn timeline(found: &AnyRow) -> Result<String> {
    Ok(found.try_get("timeline")?)
}

/// Until it is done, or the store is closed.
async fn hold_again(store: Store) {
    let us = store.dispatcher_id();
    let mut delay = RETRY_DELAY;
    let lines = LineLimit::default();
    while !store.database.pool.is_closed() {
        match store.hold_all(&us).await {
            Ok(ranges) => {
                tracing::info!(ranges, "the claims of this process are stored again");
                break;
            }
            Err(error) => {
                if lines.take() {
                    let error = with_sources(&error);
                    tracing::warn!(
                        error,
                        "the claims of this process cannot be stored again; this is retried"
                    );
                }
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(MAX_RETRY_DELAY);
            }
        }
    }
    let mut held = store.held();
    held.holding = held.holding.saturating_sub(1);
}
