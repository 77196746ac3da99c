//! Ships the spool of a relay to another log, Kafka: in order, and each record until it is there.
//!
//! Each topic for itself, so that one that Kafka does not take holds back no other. Of a topic one append is under way at a time; what is read from the spool meanwhile is the next one. The spool's group commits its
//! position only behind what has been appended: after a crash none is left out, and what the target has already is looked
//! up in it, see `known.rs`.

mod known;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dovecast_log::embedded::{Embedded, EmbeddedConsumer};
use dovecast_log::{Appended, Consumer, Log, LogError, NewRecord, Position, Record};
use known::Doubtful;
use tokio::sync::{Mutex, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

/// How long until a failed append is tried again: at first, and at most.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_SLOWEST: Duration = Duration::from_secs(5);
/// How often trouble is told of.
const REPEAT: Duration = Duration::from_mins(1);
/// How long a stop waits for the append that is under way.
const STOP: Duration = Duration::from_secs(5);

/// More records than one read of the spool gives.
const READ_RECORDS: u64 = 20_000;
/// How often it is looked for new topics.
const LOOK: Duration = Duration::from_millis(200);
/// When a position that could not be kept is tried to be kept again.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);

/// How a spool is shipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipOptions {
    /// The consumer group of the spool that does it.
    pub group: String,
    /// Records that are read while an append is under way.
    pub read_ahead: usize,
}

impl Default for ShipOptions {
    fn default() -> Self {
        Self {
            group: "kafka".to_owned(),
            read_ahead: 20_000,
        }
    }
}

/// What a shipper has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShipStats {
    /// Records that the target has.
    pub shipped: u64,
    /// Records that the target never takes; they are lost.
    pub refused: u64,
    /// Appends that failed and were tried again.
    pub errors: u64,
    /// Damaged places of the spool that were passed over.
    pub damaged: u64,
    /// Records that the target had already, from before a crash, and that were left out.
    pub known: u64,
}

#[derive(Default)]
struct Counters {
    shipped: AtomicU64,
    refused: AtomicU64,
    errors: AtomicU64,
    damaged: AtomicU64,
    known: AtomicU64,
}

/// A running shipper.
pub struct Shipper {
    counters: Arc<Counters>,
    stopping: watch::Sender<bool>,
    ended: AbortHandle,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Shipper {
    /// Begins where the group has committed. Has to be called within a tokio runtime.
    pub fn start<L: Log + Clone>(spool: &Embedded, target: L, options: &ShipOptions) -> Self {
        let counters = Arc::<Counters>::default();
        let stopping = watch::Sender::new(false);
        let all = All {
            spool: spool.clone(),
            target,
            options: options.clone(),
            counters: Arc::clone(&counters),
        };
        let task = tokio::spawn(all.run(stopping.subscribe()));
        Self {
            counters,
            stopping,
            ended: task.abort_handle(),
            task: Mutex::new(Some(task)),
        }
    }

    /// Waits until it has ended, which it does not before it is stopped unless something is wrong.
    pub async fn ended(&self) {
        while !self.ended.is_finished() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> ShipStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ShipStats {
            shipped: load(&self.counters.shipped),
            refused: load(&self.counters.refused),
            errors: load(&self.counters.errors),
            damaged: load(&self.counters.damaged),
            known: load(&self.counters.known),
        }
    }

    /// Ships no more; what is under way may end, within some seconds.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        let Some(mut task) = self.task.lock().await.take() else {
            return;
        };
        if tokio::time::timeout(STOP, &mut task).await.is_err() {
            // Shipped again after the next start.
            task.abort();
        }
    }
}

/// All topics of a spool.
struct All<L> {
    spool: Embedded,
    target: L,
    options: ShipOptions,
    counters: Arc<Counters>,
}

impl<L: Log + Clone> All<L> {
    async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut known = BTreeSet::new();
        let mut topics = JoinSet::new();
        while !*stopping.borrow_and_update() {
            match self.spool.topics().await {
                Ok(found) => {
                    for topic in found.into_iter().map(|topic| topic.name) {
                        if known.insert(topic.clone()) {
                            topics.spawn(self.work(topic).run(stopping.clone()));
                        }
                    }
                }
                Err(LogError::Closed) => break,
                Err(error) => tracing::error!(%error, "the spool cannot be looked at"),
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                changed = stopping.changed() => if changed.is_err() {
                    break;
                },
                Some(ended) = topics.join_next() => if !*stopping.borrow() {
                    // Without it its topic would be shipped no more, and nobody would know.
                    tracing::error!(error = ended.err().map(tracing::field::display), "shipping has ended");
                    return;
                }
            }
        }
        while topics.join_next().await.is_some() {}
    }

    fn work(&self, topic: String) -> Work<L> {
        Work {
            spool: self.spool.clone(),
            group: self.options.group.clone(),
            topic,
            target: self.target.clone(),
            counters: Arc::clone(&self.counters),
            read_ahead: self.options.read_ahead,
            waiting: Vec::new(),
            doubtful: None,
            uncommitted: BTreeMap::new(),
        }
    }
}

struct Work<L> {
    spool: Embedded,
    group: String,
    topic: String,
    target: L,
    counters: Arc<Counters>,
    read_ahead: usize,
    waiting: Vec<Record>,
    /// `None`: not known yet.
    doubtful: Option<Doubtful>,
    /// What the target has, and the spool does not know yet.
    uncommitted: BTreeMap<(Arc<str>, u32), u64>,
}

