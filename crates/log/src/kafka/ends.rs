//! Partitions of which a consumer gets nothing although there is something, or that end before what
//! it reads next.
//!
//! A topic that is deleted and made anew begins with leader epoch 0. librdkafka ignores what the
//! cluster says of a partition whose epoch is lower than the one it has seen, and so a consumer
//! that has met a change of leaders before reads nothing of the new topic, without an error. Of a
//! partition of which nothing has come for a while it is therefore asked where it begins and ends.
//! If it ends before what comes next, or if a consumer that has seen no epoch finds a record there,
//! another one takes the place of this consumer. What comes next of a partition of which nothing
//! was ever read is what the group has committed, or else the oldest record.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::KafkaOptions;
use super::assigned::Context;
use super::polling::passes;
use super::reader::GROUP;
use super::source::create;
use crate::TopicPartition;

/// How often it is looked whether partitions have moved; one that has not is asked about.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How long the cluster may take to say where one partition begins and ends; meanwhile nothing is
/// polled.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a record may take to come to a consumer that looks whether there is one; meanwhile
/// nothing is polled.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Partitions that are asked about in one check; others are in the next ones.
const PARTITIONS_PER_CHECK: usize = 16;
/// Checks in a row that have to find it: leaders that have just changed may say so by mistake.
const CHECKS: u32 = 2;
/// How often in a row, at most, the time between two checks is doubled while the cluster does not
/// say whether there is a record: each time polling waits for that.
const DOUBLED: u32 = 4;

/// A partition that a consumer reads.
pub(super) struct Followed {
    pub(super) of: TopicPartition,
    /// The offset that comes next of it; `None`: the oldest record.
    pub(super) next: Option<u64>,
}

/// A partition of which a consumer would never get anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Silent {
    pub(super) of: TopicPartition,
    /// The offset that was expected next.
    pub(super) next: u64,
    /// The offset that the next record will get.
    pub(super) end: u64,
}

/// The cluster, as far as checks need it.
pub(super) trait Cluster {
    /// Offsets from the oldest record of a partition to its end; `None`: the cluster does not say
    /// so now.
    fn kept(&mut self, of: &TopicPartition) -> Option<Range<u64>>;

    /// Whether another consumer gets a record at an offset of a partition or behind it; `None`: the
    /// cluster does not say so now.
    fn has_record(&mut self, of: &TopicPartition, offset: u64) -> Option<bool>;
}

/// When partitions are asked about, and what was found.
#[derive(Debug)]
pub(super) struct EndChecks {
    checked: Instant,
    still: HashMap<TopicPartition, Still>,
    /// How many partitions were asked about that no check had found anything of.
    turn: usize,
    /// What comes next and the end, where a consumer was replaced, or no record found: nothing is
    /// done twice for the same.
    settled: HashMap<TopicPartition, Settled>,
    /// Whether partitions were paused since the last check: that nothing came of them means
    /// nothing.
    were_paused: bool,
    /// Questions in a row for a record that got no answer.
    unanswered: u32,
}

/// What comes next of a partition, and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settled {
    next: u64,
    end: u64,
}

/// A partition that has not moved.
#[derive(Debug)]
struct Still {
    next: Option<u64>,
    /// Checks in a row that it has not moved for.
    checks: u32,
    /// Checks in a row that have found it to end too early.
    lost: u32,
    /// Checks in a row that have found something unread.
    unread: u32,
    /// Questions in a row for a record that have found none.
    without_record: u32,
}

/// What a check has found of a partition.
enum Judged {
    Fine,
    Silent(Silent),
    /// Cluster does not say whether there is a record.
    Unknown,
}

/// Partitions that one check asks about.
struct ToAsk {
    /// Something was found of these, they go first.
    found: Vec<TopicPartition>,
    /// Some of the others, in turn.
    in_turn: Vec<TopicPartition>,
}

