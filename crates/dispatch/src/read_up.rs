//! Order by key: which partitions were read as far as they went when they became this process's.
//!
//! What is owed of a key may stand in the log behind others of the key that nobody owes: those
//! waited in memory when their process ended, and are read again, as they are not committed. So
//! nothing that is owed in order is delivered before its partition was read up to there, by which
//! time all that is read again has its place.
//!
//! Whether there is anything to be read at all is known by what the group has committed; or because
//! nothing comes though the log answers, as where Kafka holds markers of transactions that it gives
//! to nobody.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::{Log, LogError, Position};

use crate::bounds::Bounds;
use crate::consume::has_room;
use crate::ledger::{Ledger, TopicPartition};
use crate::locks::Lock;
use crate::shared::Shared;

/// How often partitions are looked at that were not read up.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How often the log is asked about partitions of which nothing comes.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long nothing comes of a partition of which there is nothing to be read, whatever its offsets
/// say.
const SILENT: Duration = Duration::from_secs(10);

/// How far partitions were read.
pub(crate) struct ReadUp {
    partitions: Lock<HashMap<TopicPartition, Reading>>,
}

/// How far a partition was read since it became ours.
#[derive(Debug)]
struct Reading {
    /// The assignment.
    number: u64,
    since: Instant,
    /// Where it began and ended then.
    bounds: Option<Bounds>,
    /// Behind the last record that was offered to its endpoints.
    position: Option<u64>,
    /// When that was offered.
    heard: Instant,
    is_read: bool,
}

/// Positions behind records that were read together, each with the number of the assignment.
pub(crate) type Numbered = Vec<(TopicPartition, u64, u64)>;

impl Default for ReadUp {
    fn default() -> Self {
        Self {
            partitions: Lock::new("read up", HashMap::new()),
        }
    }
}

impl Reading {
    fn new(number: u64, now: Instant) -> Self {
        Self {
            number,
            since: now,
            bounds: None,
            position: None,
            heard: now,
            is_read: false,
        }
    }

    fn look(&mut self) {
        let read = self.position.zip(self.bounds);
        self.is_read |= read.is_some_and(|(position, bounds)| position >= bounds.end);
    }
}

impl ReadUp {
    fn is_read(&self, of: &TopicPartition, number: u64) -> bool {
        let partitions = self.partitions.lock();
        let reading = partitions.get(of).filter(|of| of.number == number);
        reading.is_some_and(|reading| reading.is_read)
    }

    /// Records were offered to the endpoints that want them.
    pub(crate) fn note(&self, positions: Numbered) {
        let now = Instant::now();
        let mut partitions = self.partitions.lock();
        for (of, number, position) in positions {
            let reading = partitions.entry(of).or_insert(Reading::new(number, now));
            if reading.number == number && !reading.is_read {
                (reading.position, reading.heard) = (Some(position), now);
                reading.look();
            }
        }
    }

    /// Takes note of the partitions that are ours; gives the topics of those that were not read up.
    fn follow(&self, ours: Vec<(TopicPartition, u64)>, may_read: bool) -> BTreeSet<Arc<str>> {
        let now = Instant::now();
        let ours: HashMap<TopicPartition, u64> = ours.into_iter().collect();
        let mut partitions = self.partitions.lock();
        partitions.retain(|of, reading| ours.get(of) == Some(&reading.number));
        let mut unread = BTreeSet::new();
        for (of, number) in ours {
            let topic = Arc::clone(&of.topic);
            let reading = partitions.entry(of).or_insert(Reading::new(number, now));
            if !may_read {
                reading.heard = now;
            }
            if !reading.is_read {
                unread.insert(topic);
            }
        }
        unread
    }

