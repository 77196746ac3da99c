//! The embedded log: one SQLite file in a directory that one process has.
//!
//! Appends of all tasks go to one thread ([`writer`]), which commits what waits in one transaction;
//! readers have connections of their own. Each commit adds one row per partition, which holds the
//! records as a checked batch ([`batch`]): why, and why SQLite, is in
//! docs/decisions/0001-embedded-log.md.

mod additions;
mod batch;
mod group;
mod load;
mod lock;
mod marks;
mod partition;
mod pool;
mod queue;
mod reader;
mod retention;
mod room;
mod salvage;
mod sample;
mod start;
mod stats;
mod store;
mod threads;
mod together;
mod topics;
mod upkeep;
mod window;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::params;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    Appended, GroupStatus, Log, LogError, NewRecord, Position, StartAt, TopicPartition, TopicStatus,
};
use group::Groups;
use lock::lock;
use store::Store;
use topics::Partition;
use upkeep::check_topic;
use writer::{Command, Shared, Writer};

pub use group::EmbeddedConsumer;
pub use reader::EmbeddedReader;
pub use stats::{COMMIT_BUCKETS_US, EmbeddedStats};
pub use together::Together;

/// Appends that wait for the writer; more wait for one of these places.
const WAITING: usize = 1024;

/// Progress of something outside the log, kept with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What it is about.
    pub name: String,
    /// How far that is.
    pub value: u64,
}

/// How an embedded log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Partitions of a topic that is made.
    pub partitions: u32,
    /// Topics there may be.
    pub max_topics: usize,
    /// Records older than this are removed. `None`: none are.
    pub retention_ms: Option<u64>,
    /// The oldest records are removed when all take more than this. `None`: none are.
    pub retention_bytes: Option<u64>,
    /// Nothing is removed that this group has not committed, however old or much it is.
    pub retain_for_group: Option<String>,
    /// A record is dropped if one of its id is among so many last ones.
    pub dedup_window_records: u64,
    /// Nothing is appended where the file system has less room left than so many bytes, or than a
    /// twentieth of it: what makes room in a log needs some itself.
    pub keep_free_bytes: u64,
    /// One transaction takes no further append when it has so many records.
    pub commit_records: usize,
    /// A reader gets about so much at a time.
    pub read_bytes: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            partitions: 4,
            max_topics: 1000,
            retention_ms: None,
            retention_bytes: None,
            retain_for_group: None,
            dedup_window_records: 262_144,
            keep_free_bytes: 64 * 1024 * 1024,
            commit_records: 50_000,
            read_bytes: 1024 * 1024,
        }
    }
}

impl EmbeddedOptions {
    fn dedup_window(&self) -> usize {
        usize::try_from(self.dedup_window_records).unwrap_or(usize::MAX)
    }
}

/// The embedded log; clones are the same log.
#[derive(Clone, Debug)]
pub struct Embedded {
    handle: Handle,
}

/// What readers and consumers need of the log.
#[derive(Clone, Debug)]
struct Handle {
    shared: Shared,
    commands: mpsc::Sender<Command>,
    groups: Arc<Groups>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// Other processes are kept out as long as this is open.
    _lock: Arc<File>,
}

impl Handle {
    async fn send(&self, command: Command) -> Result<(), LogError> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| LogError::Closed)
    }
}

