//! Writing down what has become of ranges.
//!
//! A row is claimed by one dispatcher, and no other one changes where it ends or whose it is. Where
//! a range of ours begins or grows, and another dispatcher has claimed its row since we were taken
//! for dead, or has begun one at the same place, that one goes on with the row: what ours holds
//! besides is a row of its own, known by where the other one ends. Such a range is delivered by
//! both up to there, which is at least once, and what is behind stays claimed by who delivers it.

mod statements;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use dovecast_dispatch::ledger::RangeId;

use super::claims::count;
use super::held::{Changed, Extent};
use super::record::Bound;
use crate::connection::Connection;
use crate::error::Result;
use crate::open::Store;
use crate::statement::ROWS;
use statements::{
    LEAVE_REST, LET_GO, MOVE_ON, PROGRESS, RELEASE, ROW_END, UNWANTED_RANGE, claim, end, insert,
};

/// How a range gets more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gets {
    /// The range begins, or is read again from its start.
    Begins,
    /// The range, which is held already, goes on to a later end.
    Grows,
}

/// What has become of a range.
#[derive(Clone, Copy)]
pub(super) enum Became {
    /// Range that begins, or begins anew, and goes up to there.
    Begun(u64),
    /// Range that grows up to there.
    Grown(u64),
    /// Everything before is done.
    Moved(u64),
    /// Everything before is done, and it ends.
    Ended(u64),
    /// Range of an endpoint that is not known to us.
    Unwanted,
    /// Range that is claimed no longer.
    Released,
}

impl Became {
    /// The place in the order in which things are written that were said of one range.
    fn step(self) -> u8 {
        match self {
            Self::Begun(_) | Self::Grown(_) => 0,
            Self::Moved(_) => 1,
            Self::Ended(_) => 2,
            Self::Unwanted => 3,
            Self::Released => 4,
        }
    }
}

/// What is not written yet.
#[derive(Default)]
struct Said<'a> {
    begun: Vec<(&'a RangeId, u64)>,
    grown: Vec<(&'a RangeId, u64)>,
    moved: Vec<(&'a RangeId, u64)>,
    ended: Vec<(&'a RangeId, u64)>,
    unwanted: Vec<&'a RangeId>,
    released: Vec<&'a RangeId>,
    /// The step of what was said of each range last.
    steps: HashMap<&'a RangeId, u8>,
}

/// A record of ranges that is being written.
pub(super) struct Ranges<'a> {
    store: &'a Store,
    us: String,
    log: String,
    said: Said<'a>,
    /// What has become of ranges so far; what we hold of them when it is committed.
    pub(super) changed: Changed,
}

/// A range as it is to be, with what is known of it until now.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    id: &'a RangeId,
    known: Extent,
    extent: Extent,
}

impl Store {
    pub(super) fn ranges(&self) -> Ranges<'_> {
        Ranges {
            store: self,
            us: self.dispatcher_id(),
            log: self.log.to_string(),
            said: Said::default(),
            changed: Changed::new(),
        }
    }
}

impl<'a> Ranges<'a> {
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

    /// Something has become of a range. It is written with what becomes of others; what was said of
    /// this one before is written first, unless it comes first anyway.
    pub(super) async fn say(
        &mut self,
        connection: &mut Connection,
        id: &'a RangeId,
        became: Became,
    ) -> Result<()> {
        if self
            .said
            .steps
            .get(id)
            .is_some_and(|last| *last >= became.step())
        {
            self.write(connection).await?;
        }
        let said = &mut self.said;
        said.steps.insert(id, became.step());
        match became {
            Became::Begun(to) => said.begun.push((id, to)),
            Became::Grown(to) => said.grown.push((id, to)),
            Became::Moved(from) => said.moved.push((id, from)),
            Became::Ended(to) => said.ended.push((id, to)),
            Became::Unwanted => said.unwanted.push(id),
            Became::Released => said.released.push(id),
        }
        Ok(())
    }

    /// Writes what was said.
    pub(super) async fn write(&mut self, connection: &mut Connection) -> Result<()> {
        let said = std::mem::take(&mut self.said);
        self.get_all(connection, Gets::Begins, said.begun).await?;
        self.get_all(connection, Gets::Grows, said.grown).await?;
        self.move_on(connection, said.moved).await?;
        self.end(connection, said.ended).await?;
        for id in said.unwanted {
            self.unwanted(connection, id).await?;
        }
        self.release(connection, said.released).await
    }

