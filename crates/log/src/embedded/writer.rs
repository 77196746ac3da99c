//! The one thread that writes: takes all that waits into one transaction, commits it, answers
//! everybody.
//!
//! Nobody is answered before the commit is on the disk, and after a failed commit nothing of it is
//! there. The thread ends when it is told to close; an error never ends it.

mod checkpoint;
mod command;
mod creation;
mod damage;
mod removal;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::{mpsc, watch};

use super::additions::{Additions, write_mark, write_positions};
use super::pool::Pool;
use super::queue::{Next, Queue};
use super::retention::{Now, Retention};
use super::stats::Counters;
use super::store::{Store, StoreError};
use super::together::Gathering;
use super::topics::Topics;
use super::window::Window;
use super::{EmbeddedOptions, load, marks, partition, retention, salvage};
use crate::{Appended, LineLimit, LogError, NewRecord, Refusal};

use checkpoint::Truncation;
pub(super) use command::Command;

pub(super) use removal::{Removal, RemoveTopic};

/// The WAL is brought into the file when so much was written since, or when nobody wants anything
/// for a while.
const CHECKPOINT_BYTES: u64 = 32 * 1024 * 1024;
/// What a commit writes besides batches: the pages of the trees that it changes.
const COMMIT_BYTES: u64 = 16 * 1024;
const IDLE: Duration = Duration::from_secs(1);
/// How often retention is looked at.
const RETENTION_INTERVAL: Duration = Duration::from_secs(10);

/// Every so many commits the ids that are not needed any more are removed.
const SEEN_TRIMMED: i64 = 64;
/// When there was more to remove than one step may.
const RETENTION_AGAIN: Duration = Duration::from_millis(20);

/// What the writer shares with the rest.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) options: Arc<EmbeddedOptions>,
    pub(super) topics: Arc<Topics>,
    pub(super) pool: Arc<Pool>,
    pub(super) counters: Arc<Counters>,
    /// Changes after each commit.
    pub(super) commits: watch::Sender<u64>,
    /// What was found to be wrong with the file; the writer looks at it about once a second.
    pub(super) damage: Arc<Mutex<Option<String>>>,
    pub(super) gathering: Arc<Gathering>,
}

/// The writer's own.
pub(super) struct Writer {
    pub(super) shared: Shared,
    /// `None`: the store could not be opened again after it was found damaged.
    connection: Option<Connection>,
    window: Window,
    next_partition_id: u64,
    round_robin: u32,
    unchecked_bytes: u64,
    /// Before then the damaged store is not copied again: that has just failed.
    heal_at: Option<Instant>,
    retention_at: Instant,
    retention: Retention,
    truncation: Truncation,
    full_lines: LineLimit,
    pub(super) room_lines: LineLimit,
}

impl Writer {
    /// Opens the store, or what can be saved of it, and fills in what `shared` says of it.
    pub(super) fn open(shared: Shared) -> Result<Self, LogError> {
        let mut writer = Self {
            window: Window::new(0),
            connection: None,
            next_partition_id: 0,
            round_robin: 0,
            unchecked_bytes: 0,
            heal_at: None,
            retention_at: Instant::now() + RETENTION_INTERVAL,
            retention: Retention::new(Now::read()),
            truncation: Truncation::default(),
            full_lines: LineLimit::default(),
            room_lines: LineLimit::default(),
            shared,
        };
        let path = writer.shared.store.path.clone();
        salvage::finish_or_forget(&path).map_err(|error| LogError::Io {
            doing: "open",
            place: path.display().to_string(),
            reason: error.to_string(),
        })?;
        if let Err(error) = writer.load() {
            writer.heal(error).map_err(|error| error.into_log(&path))?;
        }
        Ok(writer)
    }

    fn load(&mut self) -> Result<(), StoreError> {
        let connection = self.shared.store.open_writer()?;
        self.shared.store.check_size(&connection)?;
        let loaded = load::load(&self.shared, &connection)?;
        self.window = loaded.window;
        // Readers know topics by ids: not one of a topic that was removed meanwhile.
        self.next_partition_id = self.next_partition_id.max(loaded.next_partition_id);
        self.connection = Some(connection);
        Ok(())
    }

    /// Works until it is told to close.
    pub(super) fn run(mut self, commands: mpsc::Receiver<Command>) {
        let gathering = Arc::clone(&self.shared.gathering);
        let commit_records = self.shared.options.commit_records;
        let Ok(mut queue) = Queue::new(commands, gathering, commit_records) else {
            tracing::error!("the log's writer cannot start");
            return;
        };
        loop {
            match queue.next(IDLE) {
                Next::Commit(commands, closing) => {
                    self.work(commands);
                    if let Some(reply) = closing {
                        self.close();
                        let _ = reply.send(());
                        return;
                    }
                }
                Next::Over => return self.close(),
                Next::Idle => {
                    self.checkpoint();
                    self.truncate();
                }
            }
            self.heal_if_told();
            if self.truncation.is_overdue(Instant::now()) {
                self.truncate();
            }
            if Instant::now() >= self.retention_at {
                self.retain();
            }
        }
    }

