//! Which offset of each partition comes next, and what is missing where another one comes.
//!
//! Where the offset that a consumer wants is not in the log any more, librdkafka goes on at the
//! oldest record and returns no error. Compaction and the markers of transactions leave offsets
//! without a record, too; so what is missing was removed only as far as it is before the oldest
//! offset of the partition, for which the cluster is asked.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ends::Followed;
use crate::TopicPartition;

/// How often the cluster is asked for the oldest offset of one partition: each transaction leaves a
/// gap.
const ASK_INTERVAL: Duration = Duration::from_secs(5);
/// Longest time until a cluster that does not answer is asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Gaps of one partition that wait to be asked about; with more it is asked at once.
const MAX_WAITING: usize = 1000;

/// What a record's offset says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The record is the next one, or the first.
    Next,
    /// Offsets are missing before it.
    Gap,
    /// The record was read before: the partition has lost its end, or begins anew.
    Back {
        /// The offset that was expected.
        expected: u64,
    },
}

/// The partitions that are followed, by topic.
#[derive(Default)]
pub(super) struct Gaps {
    topics: HashMap<Arc<str>, HashMap<u32, Partition>>,
    waiting: usize,
}

/// How far a partition was read.
struct Partition {
    /// The assignment in which it was.
    since: u64,
    next: u64,
    gaps: Vec<Range<u64>>,
    asked: Option<Instant>,
}

/// When the cluster may be asked: not at once where it has just not answered, as whoever waits for
/// it reads nothing meanwhile.
#[derive(Debug, Default)]
pub(super) struct Asking {
    not_before: Option<Instant>,
    wait: Duration,
}

impl Asking {
    pub(super) fn may(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|not_before| not_before <= now)
    }

    /// The cluster has answered, or has not.
    pub(super) fn noted(&mut self, is_answered: bool, now: Instant) {
        if is_answered {
            *self = Self::default();
            return;
        }
        self.wait = (self.wait * 2).clamp(ASK_INTERVAL, LONGEST_WAIT);
        self.not_before = Some(now + self.wait);
    }
}

impl Gaps {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether it is known what comes next of a partition in this assignment.
    pub(super) fn knows(&self, topic: &str, partition: u32, since: u64) -> bool {
        self.get(topic, partition)
            .is_some_and(|known| known.since == since)
    }

    /// The offset that comes next of a partition.
    pub(super) fn next(&self, topic: &str, partition: u32) -> Option<u64> {
        Some(self.get(topic, partition)?.next)
    }