    /// What a range is to be that begins or grows.
    fn wanted(&self, gets: Gets, id: &'a RangeId, to: u64) -> Wanted<'a> {
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
        Wanted { id, known, extent }
    }

    /// Ranges begin or grow.
    async fn get_all(
        &mut self,
        connection: &mut Connection,
        gets: Gets,
        ranges: Vec<(&'a RangeId, u64)>,
    ) -> Result<()> {
        let wanted = ranges.iter().map(|(id, to)| self.wanted(gets, id, *to));
        let wanted: Vec<_> = wanted
            .map(|wanted| (row(wanted.id, wanted.extent.row), wanted))
            .collect();
        for part in distinct(wanted) {
            let rows = part.iter().map(|(row, wanted)| (row, wanted.extent));
            let claim = claim(gets, &rows.collect::<Vec<_>>(), &self.us, &self.log);
            let found = claim.fetch_all(connection).await?;
            let found = found.iter().map(|found| {
                let range = super::claims::range(found)?;
                Ok((range.id, range.from))
            });
            let found: HashMap<RangeId, u64> = found.collect::<Result<_>>()?;
            for (row, wanted) in part {
                match found.get(&row) {
                    Some(from) => self.got(wanted, *from),
                    None => self.get(connection, gets, wanted).await?,
                }
            }
        }
        Ok(())
    }

    /// Claims the row of a range, which goes so far now. Where it is another dispatcher's, what
    /// ours holds besides is a row of its own.
    async fn get(
        &mut self,
        connection: &mut Connection,
        gets: Gets,
        mut wanted: Wanted<'_>,
    ) -> Result<()> {
        loop {
            let row = row(wanted.id, wanted.extent.row);
            let claim = claim(gets, &[(&row, wanted.extent)], &self.us, &self.log);
            if let Some(found) = claim.fetch_all(connection).await?.first() {
                self.got(wanted, count(found, "from_offset")?);
                return Ok(());
            }
            let row_end = range(ROW_END, &row).bind(self.log.clone());
            let found = row_end.fetch_optional(&mut *connection).await?;
            let Some(found) = found else {
                // Gone at this moment.
                continue;
            };
            let extent = &mut wanted.extent;
            let end: u64 = count(&found, "to_offset")?;
            if end >= extent.to || end <= extent.row {
                // The other one has all of it.
                extent.is_lapsed = true;
                self.changed.insert(wanted.id.clone(), Some(*extent));
                return Ok(());
            }
            extent.row = end;
            extent.from = extent.from.max(end);
        }
    }

    /// The row of a range is claimed, and begins there.
    fn got(&mut self, wanted: Wanted<'_>, from: u64) {
        let mut extent = wanted.extent;
        extent.from = if wanted.known.is_lapsed {
            from
        } else {
            from.max(extent.from)
        };
        self.changed.insert(wanted.id.clone(), Some(extent));
    }

    /// Everything of ranges is done that is before an offset each.
    async fn move_on(
        &mut self,
        connection: &mut Connection,
        ranges: Vec<(&RangeId, u64)>,
    ) -> Result<()> {
        let mut held = Vec::new();
        for (id, from) in ranges {
            if let Some(extent) = self.held(id) {
                held.push((self.row(id), Extent { from, ..extent }));
            } else {
                let progress = range(PROGRESS, &self.row(id)).bind(offset(from));
                let progress = progress.bind(self.log.clone());
                progress.execute(&mut *connection).await?;
            }
            if let Some(extent) = self.known(id) {
                let from = extent.from.max(from);
                self.changed
                    .insert(id.clone(), Some(Extent { from, ..extent }));
            }
        }
        for part in distinct(held) {
            let rows: Vec<_> = part.iter().map(|(row, extent)| (row, *extent)).collect();
            let mut progress = insert(&rows, Some(&self.us), &self.log);
            progress.push(MOVE_ON);
            progress.execute(connection).await?;
        }
        Ok(())
    }

    /// Ranges end.
    async fn end(
        &mut self,
        connection: &mut Connection,
        ranges: Vec<(&RangeId, u64)>,
    ) -> Result<()> {
        let ended = ranges.into_iter().map(|(id, to)| {
            let is_all = self.known(id).is_some_and(|extent| extent.to <= to);
            (self.row(id), (id, to, is_all))
        });
        for part in distinct(ended.collect()) {
            let rows: Vec<_> = part.iter().map(|(row, (_, to, _))| (row, *to)).collect();
            let gone = end(&rows, &self.log).fetch_all(connection).await?;
            let gone = gone.iter().map(|gone| Ok(super::claims::range(gone)?.id));
            let gone: HashSet<RangeId> = gone.collect::<Result<_>>()?;
            for (row, (id, to, _)) in part.iter().filter(|(_, (.., is_all))| *is_all) {
                if !gone.contains(row) {
                    let rest = range(LEAVE_REST, row).bind(offset(*to));
                    let rest = rest.bind(self.log.clone()).bind(self.us.clone());
                    rest.execute(&mut *connection).await?;
                }
                self.changed.insert((*id).clone(), None);
            }
        }
        Ok(())
    }

    async fn unwanted(&mut self, connection: &mut Connection, id: &RangeId) -> Result<()> {
        let row = self.row(id);
        let of_row = |statement| range(statement, &row).bind(self.log.clone());
        of_row(UNWANTED_RANGE).execute(&mut *connection).await?;
        let release = of_row(RELEASE).bind(self.us.clone());
        release.execute(&mut *connection).await?;
        self.changed.insert(id.clone(), None);
        Ok(())
    }

    async fn release(&mut self, connection: &mut Connection, ranges: Vec<&RangeId>) -> Result<()> {
        let mut held = Vec::new();
        for id in ranges {
            if let Some(extent) = self.held(id) {
                held.push((self.row(id), extent));
            } else {
                let release = range(RELEASE, &self.row(id)).bind(self.log.clone());
                let release = release.bind(self.us.clone());
                release.execute(&mut *connection).await?;
            }
            self.changed.insert(id.clone(), None);
        }
        for part in distinct(held) {
            let rows: Vec<_> = part.iter().map(|(row, extent)| (row, *extent)).collect();
            let mut release = insert(&rows, None, &self.log);
            release.push(LET_GO).bind(self.us.clone());
            release.execute(connection).await?;
        }
        Ok(())
    }
}

/// Parts of a list that one statement each may write: few enough, and no row twice.
fn distinct<T>(list: Vec<(RangeId, T)>) -> Vec<Vec<(RangeId, T)>> {
    let mut parts: Vec<Vec<(RangeId, T)>> = Vec::new();
    let mut rows = HashSet::new();
    for (row, of) in list {
        let is_full = parts.last().is_none_or(|part| part.len() >= ROWS);
        if is_full || rows.contains(&row) {
            parts.push(Vec::new());
            rows.clear();
        }
        rows.insert(row.clone());
        if let Some(part) = parts.last_mut() {
            part.push((row, of));
        }
    }
    parts
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