type Appending = Pin<Box<dyn Future<Output = (Vec<Position>, Result<Appended, LogError>)> + Send>>;

impl<L: Log + Clone> Work<L> {
    async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let topics = std::slice::from_ref(&self.topic);
        let mut consumer = match self.spool.consumer(&self.group, topics).await {
            Ok(consumer) => consumer,
            Err(error) => return tracing::error!(%error, "the spool cannot be read"),
        };
        // Two reads may come on top of what is read ahead.
        let longest_append = self.read_ahead as u64 + 2 * READ_RECORDS;
        match Doubtful::of(&self.spool, &self.group, longest_append).await {
            Ok(doubtful) => self.doubtful = Some(doubtful),
            Err(error) => tracing::warn!(%error, "all that is shipped is looked up first"),
        }
        let mut appending: Option<Appending> = None;
        loop {
            let is_stopping = *stopping.borrow_and_update();
            if appending.is_none() {
                if is_stopping {
                    return;
                }
                if !self.waiting.is_empty() {
                    appending = Some(self.append(stopping.clone()));
                }
            }
            let may_read = !is_stopping && self.waiting.len() < self.read_ahead;
            tokio::select! {
                (positions, done) = finished(&mut appending) => {
                    appending = None;
                    match done {
                        Ok(appended) => self.note(positions, appended),
                        // Only while it is being stopped.
                        Err(_) => return,
                    }
                    self.commit(&mut consumer).await;
                }
                read = consumer.next(), if may_read => match read {
                    Ok(records) => self.waiting.extend(records),
                    Err(LogError::Closed) => return,
                    Err(error @ (LogError::Corrupt { .. } | LogError::Expired { .. })) => {
                        self.counters.damaged.fetch_add(1, Ordering::Relaxed);
                        tracing::error!(%error, "records of the spool are lost");
                    }
                    Err(error) => {
                        tracing::error!(%error, "the spool cannot be read");
                        tokio::time::sleep(AGAIN_SLOWEST).await;
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
        let records = std::mem::take(&mut self.waiting);
        let positions = behind(&records);
        let is_doubtful = match &mut self.doubtful {
            Some(doubtful) => doubtful.contains_any(&records),
            None => true,
        };
        let (target, counters) = (self.target.clone(), Arc::clone(&self.counters));
        Box::pin(async move {
            let mut again = Again {
                counters,
                stopping,
                delay: AGAIN_FIRST,
                told: None,
            };
            let done = ship(&target, records, is_doubtful, &mut again).await;
            (positions, done)
        })
    }

    fn note(&mut self, positions: Vec<Position>, appended: Appended) {
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
                tracing::warn!(%error, "the position of the shipped spool cannot be kept");
            }
        }
    }
}

/// Repeats what fails, until it succeeds or the shipper is stopped.
struct Again {
    counters: Arc<Counters>,
    stopping: watch::Receiver<bool>,
    delay: Duration,
    told: Option<Instant>,
}

impl Again {
    /// Waits until it may be tried again; gives the error back where the shipper is being stopped.
    async fn after(&mut self, error: LogError) -> Result<(), LogError> {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
        if self.told.is_none_or(|told| told.elapsed() >= REPEAT) {
            self.told = Some(Instant::now());
            tracing::warn!(%error, "the spool cannot be shipped, it is kept and tried again");
        }
        if *self.stopping.borrow() {
            return Err(error);
        }
        tokio::time::sleep(self.delay).await;
        self.delay = (self.delay * 2).min(AGAIN_SLOWEST);
        Ok(())
    }
}

/// Appends records to the target, without those that it has already.
async fn ship<L: Log>(
    target: &L,
    mut records: Vec<Record>,
    is_doubtful: bool,
    again: &mut Again,
) -> Result<Appended, LogError> {
    let count = records.len();
    if is_doubtful {
        let mut look_up = known::LookUp::of(&records);
        let known = loop {
            match look_up.go_on(target).await {
                Ok(known) => break known,
                Err(error) => again.after(error).await?,
            }
        };
        if !known.is_whole {
            tracing::warn!(
                "there is too much in the target to look up what it has already, some records may be in it twice"
            );
        }
        records.retain(|record| !known.contains(record));
    }
    let duplicates = count - records.len();
    again
        .counters
        .known
        .fetch_add(duplicates as u64, Ordering::Relaxed);
    if records.is_empty() {
        return Ok(Appended {
            duplicates,
            ..Appended::default()
        });
    }
    let records: Vec<NewRecord> = records.into_iter().map(new_record).collect();
    loop {
        match target.append(records.clone()).await {
            Ok(done) => return Ok(Appended { duplicates, ..done }),
            Err(error) => again.after(error).await?,
        }
    }
}

async fn finished(
    appending: &mut Option<Appending>,
) -> (Vec<Position>, Result<Appended, LogError>) {
    match appending {
        Some(appending) => appending.await,
        None => std::future::pending().await,
    }
}

/// The positions behind the last record of each partition.
fn behind(records: &[Record]) -> Vec<Position> {
    let mut last = BTreeMap::new();
    for record in records {
        last.insert((&record.topic, record.partition), record.offset + 1);
    }
    let position = |((topic, partition), offset): ((&Arc<str>, u32), u64)| Position {
        topic: Arc::clone(topic),
        partition,
        offset,
    };
    last.into_iter().map(position).collect()
}

fn new_record(record: Record) -> NewRecord {
    NewRecord {
        topic: record.topic,
        key: record.key,
        value: record.value,
        headers: record.headers,
        timestamp_ms: record.timestamp_ms,
        id: None,
    }
}
