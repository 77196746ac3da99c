//! Writing down what has become of ranges.
//!
//! A row is claimed by one dispatcher, and no other one changes where it ends or whose it is. Where
//! a range of ours begins or grows, and another dispatcher has claimed its row since we were taken
//! for dead, or has begun one at the same place, that one goes on with the row: what ours holds
//! besides is a row of its own, known by where the other one ends. Such a range is delivered by
//! both up to there, which is at least once, and what is behind stays claimed by who delivers it.

use dovecast_dispatch::ledger::RangeId;

use super::claims::count;
use super::held::{Changed, Extent};
use super::record::Bound;
use crate::connection::Connection;
use crate::error::Result;
use crate::open::Store;

const GROW: &str = "INSERT INTO owed_range (endpoint_id, topic, part, start_offset, from_offset, to_offset, claimed_by, log) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (log, endpoint_id, topic, part, start_offset) \
    DO UPDATE SET claimed_by = excluded.claimed_by, to_offset = \
    CASE WHEN excluded.to_offset > owed_range.to_offset THEN excluded.to_offset ELSE owed_range.to_offset END \
    WHERE owed_range.claimed_by IS NULL OR owed_range.claimed_by = excluded.claimed_by RETURNING from_offset";
/// Where there is one of that name, it is read again from its start.
const BEGIN: &str = "INSERT INTO owed_range (endpoint_id, topic, part, start_offset, from_offset, to_offset, claimed_by, log) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (log, endpoint_id, topic, part, start_offset) \
    DO UPDATE SET claimed_by = excluded.claimed_by, from_offset = excluded.from_offset, to_offset = \
    CASE WHEN excluded.to_offset > owed_range.to_offset THEN excluded.to_offset ELSE owed_range.to_offset END \
    WHERE owed_range.claimed_by IS NULL OR owed_range.claimed_by = excluded.claimed_by RETURNING from_offset";
const ROW_END: &str = "SELECT to_offset FROM owed_range \
    WHERE endpoint_id = $1 AND topic = $2 AND part = $3 AND start_offset = $4 AND log = $5";
const PROGRESS: &str = "UPDATE owed_range SET from_offset = $5 \
    WHERE endpoint_id = $1 AND topic = $2 AND part = $3 AND start_offset = $4 AND log = $6 AND from_offset < $5";
/// Notes the progress of a range that we hold; the range is written anew where the database has
/// lost it.
const PROGRESS_HELD: &str = "INSERT INTO owed_range (endpoint_id, topic, part, start_offset, from_offset, log, to_offset, claimed_by) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (log, endpoint_id, topic, part, start_offset) \
    DO UPDATE SET from_offset = excluded.from_offset WHERE owed_range.from_offset < excluded.from_offset";
const END: &str = "DELETE FROM owed_range \
    WHERE endpoint_id = $1 AND topic = $2 AND part = $3 AND start_offset = $4 AND to_offset <= $5 AND log = $6";
/// A row that goes further than the range that we have taken it for: whoever asks gets the rest.
const LEAVE_REST: &str = "UPDATE owed_range SET claimed_by = NULL, \
    from_offset = CASE WHEN from_offset < $5 THEN $5 ELSE from_offset END \
    WHERE endpoint_id = $1 AND topic = $2 AND part = $3 AND start_offset = $4 AND log = $6 AND claimed_by = $7";
const UNWANTED_RANGE: &str = "DELETE FROM owed_range WHERE endpoint_id = $1 AND topic = $2 AND part = $3 \
    AND start_offset = $4 AND log = $5 AND NOT EXISTS (SELECT 1 FROM endpoint WHERE id = $1)";
const RELEASE: &str = "UPDATE owed_range SET claimed_by = NULL WHERE endpoint_id = $1 AND topic = $2 AND part = $3 \
    AND start_offset = $4 AND log = $5 AND claimed_by = $6";
/// Releases a range that we hold; the range is written anew where the database has lost it.
const RELEASE_HELD: &str = "INSERT INTO owed_range (endpoint_id, topic, part, start_offset, log, from_offset, to_offset) \
    VALUES ($1, $2, $3, $4, $5, $7, $8) ON CONFLICT (log, endpoint_id, topic, part, start_offset) \
    DO UPDATE SET claimed_by = NULL WHERE owed_range.claimed_by = $6";

/// How a range gets more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gets {
    /// The range begins, or is read again from its start.
    Begins,
    /// The range, which is held already, goes on to a later end.
    Grows,
}

/// A record of ranges that is being written.
pub(super) struct Ranges<'a> {
    store: &'a Store,
    us: String,
    log: String,
    /// What has become of ranges so far; what we hold of them when it is committed.
    pub(super) changed: Changed,
}

impl Store {
    pub(super) fn ranges(&self) -> Ranges<'_> {
        Ranges {
            store: self,
            us: self.dispatcher_id(),
            log: self.log.to_string(),
            changed: Changed::new(),
        }
    }
}

