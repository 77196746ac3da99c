//! The statements that write ranges, one or many.

use dovecast_dispatch::ledger::RangeId;

use super::{Gets, offset};
use crate::deliveries::held::Extent;
use crate::statement::Statement;

/// The columns of a range, in the order in which they are written.
const INSERT: &str = "INSERT INTO owed_range (endpoint_id, topic, part, start_offset, from_offset, to_offset, claimed_by, log) VALUES ";
const CLAIM: &str = " ON CONFLICT (log, endpoint_id, topic, part, start_offset) \
    DO UPDATE SET claimed_by = excluded.claimed_by, to_offset = \
    CASE WHEN excluded.to_offset > owed_range.to_offset THEN excluded.to_offset ELSE owed_range.to_offset END";
/// Where there is one of that name, it is read again from its start.
const FROM_START: &str = ", from_offset = excluded.from_offset";
const IF_OURS: &str = " WHERE owed_range.claimed_by IS NULL OR owed_range.claimed_by = excluded.claimed_by \
    RETURNING endpoint_id, topic, part, start_offset, from_offset, to_offset";
pub(super) const ROW_END: &str = "SELECT to_offset FROM owed_range \
    WHERE endpoint_id = $1 AND topic = $2 AND part = $3 AND start_offset = $4 AND log = $5";
pub(super) const PROGRESS: &str = "UPDATE owed_range SET from_offset = $5 \
    WHERE endpoint_id = $1 AND topic = $2 AND part = $3 AND start_offset = $4 AND log = $6 AND from_offset < $5";
/// Notes the progress of ranges that we hold; they are written anew where the database has lost
/// them.
pub(super) const MOVE_ON: &str = " ON CONFLICT (log, endpoint_id, topic, part, start_offset) \
    DO UPDATE SET from_offset = excluded.from_offset WHERE owed_range.from_offset < excluded.from_offset";
/// A row that goes further than the range that we have taken it for: whoever asks gets the rest.
pub(super) const LEAVE_REST: &str = "UPDATE owed_range SET claimed_by = NULL, \
    from_offset = CASE WHEN from_offset < $5 THEN $5 ELSE from_offset END \
    WHERE endpoint_id = $1 AND topic = $2 AND part = $3 AND start_offset = $4 AND log = $6 AND claimed_by = $7";
pub(super) const UNWANTED_RANGE: &str = "DELETE FROM owed_range WHERE endpoint_id = $1 AND topic = $2 AND part = $3 \
    AND start_offset = $4 AND log = $5 AND NOT EXISTS (SELECT 1 FROM endpoint WHERE id = $1)";
pub(super) const RELEASE: &str = "UPDATE owed_range SET claimed_by = NULL WHERE endpoint_id = $1 AND topic = $2 AND part = $3 \
    AND start_offset = $4 AND log = $5 AND claimed_by = $6";
/// Releases ranges that we hold; they are written anew where the database has lost them.
pub(super) const LET_GO: &str = " ON CONFLICT (log, endpoint_id, topic, part, start_offset) \
    DO UPDATE SET claimed_by = NULL WHERE owed_range.claimed_by = ";

const ENDED: &str = "WITH ended (endpoint_id, topic, part, start_offset, to_offset) AS (VALUES ";
const DELETE: &str = ") DELETE FROM owed_range WHERE log = ";
const UP_TO: &str = " AND (endpoint_id, topic, part, start_offset) IN (SELECT endpoint_id, topic, part, start_offset FROM ended) \
    AND to_offset <= (SELECT ended.to_offset FROM ended WHERE ended.endpoint_id = owed_range.endpoint_id \
    AND ended.topic = owed_range.topic AND ended.part = owed_range.part AND ended.start_offset = owed_range.start_offset) \
    RETURNING endpoint_id, topic, part, start_offset, from_offset, to_offset";

/// Rows as they are inserted, claimed or not.
pub(super) fn insert(
    rows: &[(&RangeId, Extent)],
    claimed_by: Option<&str>,
    log: &str,
) -> Statement {
    let mut insert = Statement::new(INSERT);
    insert.bind_rows(rows, |insert, (row, extent)| {
        bind_row(insert, row)
            .bind_next(offset(extent.from))
            .bind_next(offset(extent.to))
            .bind_next(claimed_by.map(str::to_owned))
            .bind_next(log.to_owned());
    });
    insert
}

pub(super) fn claim(gets: Gets, rows: &[(&RangeId, Extent)], us: &str, log: &str) -> Statement {
    let mut claim = insert(rows, Some(us), log);
    claim.push(CLAIM);
    if gets == Gets::Begins {
        claim.push(FROM_START);
    }
    claim.push(IF_OURS);
    claim
}

/// Deletes rows that go no further than an offset each.
pub(super) fn end(rows: &[(&RangeId, u64)], log: &str) -> Statement {
    let mut end = Statement::new(ENDED);
    end.bind_rows(rows, |end, (row, to)| {
        bind_row(end, row).bind_next(offset(*to));
    });
    end.push(DELETE).bind(log.to_owned()).push(UP_TO);
    end
}

fn bind_row<'s>(statement: &'s mut Statement, row: &RangeId) -> &'s mut Statement {
    statement
        .bind(row.endpoint.to_string())
        .bind_next(row.topic.to_string())
        .bind_next(i64::from(row.partition))
        .bind_next(offset(row.start))
}
