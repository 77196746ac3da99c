//! A topic that is removed with all that is in it, some batches at a time: appends wait for it.

use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::{Command, Writer};
use crate::LogError;
use crate::embedded::sample;
use crate::embedded::store::{StoreError, key, unkey};
use crate::embedded::topics::{Partition, Topic};

/// Batches that one step removes at most, of a MiB each at most.
const BATCHES_PER_STEP: u32 = 100;

/// How far the removal of a topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedded) enum Removal {
    /// There is no such topic.
    Unknown,
    /// More is there than one step removes.
    Begun,
    /// Nothing of it is left.
    Done,
}

/// A step that is asked for.
pub(in crate::embedded) struct RemoveTopic {
    pub(in crate::embedded) name: String,
    pub(in crate::embedded) reply: oneshot::Sender<Result<Removal, LogError>>,
}

impl Writer {
    /// Commits appends, and then makes a step of each removal: a topic goes behind what was
    /// appended to it before.
    pub(super) fn work(&mut self, mut commands: Vec<Command>) {
        let is_removal = |command: &mut Command| matches!(command, Command::RemoveTopic(_));
        let removals: Vec<Command> = commands.extract_if(.., is_removal).collect();
        if !commands.is_empty() {
            self.commit(commands);
        }
        for removal in removals {
            if let Command::RemoveTopic(asked) = removal {
                self.remove_topic(asked);
            }
        }
    }

    /// Makes one step, and answers.
    fn remove_topic(&mut self, asked: RemoveTopic) {
        let done = self.remove_some(&asked.name);
        if let Err(error) = &done {
            tracing::warn!(?error, topic = asked.name, "a topic could not be removed");
        }
        // Whoever has gone meanwhile needs no answer.
        let done = done.map_err(|error| self.shared.report(error));
        let _ = asked.reply.send(done);
        self.shared.commits.send_modify(|commits| *commits += 1);
    }

    fn remove_some(&mut self, name: &str) -> Result<Removal, StoreError> {
        let Some(topic) = self.shared.topics.get(name) else {
            return Ok(Removal::Unknown);
        };
        let Some(connection) = &mut self.connection else {
            return Err(StoreError::Log(LogError::Closed));
        };
        let store = &self.shared.store;
        let sql = |error: rusqlite::Error| store.error("remove a topic from", &error);
        if let Some(group) = &self.shared.options.retain_for_group
            && is_owed(connection, &topic, group).map_err(sql)?
        {
            let text = format!("the topic `{name}` has records that `{group}` has not got yet");
            return Err(StoreError::Log(LogError::Invalid(text)));
        }
        let removed = step(connection, &topic).map_err(sql)?;
        self.unchecked_bytes += removed.bytes;
        self.truncation.want(Instant::now());
        // Readers that have the topic in hand: its records are gone, and not damaged.
        for (place, begin, begin_pos) in removed.begins {
            topic.partitions[place].set_thinned(0);
            topic.partitions[place].set_begin_pos(begin_pos);
            topic.partitions[place].set_begin(begin);
        }
        if removed.is_all {
            self.shared.topics.remove(name);
            return Ok(Removal::Done);
        }
        Ok(Removal::Begun)
    }
}

/// Whether a group has not committed everything.
fn is_owed(connection: &Connection, topic: &Topic, group: &str) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT offset FROM committed WHERE consumer_group = ?1 AND partition_id = ?2",
    )?;
    for partition in &topic.partitions {
        let place = params![group, partition.id.cast_signed()];
        let committed: Option<i64> = statement.query_row(place, |row| row.get(0)).optional()?;
        let committed = committed.map_or(partition.begin(), i64::cast_unsigned);
        if committed < partition.end() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[derive(Default)]
struct Removed {
    is_all: bool,
    bytes: u64,
    /// Where partitions begin now: their place, offset and position.
    begins: Vec<(usize, u64, u64)>,
}

fn step(connection: &mut Connection, topic: &Topic) -> rusqlite::Result<Removed> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut removed = Removed::default();
    let mut left = BATCHES_PER_STEP;
    for (place, partition) in topic.partitions.iter().enumerate() {
        if left == 0 {
            break;
        }
        let batches = oldest(&transaction, partition, left)?;
        let Some((last, end, end_pos)) = batches.last().copied() else {
            continue;
        };
        transaction.execute(
            "DELETE FROM batch WHERE key >= ?1 AND key <= ?2",
            params![key(partition.id, 0), last],
        )?;
        sample::remove(&transaction, partition.id, end)?;
        // What is left counts as more than it is, until that is gone, too.
        transaction.execute(
            "DELETE FROM thinned WHERE partition_id = ?1",
            [partition.id.cast_signed()],
        )?;
        transaction.execute(
            "UPDATE partition SET begin = ?2, end = max(end, ?2) WHERE id = ?1",
            params![partition.id.cast_signed(), end.cast_signed()],
        )?;
        removed.bytes +=
            end_pos.saturating_sub(partition.end_pos().saturating_sub(partition.bytes()));
        left = left.saturating_sub(u32::try_from(batches.len()).unwrap_or(left));
        removed.begins.push((place, end, end_pos));
    }
    if left > 0 {
        for partition in &topic.partitions {
            let id = partition.id.cast_signed();
            transaction.execute("DELETE FROM committed WHERE partition_id = ?1", [id])?;
            transaction.execute("DELETE FROM partition WHERE id = ?1", [id])?;
        }
        transaction.execute("DELETE FROM topic WHERE name = ?1", [&*topic.name])?;
        removed.is_all = true;
    }
    transaction.commit()?;
    Ok(removed)
}

/// The oldest batches of a partition: key, offset and position behind each.
fn oldest(
    connection: &Connection,
    partition: &Partition,
    most: u32,
) -> rusqlite::Result<Vec<(i64, u64, u64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, count, pos + length(bytes) FROM batch
         WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3",
    )?;
    let range = params![key(partition.id, 0), key(partition.id + 1, 0), most];
    let rows = statement.query_map(range, |row| {
        let key: i64 = row.get(0)?;
        let end = unkey(key).1 + row.get::<_, i64>(1)?.cast_unsigned();
        Ok((key, end, row.get::<_, i64>(2)?.cast_unsigned()))
    })?;
    rows.collect()
}
