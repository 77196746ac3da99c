//! Ships one topic of a spool: one append is under way at a time; what is read from the spool
//! meanwhile is the next one.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dovecast_event::{UnixMillis, header_name};
use dovecast_log::embedded::{Embedded, EmbeddedConsumer};
use dovecast_log::{
    Appended, Budget, Consumer, Header, Held, Log, LogError, NewRecord, Position, Record, Refusal,
    now_ms,
};
use tokio::sync::watch;

use super::known::{Doubtful, LookUp};
use super::lost::{self, KeepLost, Lost};
use super::retry::{RETRY_SLOWEST, Retry};
use super::since::Since;
use super::{All, Counters};

/// More records than one read of the spool gives.
const READ_RECORDS: u64 = 20_000;
/// When a position that could not be kept is tried to be kept retry.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);
/// `2026-11-20T21:35:28.123Z`.
const TIME_BYTES: usize = 24;

/// What one topic holds in memory of what all may hold, what is being appended included.
const TOPIC_BYTES: usize = super::READ_BYTES / 2;

/// Records that were read from the spool and are not being appended yet.
struct Waiting {
    records: Vec<Record>,
    /// Their memory, of this topic's share and of what all topics may hold.
    held: Vec<(Held, Held)>,
    own: Budget,
    all: Budget,
}

impl Waiting {
    fn new(all: &Budget) -> Self {
        Self {
            records: Vec::new(),
            held: Vec::new(),
            own: Budget::new(TOPIC_BYTES),
            all: all.clone(),
        }
    }

    /// Whether more may be read ahead.
    fn has_room(&self, read_ahead: usize) -> bool {
        self.records.len() < read_ahead && !self.own.is_spent() && !self.all.is_spent()
    }

    fn push(&mut self, records: Vec<Record>) {
        let bytes = records.iter().map(Record::memory_bytes).sum();
        self.held.push((self.own.hold(bytes), self.all.hold(bytes)));
        self.records.extend(records);
    }

    /// The records, and their memory, which is to be held as long as they are.
    fn take(&mut self) -> (Vec<Record>, Vec<(Held, Held)>) {
        (
            std::mem::take(&mut self.records),
            std::mem::take(&mut self.held),
        )
    }
}

/// Ships one topic.
pub(super) struct Work<L> {
    spool: Embedded,
    group: String,
    topic: String,
    target: L,
    counters: Arc<Counters>,
    letters: Option<Arc<dyn KeepLost>>,
    read_ahead: usize,
    waiting: Waiting,
    /// `None`: not known yet.
    doubtful: Option<Doubtful>,
    since: Since,
    /// What the target has, and the spool does not know yet.
    uncommitted: BTreeMap<(Arc<str>, u32), u64>,
}

type Appending = Pin<Box<dyn Future<Output = (Vec<Position>, Result<Appended, LogError>)> + Send>>;