impl EndChecks {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            checked: now,
            still: HashMap::new(),
            turn: 0,
            settled: HashMap::new(),
            were_paused: false,
            unanswered: 0,
        }
    }

    /// Whether it is time for a check.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let interval = CHECK_INTERVAL * 2_u32.pow(self.unanswered.min(DOUBLED));
        now.saturating_duration_since(self.checked) >= interval
    }

    /// A check has ended; it may have taken long.
    pub(super) fn checked(&mut self, now: Instant) {
        self.checked = now;
    }

    /// Partitions are paused. One that has lost its end is found all the same.
    pub(super) fn paused(&mut self) {
        self.were_paused = true;
    }

    /// The consumer was replaced: another one has to be silent for as long.
    pub(super) fn replaced(&mut self, now: Instant) {
        self.checked = now;
        self.unanswered = 0;
        self.still.clear();
    }

    /// Asks about some of the partitions that have not moved since the last check; gives one of
    /// which nothing will come.
    pub(super) fn look(
        &mut self,
        followed: &[Followed],
        cluster: &mut impl Cluster,
    ) -> Option<Silent> {
        self.note(followed);
        let were_paused = std::mem::take(&mut self.were_paused);
        let ToAsk { found, in_turn } = self.to_ask();
        let first_in_turn = found.len();
        for (number, of) in found.into_iter().chain(in_turn).enumerate() {
            self.turn += usize::from(number >= first_in_turn);
            // Those behind one that does not answer are asked in the next check: each would take as
            // long. And that one is not the first of the next.
            let Some(kept) = cluster.kept(&of) else {
                if let Some(still) = self.still.get_mut(&of) {
                    (still.lost, still.unread) = (0, 0);
                }
                return None;
            };
            match self.judge(&of, kept, were_paused, cluster) {
                Judged::Fine => {}
                Judged::Silent(silent) => {
                    let Silent { next, end, .. } = silent;
                    self.settled.insert(of, Settled { next, end });
                    return Some(silent);
                }
                Judged::Unknown => return None,
            }
        }
        // What was not answered has been answered since, or comes by itself.
        if self.still.values().all(|still| still.unread == 0) {
            self.unanswered = 0;
        }
        None
    }

    /// Notes which partitions have moved.
    fn note(&mut self, followed: &[Followed]) {
        let mut before = std::mem::take(&mut self.still);
        for Followed { of, next } in followed {
            let still = before.remove(of);
            if still.as_ref().is_some_and(|still| still.next != *next) {
                // What comes is not what was settled.
                self.settled.remove(of);
            }
            let still = match still.filter(|still| still.next == *next) {
                Some(still) => Still {
                    checks: still.checks.saturating_add(1),
                    ..still
                },
                None => Still {
                    next: *next,
                    checks: 0,
                    lost: 0,
                    unread: 0,
                    without_record: 0,
                },
            };
            self.still.insert(of.clone(), still);
        }
    }

    fn to_ask(&self) -> ToAsk {
        let still = self.still.iter().filter(|(_, still)| still.checks > 0);
        let (mut found, mut others): (Vec<_>, Vec<_>) =
            still.partition(|(_, still)| still.lost > 0 || still.unread > 0);
        found.truncate(PARTITIONS_PER_CHECK);
        others.sort_unstable_by_key(|(of, _)| *of);
        let room = (PARTITIONS_PER_CHECK - found.len()).min(others.len());
        let turn = self.turn.checked_rem(others.len()).unwrap_or(0);
        let others = others.iter().cycle().skip(turn).take(room);
        ToAsk {
            found: found.iter().map(|(of, _)| (*of).clone()).collect(),
            in_turn: others.map(|(of, _)| (*of).clone()).collect(),
        }
    }

    fn judge(
        &mut self,
        of: &TopicPartition,
        kept: Range<u64>,
        were_paused: bool,
        cluster: &mut impl Cluster,
    ) -> Judged {
        let Some(still) = self.still.get_mut(of) else {
            return Judged::Fine;
        };
        let (next, end) = (still.next.unwrap_or(kept.start), kept.end);
        let is_settled = self.settled.get(of) == Some(&Settled { next, end });
        still.lost = count(still.lost, end < next && !is_settled);
        still.unread = count(still.unread, end > next && !is_settled && !were_paused);
        let silent = Silent {
            of: of.clone(),
            next,
            end,
        };
        if still.lost >= CHECKS {
            return Judged::Silent(silent);
        }
        if still.unread < CHECKS {
            return Judged::Fine;
        }
        still.unread = 0;
        let Some(has_record) = cluster.has_record(of, next.max(kept.start)) else {
            self.unanswered += 1;
            return Judged::Unknown;
        };
        self.unanswered = 0;
        if has_record {
            return Judged::Silent(silent);
        }
        // The marker of a transaction, or one that was given up; or a leader that is behind.
        still.without_record += 1;
        if still.without_record >= CHECKS {
            self.settled.insert(of.clone(), Settled { next, end });
        }
        Judged::Fine
    }
}