impl Ranges<'_> {
    /// What is known of a range, which may have lapsed.
    fn known(&self, id: &RangeId) -> Option<Extent> {
        let changed = self.changed.get(id).copied();
        changed.unwrap_or_else(|| self.store.held().known(id))
    }

    fn held(&self, id: &RangeId) -> Option<Extent> {
        self.known(id).filter(|extent| !extent.is_lapsed)
    }

    /// The row that a range is known by.
    fn row(&self, id: &RangeId) -> RangeId {
        row(id, self.known(id).map_or(id.start, |extent| extent.row))
    }

    /// A range begins, or begins anew.
    pub(super) async fn begin(
        &mut self,
        connection: &mut Connection,
        id: &RangeId,
        to: u64,
    ) -> Result<()> {
        self.get(connection, Gets::Begins, (id, to)).await
    }

    /// A range grows.
    pub(super) async fn grow(
        &mut self,
        connection: &mut Connection,
        id: &RangeId,
        to: u64,
    ) -> Result<()> {
        self.get(connection, Gets::Grows, (id, to)).await
    }

    /// Claims the row of a range, which goes so far now. Where it is another dispatcher's, what
    /// ours holds besides is a row of its own.
    async fn get(
        &mut self,
        connection: &mut Connection,
        gets: Gets,
        (id, to): (&RangeId, u64),
    ) -> Result<()> {
        let known = self.known(id).unwrap_or(Extent {
            from: id.start,
            to,
            row: id.start,
            is_lapsed: false,
        });
        let mut extent = Extent {
            to: known.to.max(to),
            is_lapsed: false,
            ..known
        };
        match gets {
            Gets::Begins => extent.from = extent.row,
            // What was there before others have finished, where its row is gone.
            Gets::Grows if known.is_lapsed => extent.from = known.to,
            Gets::Grows => {}
        }
        loop {
            if let Some(from) = self.try_grow(connection, gets, (id, &extent)).await? {
                extent.from = if known.is_lapsed {
                    from
                } else {
                    from.max(extent.from)
                };
                break;
            }
            let row_end = range(ROW_END, &row(id, extent.row)).bind(self.log.clone());
            let found = row_end.fetch_optional(&mut *connection).await?;
            let Some(found) = found else {
                // Gone at this moment.
                continue;
            };
            let end: u64 = count(&found, "to_offset")?;
            if end >= extent.to || end <= extent.row {
                // The other one has all of it.
                extent.is_lapsed = true;
                break;
            }
            extent.row = end;
            extent.from = extent.from.max(end);
        }
        self.changed.insert(id.clone(), Some(extent));
        Ok(())
    }

    /// Writes the row, unless another one has claimed it; gives where it begins.
    async fn try_grow(
        &mut self,
        connection: &mut Connection,
        gets: Gets,
        (id, extent): (&RangeId, &Extent),
    ) -> Result<Option<u64>> {
        let statement = match gets {
            Gets::Begins => BEGIN,
            Gets::Grows => GROW,
        };
        let grow = range(statement, &row(id, extent.row))
            .bind(offset(extent.from))
            .bind(offset(extent.to))
            .bind(self.us.clone())
            .bind(self.log.clone());
        let found = grow.fetch_optional(&mut *connection).await?;
        let from = found.map(|found| count(&found, "from_offset"));
        from.transpose()
    }

    pub(super) async fn progress(
        &mut self,
        connection: &mut Connection,
        id: &RangeId,
        from: u64,
    ) -> Result<()> {
        let held = self.held(id);
        let statement = held.map_or(PROGRESS, |_| PROGRESS_HELD);
        let mut progress = range(statement, &self.row(id))
            .bind(offset(from))
            .bind(self.log.clone());
        if let Some(extent) = held {
            progress = progress.bind(offset(extent.to)).bind(self.us.clone());
        }
        progress.execute(&mut *connection).await?;
        if let Some(extent) = self.known(id) {
            let from = extent.from.max(from);
            self.changed
                .insert(id.clone(), Some(Extent { from, ..extent }));
        }
        Ok(())
    }

    pub(super) async fn end(
        &mut self,
        connection: &mut Connection,
        id: &RangeId,
        to: u64,
    ) -> Result<()> {
        let row = self.row(id);
        let of_row = |statement| {
            range(statement, &row)
                .bind(offset(to))
                .bind(self.log.clone())
        };
        let is_all = self.known(id).is_some_and(|extent| extent.to <= to);
        of_row(END).execute(&mut *connection).await?;
        if is_all {
            let rest = of_row(LEAVE_REST).bind(self.us.clone());
            rest.execute(&mut *connection).await?;
            self.changed.insert(id.clone(), None);
        }
        Ok(())
    }

    pub(super) async fn unwanted(
        &mut self,
        connection: &mut Connection,
        id: &RangeId,
    ) -> Result<()> {
        let row = self.row(id);
        let of_row = |statement| range(statement, &row).bind(self.log.clone());
        of_row(UNWANTED_RANGE).execute(&mut *connection).await?;
        let release = of_row(RELEASE).bind(self.us.clone());
        release.execute(&mut *connection).await?;
        self.changed.insert(id.clone(), None);
        Ok(())
    }

    pub(super) async fn release(
        &mut self,
        connection: &mut Connection,
        id: &RangeId,
    ) -> Result<()> {
        let held = self.held(id);
        let statement = held.map_or(RELEASE, |_| RELEASE_HELD);
        let mut release = range(statement, &self.row(id))
            .bind(self.log.clone())
            .bind(self.us.clone());
        if let Some(extent) = held {
            release = release.bind(offset(extent.from)).bind(offset(extent.to));
        }
        release.execute(&mut *connection).await?;
        self.changed.insert(id.clone(), None);
        Ok(())
    }
}

pub(super) fn offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// The row of a range that is known by this start.
pub(super) fn row(id: &RangeId, start: u64) -> RangeId {
    RangeId {
        start,
        ..id.clone()
    }
}

/// A statement whose first values name a row.
pub(super) fn range(statement: &'static str, row: &RangeId) -> Bound<'static> {
    sqlx::query(statement)
        .bind(row.endpoint.to_string())
        .bind(row.topic.to_string())
        .bind(i64::from(row.partition))
        .bind(offset(row.start))
}