    /// Does something with each partition of a topic that was not read up.
    fn of_topic<R>(&self, topic: &str, act: impl Fn(usize, &mut Reading) -> R) -> Vec<R> {
        let mut partitions = self.partitions.lock();
        let of_it = partitions
            .iter_mut()
            .filter(|(of, reading)| *of.topic == *topic && !reading.is_read);
        let at = |partition: u32| usize::try_from(partition).unwrap_or(usize::MAX);
        of_it
            .map(|(of, reading)| act(at(of.partition), reading))
            .collect()
    }
}

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// Positions behind records, with the assignments in which they are read.
    pub(crate) fn numbered(&self, positions: &[Position]) -> Numbered {
        if !self.directory.has_ordered() {
            return Vec::new();
        }
        let numbered = |position: &Position| {
            let of = TopicPartition {
                topic: Arc::clone(&position.topic),
                partition: position.partition,
            };
            let number = self.partitions.number(&of)?;
            Some((of, number, position.offset))
        };
        positions.iter().filter_map(numbered).collect()
    }

    /// Whether what is owed in order of a partition of ours may be delivered.
    pub(crate) fn is_read_up(&self, of: &TopicPartition, number: u64) -> bool {
        !self.directory.has_ordered() || self.read_up.is_read(of, number)
    }

    /// Partitions of ours of which what is owed in order may be claimed.
    pub(crate) fn claimable(&self) -> Vec<TopicPartition> {
        let ours = self.partitions.all().into_iter();
        let read = ours.filter(|(of, number)| self.is_read_up(of, *number));
        read.map(|(of, _)| of).collect()
    }
}

pub(crate) async fn run<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>) {
    let mut asked: HashMap<Arc<str>, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if !shared.directory.has_ordered() {
            continue;
        }
        let unread = shared
            .read_up
            .follow(shared.partitions.all(), has_room(&shared));
        asked.retain(|topic, _| unread.contains(topic));
        for topic in unread {
            let was_asked = asked.get(&topic);
            if was_asked.is_some_and(|asked| asked.elapsed() < ASK_INTERVAL) {
                continue;
            }
            if let Err(error) = ask(&shared, &topic).await {
                tracing::debug!(%error, topic = &*topic, "how far a partition goes is not known now");
            }
            asked.insert(topic, Instant::now());
        }
    }
}

/// Asks where the partitions of a topic end, and what is committed of those of which nothing was
/// read.
async fn ask<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    topic: &Arc<str>,
) -> Result<(), LogError> {
    let now = Instant::now();
    let silent = |reading: &Reading| now.saturating_duration_since(reading.heard) >= SILENT;
    let needed = shared.read_up.of_topic(topic, |_, reading| {
        // Whether the log answers now is to be known.
        let since = if silent(reading) { now } else { reading.since };
        (since, reading.bounds.is_none() || silent(reading))
    });
    let needed = needed.into_iter().filter(|(_, is_asked)| *is_asked);
    let Some(since) = needed.map(|(since, _)| since).max() else {
        return ask_committed(shared, topic).await;
    };
    let bounds = shared.bounds.since(&shared.log, topic, since).await?;
    shared.read_up.of_topic(topic, |at, reading| {
        let bounds = bounds.get(at).copied().unwrap_or_default();
        reading.bounds.get_or_insert(bounds);
        reading.is_read |= silent(reading);
        reading.look();
    });
    ask_committed(shared, topic).await
}

async fn ask_committed<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    topic: &Arc<str>,
) -> Result<(), LogError> {
    let unheard = shared
        .read_up
        .of_topic(topic, |_, reading| reading.position.is_none());
    if !unheard.contains(&true) {
        return Ok(());
    }
    let committed = shared.log.committed(&shared.options.group, topic).await?;
    shared.read_up.of_topic(topic, |at, reading| {
        let committed = committed.get(at).copied().flatten();
        let is_done = |bounds: Bounds| committed.unwrap_or(bounds.begin) >= bounds.end;
        reading.is_read |= reading.position.is_none() && reading.bounds.is_some_and(is_done);
    });
    Ok(())
}
