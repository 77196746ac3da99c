//! The partitions of a damaged store: what their rows, their batches, this process and the groups
//! know of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, params};

use crate::embedded::store::{key, unkey};
use crate::embedded::topics::Partition;
use crate::embedded::writer::Shared;

/// The highest end of a partition that anybody knows of: this process, or a group that has read so
/// far.
pub(super) fn known_end(shared: &Shared, old: &Connection, id: u64) -> u64 {
    let topics = shared.topics.all();
    let mut partitions = topics.iter().flat_map(|topic| &topic.partitions);
    let here = partitions.find(|partition| partition.id == id);
    let column = committed_column(old);
    let sql = format!("SELECT max(offset) FROM committed WHERE {column} = ?1");
    let committed: Option<i64> = old
        .query_row(&sql, [id.cast_signed()], |row| row.get(0))
        .unwrap_or_default();
    here.map_or(0, Partition::end)
        .max(committed.map_or(0, i64::cast_unsigned))
}

/// A topic has its partitions without gaps: those of which nothing is left are made anew, with the
/// id by which this process knows them, or else the next one that is free.
pub(super) fn fill_in_numbers(
    partitions: &mut BTreeMap<u64, SavedPartition>,
    known: impl Fn(&str, u32) -> Option<u64>,
    mut next_id: u64,
) {
    let mut topics: BTreeMap<Arc<str>, BTreeSet<u32>> = BTreeMap::new();
    for partition in partitions.values() {
        let numbers = topics.entry(Arc::clone(&partition.topic)).or_default();
        numbers.insert(partition.number);
    }
    for (topic, numbers) in topics {
        let last = numbers.last().copied().unwrap_or_default();
        for number in (0..last).filter(|number| !numbers.contains(number)) {
            let partition = SavedPartition {
                topic: Arc::clone(&topic),
                number,
                begin: 0,
                end: 0,
            };
            let its_own = known(&topic, number).filter(|id| !partitions.contains_key(id));
            let id = its_own.unwrap_or_else(|| {
                let free = next_id;
                next_id += 1;
                free
            });
            partitions.insert(id, partition);
        }
    }
}

/// The lowest id that was never one of a partition, as far as anybody knows: what groups have
/// committed of a partition that is lost must not count for another one, nor may a reader that has
/// it in hand read that. `at_least`: ids below it were given by this process.
pub(super) fn free_id(
    partitions: &BTreeMap<u64, SavedPartition>,
    old: &Connection,
    at_least: u64,
) -> u64 {
    let column = committed_column(old);
    let sql = format!("SELECT max({column}) FROM committed");
    let committed: Option<i64> = old
        .query_row(&sql, [], |row| row.get(0))
        .unwrap_or_default();
    let saved = partitions.last_key_value().map(|(id, _)| id + 1);
    let committed = committed.map(|id| id.cast_unsigned() + 1);
    at_least
        .max(saved.unwrap_or_default())
        .max(committed.unwrap_or_default())
}

/// The column of the table `committed` that holds the id of a partition.
fn committed_column(old: &Connection) -> &'static str {
    if is_version_1(old) {
        "part"
    } else {
        "partition_id"
    }
}

/// A partition, as its row or one of its batches says.
pub(super) struct SavedPartition {
    pub(super) topic: Arc<str>,
    pub(super) number: u32,
    pub(super) begin: i64,
    pub(super) end: i64,
}

impl SavedPartition {
    pub(super) fn write(&self, new: &Connection, id: u64) -> rusqlite::Result<()> {
        new.execute(
            "INSERT OR IGNORE INTO topic (name) VALUES (?1)",
            [&*self.topic],
        )?;
        new.execute(
            "INSERT OR IGNORE INTO partition (id, topic, number, begin, end)
             SELECT ?1, id, ?3, ?4, ?5 FROM topic WHERE name = ?2",
            params![
                id.cast_signed(),
                &*self.topic,
                self.number,
                self.begin,
                self.end
            ],
        )?;
        Ok(())
    }
}

/// Whether the damaged file was not altered yet: its tables have other names.
fn is_version_1(old: &Connection) -> bool {
    old.prepare("SELECT id FROM part").is_ok()
}

/// The partitions whose rows can be read.
pub(super) fn known_partitions(old: &Connection) -> BTreeMap<u64, SavedPartition> {
    let mut partitions = BTreeMap::new();
    let table = if is_version_1(old) {
        "part"
    } else {
        "partition"
    };
    let sql = format!(
        "SELECT partition.id, topic.name, partition.number, partition.begin, partition.end \
         FROM {table} AS partition, topic WHERE partition.topic = topic.id"
    );
    let Ok(mut statement) = old.prepare(&sql) else {
        return partitions;
    };
    let Ok(mut rows) = statement.query([]) else {
        return partitions;
    };
    while let Ok(Some(row)) = rows.next() {
        let read = || -> rusqlite::Result<(u64, SavedPartition)> {
            let partition = SavedPartition {
                topic: row.get::<_, String>(1)?.into(),
                number: row.get(2)?,
                begin: row.get(3)?,
                end: row.get(4)?,
            };
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), partition))
        };
        partitions.extend(read());
    }
    partitions
}

/// Tells which offsets are missing between batches; says how many.
pub(super) fn gaps(new: &Connection, id: u64, partition: &SavedPartition) -> rusqlite::Result<u64> {
    let mut statement = new
        .prepare_cached("SELECT key, count FROM batch WHERE key >= ?1 AND key < ?2 ORDER BY key")?;
    let mut rows = statement.query(params![key(id, 0), key(id + 1, 0)])?;
    let mut missing = 0;
    let mut expected = partition.begin.cast_unsigned();
    while let Some(row) = rows.next()? {
        let base = unkey(row.get(0)?).1;
        if expected < base {
            missing += base - expected;
            tracing::error!(
                topic = &*partition.topic,
                partition = partition.number,
                from = expected,
                to = base - 1,
                "offsets of the damaged log are lost"
            );
        }
        expected = base + row.get::<_, i64>(1)?.cast_unsigned();
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(number: u32) -> SavedPartition {
        SavedPartition {
            topic: Arc::from("events"),
            number,
            begin: 0,
            end: 0,
        }
    }

    fn check(known: Option<u64>, at_least: u64, expected: u64) {
        let old = Connection::open_in_memory().expect("a database");
        // Of a partition with the id 5 nothing but this is left.
        old.execute_batch(
            "CREATE TABLE committed (consumer_group TEXT, partition_id INTEGER, offset INTEGER);
             INSERT INTO committed VALUES ('g', 1, 7), ('g', 5, 400);",
        )
        .expect("a table");
        let mut partitions = BTreeMap::from([(1, saved(1))]);
        let next_id = free_id(&partitions, &old, at_least);
        let known = |topic: &str, number| known.filter(|_| (topic, number) == ("events", 0));
        fill_in_numbers(&mut partitions, known, next_id);
        let made = partitions.iter().find(|(_, made)| made.number == 0);
        assert_eq!(made.map(|(id, _)| *id), Some(expected), "{at_least}");
        assert_eq!(partitions.len(), 2);
    }

    #[test]
    fn a_partition_that_is_made_anew_has_no_id_of_another_one() {
        check(None, 0, 6);
        check(None, 9, 9);
        // This process knows which id it had.
        check(Some(0), 9, 0);
        // That id is another one's by what was saved.
        check(Some(1), 9, 9);
    }
}
