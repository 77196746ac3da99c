//! Order by key: which partitions were read as far as they went when they became this process's.
//!
//! What is owed of a key may stand in the log behind others of the key that are not owed, which are
//! read again. So it is delivered when its partition was read up to there: all that is read again
//! has its place by then. The steps are told in `lane/order`.
//!
//! Where nothing is to be read, what the group has committed says so. It does not where Kafka holds
//! markers of transactions behind that, which no consumer gets: so a partition counts as read,
//! too, when its leader answers, and nothing of it has come while the consumer waited for long.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::GroupStatus;

use crate::ledger::{KeyPlace, TopicPartition};
use crate::locks::Lock;

/// How long the consumer waits without getting anything of a partition that has nothing for it.
const SILENT: Duration = Duration::from_secs(10);
/// For how long what is owed in order of a partition of others has to be left alone until it is
/// delivered here: a group may wait for a member that has died, and the next one has to read.
const LEFT_ALONE: Duration = Duration::from_mins(2);
/// How long nothing of a partition of others was met before the time of [`LEFT_ALONE`] begins anew.
const LEFT_ALONE_ANEW: Duration = Duration::from_mins(2);

/// How far partitions were read.
#[derive(Debug)]
pub(crate) struct ReadUp {
    partitions: Lock<HashMap<TopicPartition, Reading>>,
    waiting: Lock<Waiting>,
    /// Partitions of others of which something was left alone: since when, and when it was last.
    left_alone: Lock<HashMap<OfOthers, (Instant, Instant)>>,
}

/// A partition, and the log that it is one of, where that is not ours.
type OfOthers = (Option<Arc<str>>, TopicPartition);

/// How far a partition was read since it became ours.
#[derive(Debug)]
struct Reading {
    /// The assignment.
    number: u64,
    since: Instant,
    /// Where it ended when the log was asked first.
    end: Option<u64>,
    /// Behind the last record that was offered to its endpoints.
    position: Option<u64>,
    /// How long the consumer had waited when that was offered.
    heard: Duration,
    is_read: bool,
}

/// How long the consumer has waited for records.
#[derive(Debug, Default)]
struct Waiting {
    before: Duration,
    since: Option<Instant>,
}

/// Positions behind records that were read together, each with the number of the assignment.
pub(crate) type Numbered = Vec<(TopicPartition, u64, u64)>;

impl Default for ReadUp {
    fn default() -> Self {
        Self {
            partitions: Lock::new("read up", HashMap::new()),
            waiting: Lock::new("waiting", Waiting::default()),
            left_alone: Lock::new("left alone", HashMap::new()),
        }
    }
}

impl Reading {
    fn new(number: u64, heard: Duration) -> Self {
        Self {
            number,
            since: Instant::now(),
            end: None,
            position: None,
            heard,
            is_read: false,
        }
    }

    fn look(&mut self) {
        let read = self.position.zip(self.end);
        self.is_read |= read.is_some_and(|(position, end)| position >= end);
    }
}

impl ReadUp {
    /// The consumer begins to wait for records, or does something else.
    pub(crate) fn waits(&self, waits: bool) {
        let mut waiting = self.waiting.lock();
        let since = waiting.since.take();
        let now = Instant::now();
        if let Some(since) = since {
            waiting.before += now.saturating_duration_since(since);
        }
        waiting.since = waits.then_some(now);
    }

    pub(crate) fn waited(&self) -> Duration {
        let waiting = self.waiting.lock();
        waiting.before
            + waiting
                .since
                .map(|since| since.elapsed())
                .unwrap_or_default()
    }

    pub(crate) fn is_read(&self, of: &TopicPartition, number: u64) -> bool {
        let partitions = self.partitions.lock();
        let reading = partitions.get(of).filter(|of| of.number == number);
        reading.is_some_and(|reading| reading.is_read)
    }

    /// Records were offered to the endpoints that want them.
    pub(crate) fn note(&self, positions: Numbered) {
        if positions.is_empty() {
            return;
        }
        let waited = self.waited();
        let mut partitions = self.partitions.lock();
        for (of, number, position) in positions {
            let reading = partitions.entry(of).or_insert(Reading::new(number, waited));
            if number > reading.number {
                *reading = Reading::new(number, waited);
            }
            if reading.number == number && !reading.is_read {
                (reading.position, reading.heard) = (Some(position), waited);
                reading.look();
            }
        }
    }

    /// Takes note of the partitions that are ours; gives those that were not read up, by topic.
    pub(crate) fn follow(&self, ours: Vec<(TopicPartition, u64)>) -> BTreeMap<Arc<str>, Vec<u32>> {
        let waited = self.waited();
        let ours: HashMap<TopicPartition, u64> = ours.into_iter().collect();
        let mut unread: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        {
            let mut partitions = self.partitions.lock();
            partitions.retain(|of, reading| ours.get(of).is_some_and(|of| *of <= reading.number));
            for (of, number) in &ours {
                let reading = partitions.entry(of.clone());
                let reading = reading.or_insert(Reading::new(*number, waited));
                if !reading.is_read {
                    let of_topic = unread.entry(Arc::clone(&of.topic)).or_default();
                    of_topic.push(of.partition);
                }
            }
        }
        self.left_alone
            .lock()
            .retain(|(log, of), _| log.is_some() || !ours.contains_key(of));
        unread
    }

    /// What the log has answered of partitions of a topic.
    pub(crate) fn answered(
        &self,
        topic: &Arc<str>,
        progress: Vec<GroupStatus>,
        asked: (Instant, Duration),
    ) {
        let (at, waited) = asked;
        let mut partitions = self.partitions.lock();
        for of in progress {
            let topic = Arc::clone(topic);
            let partition = of.partition;
            let reading = partitions.get_mut(&TopicPartition { topic, partition });
            // Of one that became ours meanwhile this says nothing.
            let Some(reading) = reading.filter(|reading| reading.since <= at) else {
                continue;
            };
            let end = *reading.end.get_or_insert(of.end);
            let is_done = reading.position.is_none() && of.committed >= end;
            let is_silent = waited.saturating_sub(reading.heard) >= SILENT;
            reading.is_read |= is_done || is_silent;
            reading.look();
        }
    }

    /// Whether what is owed of a partition, which is not ours, was left alone for long.
    pub(crate) fn is_left_alone(&self, place: &KeyPlace) -> bool {
        let of = (place.log.clone(), place.of.clone());
        let now = Instant::now();
        let mut left_alone = self.left_alone.lock();
        left_alone.retain(|_, (_, last)| now.duration_since(*last) < LEFT_ALONE_ANEW);
        let (since, last) = left_alone.entry(of).or_insert((now, now));
        *last = now;
        now.duration_since(*since) >= LEFT_ALONE
    }
}

#[cfg(test)]
mod tests;