impl Embedded {
    /// Opens the log in a directory, which is made if it is not there. May take a while after a
    /// crash, and longer if the store is damaged.
    pub fn open(dir: &Path, options: &EmbeddedOptions) -> Result<Self, LogError> {
        let lock = lock(dir)?;
        let shared = Shared {
            store: Store::in_dir(dir),
            options: Arc::new(options.clone()),
            topics: Arc::default(),
            pool: Arc::default(),
            counters: Arc::default(),
            commits: watch::Sender::new(0),
            damage: Arc::default(),
            gathering: Arc::default(),
        };
        let writer = Writer::open(shared.clone())?;
        let (commands, received) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run(received))
            .map_err(|error| io_error("start the writer of", dir, &error))?;
        Ok(Self {
            handle: Handle {
                shared,
                commands,
                groups: Arc::default(),
                thread: Arc::new(Mutex::new(Some(thread))),
                _lock: Arc::new(lock),
            },
        })
    }

    /// Appends records and sets a mark, both or none; `records` may be empty.
    pub async fn append_marked(
        &self,
        records: Vec<NewRecord>,
        mark: Mark,
    ) -> Result<Appended, LogError> {
        self.send_append(records, Some(mark), None).await
    }

    async fn send_append(
        &self,
        records: Vec<NewRecord>,
        mark: Option<Mark>,
        together: Option<Arc<Together>>,
    ) -> Result<Appended, LogError> {
        for record in &records {
            check_topic(&record.topic)?;
        }
        if records.is_empty() && mark.is_none() {
            return Ok(Appended::default());
        }
        let (reply, done) = oneshot::channel();
        let command = Command::Append {
            records,
            mark,
            reply,
        };
        self.handle.send(command).await?;
        // The writer knows of it.
        drop(together);
        done.await.map_err(|_| LogError::Closed)?
    }

    /// A consumer of all topics, of those that come later too.
    pub fn consumer_of_all(&self, group: &str) -> EmbeddedConsumer {
        EmbeddedConsumer::new(self.handle.clone(), group, None)
    }

    /// Says which offsets are still needed by others than consumer groups, in place of what was
    /// said before. They are removed in their time like others; what goes so counts as unread, and
    /// is warned of before. `who` is what the log line calls them.
    pub fn set_needed(
        &self,
        who: &str,
        offsets: impl IntoIterator<Item = (TopicPartition, Range<u64>)>,
    ) {
        self.handle.shared.topics.needed.set(who, offsets);
    }

    /// What was counted so far.
    pub fn stats(&self) -> EmbeddedStats {
        let shared = &self.handle.shared;
        let topics = shared.topics.all();
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        let thinned = topics.iter().map(|topic| {
            let records = topic.partitions.iter().map(Partition::thinned_records);
            (topic.name.to_string(), records.sum::<u64>())
        });
        EmbeddedStats {
            bytes: partitions.map(Partition::bytes).sum(),
            removed_of_keys: thinned.filter(|(_, records)| *records > 0).collect(),
            ..shared.counters.snapshot()
        }
    }

    /// Waits until the log takes nothing more: it is closed, or its writer has died.
    pub async fn ended(&self) {
        self.handle.commands.closed().await;
    }

    /// Waits until everything that was appended before is written, and closes the file. Appends
    /// fail from now on.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.handle.send(Command::Close { reply }).await.is_ok() {
            // An error means that it is closed already.
            let _ = done.await;
        }
        let mut thread = self
            .handle
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's writer has panicked");
        }
    }

    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LogError> {
        let shared = self.handle.shared.clone();
        let pool = Arc::clone(&shared.pool);
        let read = pool.run(move || {
            let done = shared.pool.with(&shared.store, |connection| {
                query(connection).map_err(|error| shared.store.error("read", &error))
            });
            done.map_err(|error| shared.report(error))
        });
        read.await.map_err(|_| LogError::Closed)?
    }
}

impl Log for Embedded {
    type Reader = EmbeddedReader;
    type Consumer = EmbeddedConsumer;

    async fn append(&self, records: Vec<NewRecord>) -> Result<Appended, LogError> {
        self.send_append(records, None, None).await
    }

    async fn topics(&self) -> Result<Vec<TopicStatus>, LogError> {
        Ok(self.handle.shared.topics.status())
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>, LogError> {
        let rows: Vec<(String, i64, i64)> = self
            .query(|connection| {
                let mut statement = connection.prepare(
                    "SELECT consumer_group, partition_id, offset FROM committed
                     ORDER BY consumer_group, partition_id",
                )?;
                let rows = statement
                    .query_map(params![], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
                rows.collect()
            })
            .await?;
        let topics = self.handle.shared.topics.all();
        let mut committed: BTreeMap<(String, u64), u64> = BTreeMap::new();
        for (group, id, offset) in rows {
            committed.insert((group, id.cast_unsigned()), offset.cast_unsigned());
        }
        let mut all = Vec::new();
        for topic in &topics {
            for partition in &topic.partitions {
                // What it has not begun with is owed to it all the same.
                if let Some(group) = &self.handle.shared.options.retain_for_group {
                    let place = (group.clone(), partition.id);
                    committed.entry(place).or_insert(partition.begin());
                }
                let of_it = committed.iter().filter(|((_, id), _)| *id == partition.id);
                all.extend(of_it.map(|((group, _), offset)| GroupStatus {
                    group: group.clone(),
                    topic: topic.name.to_string(),
                    partition: partition.number,
                    committed: *offset,
                    end: partition.end(),
                }));
            }
        }
        let place = |status: &GroupStatus| {
            let GroupStatus {
                group,
                topic,
                partition,
                ..
            } = status;
            (group.clone(), topic.clone(), *partition)
        };
        all.sort_by_key(place);
        Ok(all)
    }

    async fn positions(&self, topic: &str, start: StartAt) -> Result<Vec<u64>, LogError> {
        match self.handle.shared.topics.get(topic) {
            Some(topic) => start::begin_at(&self.handle.shared, &topic, start).await,
            None => Ok(Vec::new()),
        }
    }

    async fn reader(&self, topic: &str, start: StartAt) -> Result<Self::Reader, LogError> {
        EmbeddedReader::open(self.handle.shared.clone(), topic, start).await
    }

    async fn reader_at(&self, position: &Position) -> Result<Self::Reader, LogError> {
        Ok(EmbeddedReader::at(self.handle.shared.clone(), position))
    }

    async fn consumer(&self, group: &str, topics: &[String]) -> Result<Self::Consumer, LogError> {
        Ok(EmbeddedConsumer::new(
            self.handle.clone(),
            group,
            Some(topics.to_vec()),
        ))
    }
}

fn io_error(doing: &'static str, place: &Path, error: &std::io::Error) -> LogError {
    LogError::Io {
        doing,
        place: place.display().to_string(),
        reason: error.to_string(),
    }
}