impl<L: Log + Clone> Work<L> {
    pub(super) fn new(all: &All<L>, topic: String) -> Self {
        Self {
            spool: all.spool.clone(),
            group: all.options.group.clone(),
            topic,
            target: all.target.clone(),
            counters: Arc::clone(&all.counters),
            letters: all.letters.clone(),
            read_ahead: all.options.read_ahead,
            waiting: Waiting::new(&all.budget),
            doubtful: None,
            since: Since::default(),
            uncommitted: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let topics = std::slice::from_ref(&self.topic);
        let mut consumer = match self.spool.consumer(&self.group, topics).await {
            Ok(consumer) => consumer,
            Err(error) => return tracing::error!(%error, "the spool cannot be read"),
        };
        // Two reads may come on top of what is read ahead.
        let longest_append = self.read_ahead as u64 + 2 * READ_RECORDS;
        match Doubtful::of(&self.spool, &self.group, longest_append).await {
            Ok(doubtful) => self.doubtful = Some(doubtful),
            Err(error) => {
                tracing::warn!(%error, "cannot tell which records may have been shipped before; each one is looked up in kafka first");
            }
        }
        match Since::of(&self.spool, &self.topic).await {
            Ok(since) => self.since = since,
            Err(error) => tracing::warn!(%error, "the time of the last shipping is not known"),
        }
        let mut appending: Option<Appending> = None;
        loop {
            let is_stopping = *stopping.borrow_and_update();
            if appending.is_none() {
                if is_stopping {
                    return;
                }
                if !self.waiting.records.is_empty() {
                    appending = Some(self.append(stopping.clone()));
                }
            }
            let may_read = !is_stopping
                && match appending {
                    // One read always is, however much other topics hold.
                    None => true,
                    Some(_) => self.waiting.has_room(self.read_ahead),
                };
            tokio::select! {
                (positions, done) = finished(&mut appending) => {
                    appending = None;
                    match done {
                        Ok(appended) => self.note(positions, &appended),
                        // Only while it is being stopped.
                        Err(_) => return,
                    }
                    self.commit(&mut consumer).await;
                }
                read = consumer.next(), if may_read => match read {
                    Ok(records) => self.waiting.push(records),
                    Err(LogError::Closed) => return,
                    Err(error @ (LogError::Corrupt { .. } | LogError::Expired { .. })) => {
                        self.counters.damaged.fetch_add(1, Ordering::Relaxed);
                        tracing::error!(%error, "records of the spool are lost");
                    }
                    Err(error) => {
                        tracing::error!(%error, "the spool cannot be read");
                        tokio::time::sleep(RETRY_SLOWEST).await;
                    }
                },
                () = tokio::time::sleep(COMMIT_AGAIN), if !self.uncommitted.is_empty() => {
                    self.commit(&mut consumer).await;
                }
                changed = stopping.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    }

    /// Appends what waits, until it succeeds or the shipper is stopped.
    fn append(&mut self, stopping: watch::Receiver<bool>) -> Appending {
        let (records, held) = self.waiting.take();
        let positions = Position::behind(&records);
        let is_doubtful = match &mut self.doubtful {
            Some(doubtful) => doubtful.contains_any(&records),
            None => true,
        };
        let mark = if !is_doubtful && self.uncommitted.is_empty() {
            self.since.renew(&self.topic)
        } else {
            self.since.lower(&self.topic)
        };
        let look_up = is_doubtful.then(|| LookUp::of(&records, self.since.time_ms()));
        let (spool, target) = (self.spool.clone(), self.target.clone());
        let mut retry = Retry::new(&self.counters, self.letters.as_ref(), stopping);
        Box::pin(async move {
            if let Some(mark) = mark
                && let Err(error) = spool.append_marked(Vec::new(), mark).await
            {
                // After a crash more is looked through.
                tracing::warn!(%error, "the time of shipping cannot be stored; after a crash more is looked up in kafka");
            }
            let done = ship(&target, records, look_up, &mut retry).await;
            drop(held);
            (positions, done)
        })
    }

    fn note(&mut self, positions: Vec<Position>, appended: &Appended) {
        let shipped = appended.appended + appended.duplicates;
        let add = |counter: &AtomicU64, count: usize| {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        };
        add(&self.counters.shipped, shipped);
        add(&self.counters.refused, appended.refused);
        for position in positions {
            let place = (position.topic, position.partition);
            self.uncommitted.insert(place, position.offset);
        }
    }

    async fn commit(&mut self, consumer: &mut EmbeddedConsumer) {
        let position = |((topic, partition), offset): (&(Arc<str>, u32), &u64)| Position {
            topic: Arc::clone(topic),
            partition: *partition,
            offset: *offset,
        };
        let positions: Vec<Position> = self.uncommitted.iter().map(position).collect();
        match consumer.commit(&positions).await {
            Ok(()) => self.uncommitted.clear(),
            // It is tried again; after a crash the target is asked.
            Err(error) => {
                tracing::warn!(%error, "the position up to which the spool was shipped cannot be committed; this is retried");
            }
        }
    }
}

/// Appends records to the target, without those that it has already; where that is in doubt they
/// are looked up.
async fn ship<L: Log>(
    target: &L,
    mut records: Vec<Record>,
    look_up: Option<LookUp>,
    retry: &mut Retry,
) -> Result<Appended, LogError> {
    let count = records.len();
    if let Some(mut look_up) = look_up {
        let known = loop {
            match look_up.go_on(target).await {
                Ok(known) => break known,
                Err(error) => retry.after(error).await?,
            }
        };
        if !known.is_whole {
            tracing::warn!(
                "kafka holds too much to look up which records it has already; some may be in it twice"
            );
        }
        records.retain(|record| !known.contains(record));
    }
    let duplicates = count - records.len();
    retry
        .counters
        .known
        .fetch_add(duplicates as u64, Ordering::Relaxed);
    if records.is_empty() {
        return Ok(Appended {
            duplicates,
            ..Appended::default()
        });
    }
    let done = loop {
        let now_ms = now_ms();
        let shipped = records.iter().map(|record| new_record(record, now_ms));
        match target.append(shipped.collect()).await {
            Ok(done) => break done,
            Err(error) => retry.after(error).await?,
        }
    };
    let refusals = done.refusals.iter();
    let lost = refusals.filter_map(|Refusal { place, reason }| {
        let record = records.get(*place)?;
        Some(Lost { record, reason })
    });
    lost::keep(retry, lost.collect()).await?;
    Ok(Appended { duplicates, ..done })
}

async fn finished(
    appending: &mut Option<Appending>,
) -> (Vec<Position>, Result<Appended, LogError>) {
    match appending {
        Some(appending) => appending.await,
        None => std::future::pending().await,
    }
}

/// A record as it is shipped. A log removes records by their time, and readers have as long as it
/// keeps them: so it is the time of shipping, and the record's own time stands in its header.
fn new_record(record: &Record, now_ms: i64) -> NewRecord {
    let mut headers = record.headers.clone();
    if record.header(header_name::TIME).is_none() {
        let mut time = Vec::with_capacity(TIME_BYTES);
        UnixMillis(u64::try_from(record.timestamp_ms).unwrap_or(0)).write_rfc3339(&mut time);
        headers.push(Header {
            name: Arc::from(header_name::TIME),
            value: time.into(),
        });
    }
    NewRecord {
        topic: Arc::clone(&record.topic),
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
        timestamp_ms: now_ms,
        id: None,
    }
}
