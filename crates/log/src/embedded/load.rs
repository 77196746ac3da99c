//! Reads what is in a store when it is opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::store::{StoreError, key};
use super::topics::{Partition, Topic};
use super::window::Window;
use super::writer::Shared;

/// What only the writer needs to know.
pub(super) struct Loaded {
    pub(super) window: Window,
    pub(super) next_partition_id: u64,
}

/// Reads the topics, which take the place of those known, and the window of ids.
pub(super) fn load(shared: &Shared, connection: &Connection) -> Result<Loaded, StoreError> {
    read(shared, connection).map_err(|error| shared.store.error("read", &error))
}

fn read(shared: &Shared, connection: &Connection) -> rusqlite::Result<Loaded> {
    // A group may have committed of a topic that was removed; another topic gets those ids.
    connection.execute(
        "DELETE FROM committed WHERE partition_id NOT IN (SELECT id FROM partition)",
        [],
    )?;
    let mut by_topic: BTreeMap<Arc<str>, Vec<Partition>> = BTreeMap::new();
    let mut next_partition_id = 0;
    let mut statement = connection.prepare(
        "SELECT topic.name, partition.id, partition.number, partition.begin, partition.end
         FROM topic, partition WHERE partition.topic = topic.id ORDER BY topic.id, partition.number",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name: Arc<str> = row.get::<_, String>(0)?.into();
        let id = row.get::<_, i64>(1)?.cast_unsigned();
        let partition = Partition::new(id, row.get(2)?);
        set_bounds(connection, &partition, row.get(3)?, row.get(4)?)?;
        next_partition_id = next_partition_id.max(id + 1);
        by_topic.entry(name).or_default().push(partition);
    }
    let window = window(shared, connection)?;
    let topics = by_topic.into_iter().map(|(name, partitions)| {
        let topic = Topic { name, partitions };
        (Arc::clone(&topic.name), Arc::new(topic))
    });
    shared.topics.replace(topics.collect());
    Ok(Loaded {
        window,
        next_partition_id,
    })
}

/// From the first and the last batch, and from what the partition's row knows of batches that are
/// gone.
fn set_bounds(
    connection: &Connection,
    partition: &Partition,
    begin: i64,
    end: i64,
) -> rusqlite::Result<()> {
    let range = params![key(partition.id, 0), key(partition.id + 1, 0)];
    let first = connection
        .query_row(
            "SELECT key, pos FROM batch WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1",
            range,
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        )
        .optional()?;
    let last = connection
        .query_row(
            "SELECT key + count, pos + length(bytes) FROM batch WHERE key >= ?1 AND key < ?2 ORDER BY key DESC LIMIT 1",
            range,
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        )
        .optional()?;
    let offset = |key: i64| super::store::unkey(key).1;
    let end = last
        .map_or(0, |(key, _)| offset(key))
        .max(end.cast_unsigned());
    let begin = begin.cast_unsigned();
    partition.set_end(end);
    partition.set_begin(first.map_or(end, |(key, _)| offset(key).max(begin)));
    partition.set_end_pos(last.map_or(0, |(_, pos)| pos.cast_unsigned()));
    partition.set_begin_pos(first.map_or(0, |(_, pos)| pos.cast_unsigned()));
    let thinned: Option<i64> = connection
        .query_row(
            "SELECT bytes FROM thinned WHERE partition_id = ?1",
            [partition.id.cast_signed()],
            |row| row.get(0),
        )
        .optional()?;
    partition.set_thinned(thinned.map_or(0, i64::cast_unsigned));
    Ok(())
}

fn window(shared: &Shared, connection: &Connection) -> rusqlite::Result<Window> {
    let mut window = Window::new(shared.options.dedup_window());
    let mut statement = connection.prepare("SELECT seq, ids FROM seen ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        window.restore(row.get(0)?, row.get_ref(1)?.as_blob()?);
    }
    Ok(window)
}
