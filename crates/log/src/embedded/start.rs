//! Where a reader begins: at an end of a partition, or at a time.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::store::{key, unkey};
use super::topics::{Partition, Topic};
use super::writer::Shared;
use crate::{LogError, StartAt};

/// See [`Log::positions`](crate::Log::positions).
pub(super) async fn begin_at(
    shared: &Shared,
    topic: &Arc<Topic>,
    start: StartAt,
) -> Result<Vec<u64>, LogError> {
    let of_each = |offset: fn(&Partition, u64) -> u64, records| {
        let partitions = topic.partitions.iter();
        Ok(partitions.map(|one| offset(one, records)).collect())
    };
    let time_ms = match start {
        StartAt::Beginning => return of_each(|partition, _| partition.begin(), 0),
        StartAt::End => return of_each(|partition, _| partition.end(), 0),
        StartAt::Last(records) => {
            let last = |partition: &Partition, records| {
                let first = partition.end().saturating_sub(records);
                first.max(partition.begin())
            };
            return of_each(last, records);
        }
        StartAt::Time(time_ms) => time_ms,
    };
    let (shared, topic) = (shared.clone(), Arc::clone(topic));
    let pool = Arc::clone(&shared.pool);
    let search = pool.run(move || {
        let done = shared.pool.with(&shared.store, |connection| {
            let partitions = topic.partitions.iter();
            let found = partitions.map(|partition| first_since(connection, partition, time_ms));
            found
                .collect::<rusqlite::Result<Vec<u64>>>()
                .map_err(|error| shared.store.error("search", &error))
        });
        done.map_err(|error| shared.report(error))
    });
    search.await.map_err(|_| LogError::Closed)?
}

/// The offset of the first batch of this time or later. Times rise with offsets, but for a clock
/// that was set back.
fn first_since(
    connection: &Connection,
    partition: &Partition,
    time_ms: i64,
) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(
        "SELECT key, time_ms FROM batch WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1",
    )?;
    let (mut low, mut high) = (partition.begin(), partition.end());
    let mut first = high;
    while low < high {
        let middle = low + (high - low) / 2;
        let range = params![key(partition.id, middle), key(partition.id, first)];
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        match statement.query_row(range, row).optional()? {
            Some((at, time)) if i64::lt(&time, &time_ms) => low = unkey(at).1 + 1,
            Some((at, _)) => {
                first = unkey(at).1;
                high = middle;
            }
            None => high = middle,
        }
    }
    // The batch before may begin earlier and reach beyond, where retention has cut it.
    Ok(first.max(partition.begin()))
}