    fn commit(&mut self, commands: Vec<Command>) {
        let commands = self.refuse_without_room(commands);
        if commands.is_empty() {
            return;
        }
        let started = Instant::now();
        let mut done = self.try_commit(&commands);
        if let Err(error @ StoreError::Damaged(_)) = done {
            done = self.heal(error).and_then(|()| self.try_commit(&commands));
        }
        let path = &self.shared.store.path;
        match done {
            Ok(appended) => {
                let counters = &self.shared.counters;
                counters.commits.fetch_add(1, Ordering::Relaxed);
                let is_probe = |command: &Command| matches!(command, Command::Probe { .. });
                let has_records = |done: &Appended| done.appended > 0;
                if appended.iter().any(has_records) || commands.iter().any(is_probe) {
                    counters.is_failing.store(false, Ordering::Relaxed);
                }
                counters.commit_us.record(started.elapsed());
                for (command, appended) in commands.into_iter().zip(appended) {
                    counters.count(&appended);
                    command.answer(Ok(appended));
                }
                self.unchecked_bytes += COMMIT_BYTES;
                self.shared.commits.send_modify(|commits| *commits += 1);
            }
            Err(error) => {
                self.shared.counters.failed();
                let error = error.into_log(path);
                for command in commands {
                    command.answer(Err(error.clone()));
                }
            }
        }
        if self.unchecked_bytes >= CHECKPOINT_BYTES {
            self.checkpoint();
        }
    }

    fn try_commit(&mut self, commands: &[Command]) -> Result<Vec<Appended>, StoreError> {
        if self.connection.is_none() {
            self.load()?;
        }
        let connection = self.connection.take();
        let mut connection = connection.ok_or(StoreError::Log(LogError::Closed))?;
        let done = self.transact(&mut connection, commands);
        self.connection = Some(connection);
        match done {
            Ok((additions, appended)) => {
                self.window.commit();
                self.publish(additions);
                Ok(appended)
            }
            Err(error) => {
                self.window.roll_back();
                Err(error)
            }
        }
    }

    fn transact(
        &mut self,
        connection: &mut Connection,
        commands: &[Command],
    ) -> Result<(Additions, Vec<Appended>), StoreError> {
        let store = self.shared.store.clone();
        let sql = |error: rusqlite::Error| store.error("append to", &error);
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(sql)?;
        let mut additions = Additions::new(self.shared.options.retention_bytes);
        let mut appended = Vec::with_capacity(commands.len());
        for command in commands {
            let done = match command {
                Command::Append { records, mark, .. } => self
                    .append(&transaction, &mut additions, records)
                    .and_then(|appended| {
                        write_mark(&transaction, mark.as_ref()).map(|()| appended)
                    }),
                Command::Commit {
                    group, positions, ..
                } => write_positions(&transaction, group, positions),
                Command::ForgetMark { name, .. } => transaction
                    .prepare_cached("DELETE FROM mark WHERE name = ?1")
                    .and_then(|mut statement| statement.execute([name]))
                    .map(|_| Appended::default()),
                Command::Probe { .. } => {
                    write_mark(&transaction, Some(&marks::probe())).map(|()| Appended::default())
                }
                Command::CreateTopics { names, .. } => self
                    .create_all(&transaction, &mut additions, names)
                    .map(|()| Appended::default()),
                Command::RemoveTopic(_) | Command::Close { .. } => Ok(Appended::default()),
            };
            appended.push(done.map_err(sql)?);
        }
        additions.write_open(&transaction).map_err(sql)?;
        self.write_window(&transaction).map_err(sql)?;
        transaction.commit().map_err(sql)?;
        Ok((additions, appended))
    }

    fn append(
        &mut self,
        transaction: &Transaction<'_>,
        additions: &mut Additions,
        records: &[NewRecord],
    ) -> rusqlite::Result<Appended> {
        let mut appended = Appended::default();
        let round = self.round_robin;
        self.round_robin = self.round_robin.wrapping_add(1);
        for (place, record) in records.iter().enumerate() {
            let Some(topic) = self.topic(transaction, additions, &record.topic)? else {
                appended.refused += 1;
                appended.refusals.push(Refusal {
                    place,
                    reason: "there are too many topics already".to_owned(),
                });
                continue;
            };
            if record
                .id
                .is_some_and(|id| !self.window.enter(&record.topic, record.key.as_deref(), id))
            {
                appended.duplicates += 1;
                continue;
            }
            let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            let number = match &record.key {
                Some(key) => partition::of_key(key, count),
                None => round % count.max(1),
            };
            additions.push(transaction, &topic, number, record)?;
            appended.appended += 1;
        }
        Ok(appended)
    }

    fn write_window(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let Some((seq, ids)) = self.window.row() else {
            return Ok(());
        };
        if seq % SEEN_TRIMMED == 0 {
            transaction
                .prepare_cached("DELETE FROM seen WHERE seq < ?1")?
                .execute([self.window.oldest_seq()])?;
        }
        transaction
            .prepare_cached("INSERT INTO seen (seq, ids) VALUES (?1, ?2)")?
            .execute(params![seq, ids])?;
        Ok(())
    }

    /// Shows readers what is committed.
    fn publish(&mut self, additions: Additions) {
        self.unchecked_bytes += additions.bytes;
        for (_, topic) in additions.new_topics {
            self.shared.topics.insert(topic);
        }
        for added in additions.partitions.into_values() {
            let partition = added.topic.partitions.get(added.number as usize);
            if let Some(partition) = partition {
                partition.set_end_pos(added.next_pos);
                partition.set_end(added.next_offset);
            }
        }
    }

    fn retain(&mut self) {
        self.retention_at = Instant::now() + RETENTION_INTERVAL;
        let Some(connection) = &mut self.connection else {
            return;
        };
        match retention::step(&self.shared, connection, &mut self.retention, Now::read()) {
            Ok(step) => {
                self.unchecked_bytes += step.bytes;
                if step.bytes > 0 {
                    self.truncation.want(Instant::now());
                }
                if step.is_more_due {
                    self.retention_at = Instant::now() + RETENTION_AGAIN;
                }
            }
            Err(error) => {
                let error = self.shared.report(error);
                let counters = &self.shared.counters;
                counters.retention_errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "old records could not be removed");
            }
        }
    }
}
