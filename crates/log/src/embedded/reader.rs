//! Reads batches back: checked, bounded, waiting for more without asking again and again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::watch;

use super::batch;
use super::start::begin_at;
use super::store::{StoreError, key, unkey};
use super::topics::{Partition, Topic};
use super::writer::Shared;
use crate::{LogError, Position, Reader, Record, StartAt};

/// Records of one partition, read in one go.
pub(super) struct Fetched {
    pub(super) records: Vec<Record>,
    /// Where to go on.
    pub(super) next: u64,
    /// What is lost before `next`; there are no records then.
    pub(super) lost: Option<(Range<u64>, Lost)>,
    /// Where the partition began then, if something is lost: retention tells of what it removes
    /// only after its commit, and that is no damage.
    pub(super) begin: u64,
}

/// Why records cannot be read.
pub(super) enum Lost {
    /// What is wrong with them.
    Damaged(String),
    /// Retention has removed them from between others.
    Removed,
}

/// Reads from `from` on, at least one batch and no more bytes than the options allow. `None`: the
/// file is damaged, and there is more to be had after the next commit.
pub(super) async fn fetch(
    shared: &Shared,
    topic: &Arc<Topic>,
    place: usize,
    from: u64,
) -> Result<Option<Fetched>, LogError> {
    let (shared, topic) = (shared.clone(), Arc::clone(topic));
    let pool = Arc::clone(&shared.pool);
    let read = pool.run(move || {
        let done = shared.pool.with(&shared.store, |connection| {
            read(&shared, connection, &topic, (place, from))
                .map_err(|error| shared.store.error("read", &error))
        });
        match done {
            Err(error @ StoreError::Damaged(_)) => {
                // The writer saves what can be saved, and then wakes the readers.
                shared.report(error);
                Ok(None)
            }
            Ok(fetched) => Ok(Some(fetched)),
            Err(error) => Err(error.into_log(&shared.store.path)),
        }
    });
    read.await.map_err(|_| LogError::Closed)?
}