    /// All partitions, with the offset that comes next of each.
    pub(super) fn all(&self) -> Vec<Followed> {
        let of_topic = |(topic, partitions): (&Arc<str>, &HashMap<u32, Partition>)| {
            let named = partitions.iter().map(|(partition, known)| Followed {
                of: named(topic, *partition),
                next: Some(known.next),
            });
            named.collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    fn get(&self, topic: &str, partition: u32) -> Option<&Partition> {
        self.topics.get(topic)?.get(&partition)
    }

    fn get_mut(&mut self, topic: &str, partition: u32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.get_mut(&partition)
    }

    /// A partition is read from this offset on.
    pub(super) fn begin(&mut self, topic: &Arc<str>, partition: u32, since: u64, next: u64) {
        let known = Partition {
            since,
            next,
            gaps: Vec::new(),
            asked: None,
        };
        let partitions = self.topics.entry(Arc::clone(topic)).or_default();
        if let Some(before) = partitions.insert(partition, known) {
            self.waiting -= before.gaps.len();
        }
    }

    /// Notes a record.
    pub(super) fn note(
        &mut self,
        topic: &Arc<str>,
        partition: u32,
        since: u64,
        offset: u64,
    ) -> Found {
        if !self.knows(topic, partition, since) {
            self.begin(topic, partition, since, offset);
        }
        let Some(known) = self.get_mut(topic, partition) else {
            return Found::Next;
        };
        let expected = std::mem::replace(&mut known.next, offset + 1);
        if offset == expected {
            return Found::Next;
        }
        if offset < expected {
            return Found::Back { expected };
        }
        known.gaps.push(expected..offset);
        self.waiting += 1;
        Found::Gap
    }

    /// Whether the cluster is to be asked about the gaps of a partition now.
    pub(super) fn is_due(&self, topic: &str, partition: u32, now: Instant) -> bool {
        self.get(topic, partition)
            .is_some_and(|known| known.is_due(now))
    }

    /// The partitions with gaps about which the cluster is to be asked now.
    pub(super) fn due(&self, now: Instant) -> Vec<TopicPartition> {
        if self.waiting == 0 {
            return Vec::new();
        }
        let of_topic = |(topic, partitions): (&Arc<str>, &HashMap<u32, Partition>)| {
            let due = partitions.iter().filter(|(_, known)| known.is_due(now));
            let named = due.map(|(partition, _)| named(topic, *partition));
            named.collect::<Vec<_>>()
        };
        let mut due: Vec<_> = self.topics.iter().flat_map(of_topic).collect();
        // Whoever was asked about longest ago is first: where one fails, others come before it.
        due.sort_by_cached_key(|of| {
            self.get(&of.topic, of.partition)
                .and_then(|known| known.asked)
        });
        due
    }

    /// The oldest offset of a partition is known, or could not be asked for; gives what was removed
    /// before it was read.
    pub(super) fn answered(
        &mut self,
        topic: &str,
        partition: u32,
        oldest: Option<u64>,
        now: Instant,
    ) -> Vec<Range<u64>> {
        let Some(known) = self.get_mut(topic, partition) else {
            return Vec::new();
        };
        known.asked = Some(now);
        let Some(oldest) = oldest else {
            return Vec::new();
        };
        let gaps = std::mem::take(&mut known.gaps);
        self.waiting -= gaps.len();
        gaps.into_iter()
            .map(|gap| gap.start..gap.end.min(oldest))
            .filter(|removed| !removed.is_empty())
            .collect()
    }
}

fn named(topic: &Arc<str>, partition: u32) -> TopicPartition {
    TopicPartition {
        topic: Arc::clone(topic),
        partition,
    }
}

impl Partition {
    fn is_due(&self, now: Instant) -> bool {
        let has_time = || {
            self.asked
                .is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_INTERVAL)
        };
        !self.gaps.is_empty() && (has_time() || self.gaps.len().is_multiple_of(MAX_WAITING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_does_not_answer_is_asked_less_and_less_often() {
        let mut asking = Asking::default();
        let mut now = Instant::now();
        for wait in [5, 10, 20, 30, 30] {
            assert!(asking.may(now));
            asking.noted(false, now);
            let early = Duration::from_millis(wait * 1000 - 1);
            assert!(!asking.may(now + early), "{wait}");
            now += Duration::from_secs(wait);
        }
        asking.noted(true, now);
        assert!(asking.may(now));
    }

    /// Reads offsets from 10 on, with an oldest offset of the partition, and expects what was
    /// removed unread.
    fn check(offsets: &[u64], oldest: u64, removed: &[(u64, u64)]) {
        let topic = Arc::from("t");
        let mut gaps = Gaps::default();
        gaps.begin(&topic, 0, 1, 10);
        for offset in offsets {
            gaps.note(&topic, 0, 1, *offset);
        }
        let now = Instant::now();
        let mut found = Vec::new();
        for of in gaps.due(now) {
            found.extend(answered(&mut gaps, of.partition, oldest, now));
        }
        assert_eq!(
            found, removed,
            "{offsets:?} with {oldest} as the oldest offset"
        );
    }

    /// What was removed, from one offset to before another.
    fn answered(gaps: &mut Gaps, partition: u32, oldest: u64, now: Instant) -> Vec<(u64, u64)> {
        let removed = gaps.answered("t", partition, Some(oldest), now).into_iter();
        removed.map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn only_what_is_before_the_oldest_offset_was_removed() {
        check(&[10, 11, 12], 11, &[]);
        check(&[50, 51], 50, &[(10, 50)]);
        check(&[12, 14, 16], 10, &[]);
        check(&[12, 14, 60], 55, &[(10, 12), (13, 14), (15, 55)]);
        check(&[10, 11, 40, 42], 40, &[(12, 40)]);
        check(&[3, 4], 3, &[]);
    }

    #[test]
    fn the_cluster_is_asked_for_the_first_gap_at_once_then_seldom_or_when_there_are_many() {
        let topic = Arc::from("t");
        let mut gaps = Gaps::default();
        let mut now = Instant::now();
        assert_eq!(gaps.note(&topic, 3, 1, 7), Found::Next);
        assert_eq!(gaps.note(&topic, 3, 1, 9), Found::Gap);
        assert!(gaps.is_due("t", 3, now));
        assert!(gaps.answered("t", 3, Some(0), now).is_empty());
        assert_eq!(gaps.note(&topic, 3, 1, 11), Found::Gap);
        assert!(!gaps.is_due("t", 3, now) && gaps.due(now).is_empty());
        now += ASK_INTERVAL;
        assert_eq!(gaps.due(now), [named(&topic, 3)]);
        // The cluster has not answered.
        gaps.answered("t", 3, None, now);
        assert!(!gaps.is_due("t", 3, now));
        now += ASK_INTERVAL;
        assert_eq!(answered(&mut gaps, 3, 20, now), [(10, 11)]);
        let mut offset = 13;
        for _ in 0..MAX_WAITING {
            assert!(!gaps.is_due("t", 3, now));
            gaps.note(&topic, 3, 1, offset);
            offset += 2;
        }
        assert!(gaps.is_due("t", 3, now));
    }

    #[test]
    fn another_assignment_begins_anew_and_a_smaller_offset_is_told() {
        let topic = Arc::from("t");
        let mut gaps = Gaps::default();
        gaps.note(&topic, 0, 1, 100);
        assert!(gaps.knows("t", 0, 1) && !gaps.knows("t", 0, 2));
        assert_eq!(gaps.note(&topic, 0, 1, 5), Found::Back { expected: 101 });
        assert_eq!(gaps.note(&topic, 0, 2, 500), Found::Next);
        assert!(gaps.due(Instant::now()).is_empty());
        assert_eq!(gaps.next("t", 0), Some(501));
    }
}