/// How many checks in a row have found something.
fn count(before: u32, is_found: bool) -> u32 {
    if is_found { before + 1 } else { 0 }
}

/// The cluster of a consumer.
pub(super) struct Asked<'a> {
    pub(super) consumer: &'a BaseConsumer<Context>,
    pub(super) options: &'a KafkaOptions,
}

impl Cluster for Asked<'_> {
    fn kept(&mut self, of: &TopicPartition) -> Option<Range<u64>> {
        let number = i32::try_from(of.partition).unwrap_or(i32::MAX);
        // That nothing can be read now is logged elsewhere.
        let answer = self
            .consumer
            .fetch_watermarks(&of.topic, number, ANSWER_TIMEOUT);
        let (begin, end) = answer.ok()?;
        Some(u64::try_from(begin).ok()?..u64::try_from(end).ok()?)
    }

    fn has_record(&mut self, of: &TopicPartition, offset: u64) -> Option<bool> {
        let error = match probe(self.options, of, offset) {
            Ok(Some(answer)) => return Some(answer),
            Ok(None) => "the cluster has not answered in time".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            error,
            topic = &*of.topic,
            partition = of.partition,
            offset,
            "cannot find out whether a partition has a record that was not read; this is asked again"
        );
        None
    }
}

/// Properties of whoever looks for a record, whatever the operator's are: the end is said, and
/// soon, and what is gone is no end.
const PROBE: [(&str, &str); 3] = [
    ("enable.partition.eof", "true"),
    ("fetch.wait.max.ms", "50"),
    ("auto.offset.reset", "earliest"),
];

/// See [`Cluster::has_record`].
fn probe(
    options: &KafkaOptions,
    of: &TopicPartition,
    offset: u64,
) -> Result<Option<bool>, KafkaError> {
    let mut options = options.clone();
    for (name, value) in PROBE {
        options.properties.push((name.to_owned(), value.to_owned()));
    }
    let consumer = create(&options, GROUP, &Arc::default())?;
    let mut list = TopicPartitionList::new();
    let number = i32::try_from(of.partition).unwrap_or(i32::MAX);
    let at = i64::try_from(offset).unwrap_or(i64::MAX);
    list.add_partition_offset(&of.topic, number, Offset::Offset(at))?;
    consumer.assign(&list)?;
    let found = wait_for_record(&consumer, at);
    // Its end may take a while.
    std::thread::spawn(move || drop(consumer));
    found
}

/// Whether there is a record at an offset or behind it, or the end; `None`: neither has come in
/// time.
fn wait_for_record(
    consumer: &BaseConsumer<Context>,
    offset: i64,
) -> Result<Option<bool>, KafkaError> {
    let deadline = Instant::now() + PROBE_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match consumer.poll(left) {
            Some(Ok(message)) if message.offset() >= offset => return Ok(Some(true)),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Some(false)),
            Some(Err(error)) if !passes(&error) => return Err(error),
            // An error passes, or the time does.
            Some(Ok(_) | Err(_)) | None => {}
        }
        if left.is_zero() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests;