fn read(
    shared: &Shared,
    connection: &Connection,
    topic: &Arc<Topic>,
    (place, from): (usize, u64),
) -> rusqlite::Result<Fetched> {
    let partition = &topic.partitions[place];
    let (low, high) = (key(partition.id, 0), key(partition.id + 1, 0));
    let at = key(partition.id, from);
    let first: Option<i64> = connection
        .prepare_cached("SELECT max(key) FROM batch WHERE key >= ?1 AND key <= ?2")?
        .query_row(params![low, at], |row| row.get(0))
        .optional()?
        .flatten();
    let mut statement = connection.prepare_cached(
        "SELECT key, count, bytes FROM batch WHERE key >= ?1 AND key < ?2 ORDER BY key",
    )?;
    let mut rows = statement.query(params![first.unwrap_or(at), high])?;
    let mut fetched = Fetched {
        records: Vec::new(),
        next: from,
        lost: None,
        begin: 0,
    };
    let missing = || Lost::Damaged("it is missing".to_owned());
    let mut bytes = 0;
    while bytes < shared.options.read_bytes
        && let Some(row) = rows.next()?
    {
        let base = unkey(row.get(0)?).1;
        let end = base + row.get::<_, i64>(1)?.cast_unsigned();
        // Not published yet, or before where we begin.
        if base >= partition.end() {
            break;
        }
        if end <= from {
            continue;
        }
        let content = row.get_ref(2)?.as_blob()?;
        // One row always is, which one record may fill.
        if !fetched.records.is_empty() && bytes + content.len() > shared.options.read_bytes {
            break;
        }
        let lost = if base > fetched.next {
            Some((fetched.next..base, missing()))
        } else {
            match batch::records(content, &topic.name, (partition.number, base), fetched.next) {
                Ok(Some(mut records)) => {
                    bytes += content.len();
                    fetched.records.append(&mut records);
                    None
                }
                Ok(None) => Some((fetched.next..end, Lost::Removed)),
                Err(damage) => Some((fetched.next..end, Lost::Damaged(damage.to_string()))),
            }
        };
        match lost {
            None => fetched.next = end,
            // Told when it is the next thing to be read.
            Some(_) if !fetched.records.is_empty() => break,
            Some((offsets, lost)) => {
                fetched.next = offsets.end;
                fetched.lost = Some((offsets, lost));
                break;
            }
        }
    }
    let is_batch = fetched.lost.is_some();
    if fetched.records.is_empty() && !is_batch && from < partition.end() {
        fetched.lost = Some((from..partition.end(), missing()));
        fetched.next = partition.end();
    }
    if let Some((_, lost)) = &fetched.lost {
        fetched.begin = begin_of(connection, partition)?;
        if is_batch && matches!(lost, Lost::Damaged(_)) && fetched.begin <= from {
            shared.counters.damaged.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(fetched)
}

/// Where a partition begins in the file; behind all that was in it where its topic is removed.
fn begin_of(connection: &Connection, partition: &Partition) -> rusqlite::Result<u64> {
    let begin: Option<i64> = connection
        .prepare_cached("SELECT begin FROM partition WHERE id = ?1")?
        .query_row([partition.id.cast_signed()], |row| row.get(0))
        .optional()?;
    Ok(begin.map_or(partition.end(), i64::cast_unsigned))
}

/// Where a reader goes on in one partition.
#[derive(Debug)]
pub(super) struct Next {
    /// The partition's id; a topic that is removed and made again has other ones. `None`: whichever
    /// partition has the number.
    id: Option<u64>,
    offset: u64,
}

impl Next {
    pub(super) fn new(partition: &Partition, offset: u64) -> Self {
        Self {
            id: Some(partition.id),
            offset,
        }
    }

    /// Whether the offset is one of this partition, and not of one that was removed.
    pub(super) fn is_of(&self, partition: &Partition) -> bool {
        self.id.is_none_or(|id| id == partition.id)
    }
}

/// How far one reader is in the partitions of one topic.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// By place in the topic.
    pub(super) next: BTreeMap<usize, Next>,
    /// Partitions take turns.
    turn: usize,
}

impl Cursor {
    /// By place in the topic.
    fn at(topic: &Topic, offsets: impl IntoIterator<Item = u64>) -> Self {
        let partitions = topic.partitions.iter().zip(offsets);
        let next = partitions.map(|(partition, offset)| Next::new(partition, offset));
        Self {
            next: next.enumerate().collect(),
            turn: 0,
        }
    }

    /// Whether all offsets are those of this topic, and not of one that was removed.
    pub(super) fn is_of(&self, topic: &Topic) -> bool {
        let is_of = |(place, next): (&usize, &Next)| {
            let partition = topic.partitions.get(*place);
            partition.is_none_or(|partition| next.is_of(partition))
        };
        self.next.iter().all(is_of)
    }

    /// Begins with the oldest record of partitions that were made since.
    fn renew(&mut self, topic: &Topic) {
        for (place, next) in &mut self.next {
            if let Some(partition) = topic.partitions.get(*place)
                && !next.is_of(partition)
            {
                *next = Next::new(partition, partition.begin());
            }
        }
    }

    /// The next records of the topic's partitions that are in the cursor, `None` if there are none
    /// now. Where retention was faster than the reader, that is returned, and reading goes on at
    /// the oldest record.
    pub(super) async fn read(
        &mut self,
        shared: &Shared,
        topic: &Arc<Topic>,
    ) -> Result<Option<Vec<Record>>, LogError> {
        let places: Vec<usize> = self.next.keys().copied().collect();
        for i in 0..places.len() {
            let place = places[(self.turn + i) % places.len()];
            let (Some(partition), Some(next)) =
                (topic.partitions.get(place), self.next.get_mut(&place))
            else {
                continue;
            };
            let next = &mut next.offset;
            let begin = partition.begin();
            if *next < begin {
                let offsets = std::mem::replace(next, begin)..begin;
                return Err(expired(topic, partition, offsets));
            }
            if *next >= partition.end() {
                continue;
            }
            let from = *next;
            let Some(fetched) = fetch(shared, topic, place, from).await? else {
                return Ok(None);
            };
            // Retention may have come between.
            let begin = partition.begin().max(fetched.begin);
            if fetched.lost.is_some() && begin > from {
                *next = begin;
                return Err(expired(topic, partition, from..begin));
            }
            *next = fetched.next;
            self.turn = (self.turn + i + 1) % places.len();
            return match fetched.lost {
                None => Ok(Some(fetched.records)),
                Some((offsets, Lost::Removed)) => Err(expired(topic, partition, offsets)),
                Some((offsets, Lost::Damaged(reason))) => Err(LogError::Corrupt {
                    topic: topic.name.to_string(),
                    partition: partition.number,
                    offsets,
                    reason,
                }),
            };
        }
        Ok(None)
    }
}

fn expired(topic: &Topic, partition: &Partition, offsets: Range<u64>) -> LogError {
    LogError::Expired {
        topic: topic.name.to_string(),
        partition: partition.number,
        offsets,
    }
}

/// See [`Log::reader`](crate::Log::reader).
#[derive(Debug)]
pub struct EmbeddedReader {
    shared: Shared,
    topic: String,
    cursor: Option<Cursor>,
    commits: watch::Receiver<u64>,
}

impl EmbeddedReader {
    pub(super) async fn open(
        shared: Shared,
        topic: &str,
        start: StartAt,
    ) -> Result<Self, LogError> {
        let commits = shared.commits.subscribe();
        let cursor = match shared.topics.get(topic) {
            Some(topic) => {
                let begins = begin_at(&shared, &topic, start).await?;
                Some(Cursor::at(&topic, begins))
            }
            None => None,
        };
        Ok(Self {
            shared,
            topic: topic.to_owned(),
            cursor,
            commits,
        })
    }

    /// Reads one partition. The offset is one that its caller knows: where the topic is made again,
    /// it is not begun anew.
    pub(super) fn at(shared: Shared, position: &Position) -> Self {
        let place = usize::try_from(position.partition).unwrap_or(usize::MAX);
        let next = Next {
            id: None,
            offset: position.offset,
        };
        Self {
            commits: shared.commits.subscribe(),
            shared,
            topic: position.topic.to_string(),
            cursor: Some(Cursor {
                next: BTreeMap::from([(place, next)]),
                turn: 0,
            }),
        }
    }

    fn find_topic(&mut self) -> Option<Arc<Topic>> {
        let topic = self.shared.topics.get(&self.topic)?;
        // A topic that is made later, or again, is read from its beginning.
        let begins = topic.partitions.iter().map(Partition::begin);
        let cursor = self
            .cursor
            .get_or_insert_with(|| Cursor::at(&topic, begins));
        cursor.renew(&topic);
        Some(topic)
    }
}

impl Reader for EmbeddedReader {
    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        loop {
            self.commits.borrow_and_update();
            if let Some(topic) = self.find_topic()
                && let Some(cursor) = &mut self.cursor
                && let Some(records) = cursor.read(&self.shared, &topic).await?
            {
                return Ok(records);
            }
            self.commits.changed().await.map_err(|_| LogError::Closed)?;
        }
    }
}
