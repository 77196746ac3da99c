//! What an endpoint has missed since its queue (its lane) could not keep up: ranges of the log,
//! each from one offset of a partition to another, which are read again later.
//!
//! Of each partition one range grows. Where offsets go back, because the log was made anew,
//! truncated or restored, or because records are read again, another range begins: what was looked
//! at already, or lies before the range, is no part of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use dovecast_notification::EndpointId;

use crate::ledger::{OwedRange, RangeId, TopicPartition};

/// How often in a row the log has to have no record at the place of a range before that is ended:
/// leaders that have just changed may say so by mistake.
pub(crate) const MISSING_CHECKS: u32 = 3;

/// What a lane owes since it is behind.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// By topic and partition; the last of each grows.
    ranges: BTreeMap<(Arc<str>, u32), Vec<Growing>>,
    /// Partitions of which the ledger has to be asked what the endpoint owes, before anything of
    /// them is delivered; each with the batch of the recorder after which it is asked, once that is
    /// known.
    ///
    /// A range that has gone from here may have grown, or ended, by more than the ledger knows. So
    /// the ledger is asked when everything is written that was said of ranges of the partition
    /// which had gone when the batch was noted. Nothing more is said of those; and what begins or
    /// grows from then on is here, whatever the ledger says of it. So the batch stays the same,
    /// however often somebody finds that the ledger has to be asked, and also where we are taken
    /// for dead meanwhile; only with another range that goes it is forgotten.
    unknown: BTreeMap<TopicPartition, Option<u64>>,
    /// Whether somebody is catching up, or was asked to.
    pub(crate) is_caught_up_with: bool,
}

/// A range of a lane, as far as it may be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) id: RangeId,
    /// Where its reader begins.
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A range has grown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) id: RangeId,
    pub(crate) to: u64,
    /// Whether it begins with that, or begins anew.
    pub(crate) begins: bool,
}

/// A range of a partition.
#[derive(Debug)]
struct Growing {
    start: u64,
    /// Where its reader begins: what is before was done by another process.
    from: u64,
    /// Everything before was looked at.
    position: u64,
    to: u64,
    /// Up to where the recorder knows of it. What is behind that is not delivered yet: the recorder
    /// would hear of its end first.
    recorded: u64,
    /// Growths of which the recorder has still to hear: until then the range is not taken out.
    unrecorded: u32,
    /// Checks in a row, since it has last grown, at which the log ended before it.
    missing: u32,
    /// Whether the range is to be read from its start again.
    is_set_back: bool,
}

impl Growing {
    /// Whether the recorder knows all of it.
    fn is_known(&self) -> bool {
        self.recorded == self.to && self.unrecorded == 0
    }
}

impl Behind {
    /// A record is owed: gives the range it is part of, and up to where that goes. What grows so
    /// has to be [`Self::recorded`], once for each [`Self::announce`].
    pub(crate) fn defer(
        &mut self,
        endpoint: EndpointId,
        topic: &Arc<str>,
        partition: u32,
        offset: u64,
    ) -> Growth {
        let ranges = self.ranges.entry((Arc::clone(topic), partition));
        let ranges = ranges.or_default();
        let is_new = ranges.last().is_none_or(|last| offset < last.position);
        if is_new {
            // There is one of each start: it begins anew.
            let same = ranges.iter().position(|range| range.start == offset);
            let same = same.map(|place| ranges.remove(place));
            ranges.push(Growing {
                start: offset,
                from: offset,
                position: offset,
                to: same.as_ref().map_or(offset, |same| same.to),
                recorded: same.as_ref().map_or(offset, |same| same.recorded),
                unrecorded: same.as_ref().map_or(0, |same| same.unrecorded),
                missing: 0,
                is_set_back: same.is_some(),
            });
        }
        let (mut start, mut to) = (offset, offset + 1);
        if let Some(last) = ranges.last_mut() {
            last.to = last.to.max(to);
            last.missing = 0;
            (start, to) = (last.start, last.to);
        }
        let id = RangeId {
            endpoint,
            topic: Arc::clone(topic),
            partition,
            start,
        };
        Growth {
            id,
            to,
            begins: is_new,
        }
    }

    /// The recorder is about to hear of a growth.
    pub(crate) fn announce(&mut self, id: &RangeId) {
        if let Some(range) = self.range(id) {
            range.unrecorded += 1;
        }
    }

    /// Whether a range is one of these.
    pub(crate) fn has(&self, id: &RangeId) -> bool {
        let ranges = self.ranges.get(&(Arc::clone(&id.topic), id.partition));
        ranges.is_some_and(|ranges| ranges.iter().any(|range| range.start == id.start))
    }

    /// Ranges of the lane, and up to where each may be delivered.
    pub(crate) fn parts(&self, endpoint: EndpointId) -> Vec<Part> {
        let parts = |((topic, partition), ranges): (&(Arc<str>, u32), &Vec<Growing>)| {
            let part = |range: &Growing| Part {
                id: RangeId {
                    endpoint,
                    topic: Arc::clone(topic),
                    partition: *partition,
                    start: range.start,
                },
                from: range.from,
                to: range.recorded,
            };
            ranges.iter().map(part).collect::<Vec<_>>()
        };
        self.ranges.iter().flat_map(parts).collect()
    }

    /// The first range of each partition of which is known what is owed: what may be delivered now
    /// where deliveries of a key go one after the other.
    pub(crate) fn first_parts(&self, endpoint: EndpointId) -> Vec<Part> {
        let mut parts = self.parts(endpoint);
        parts.retain(|part| !self.unknown.contains_key(&part.id.partition()));
        parts.sort_by(|one, other| one.id.cmp(&other.id));
        parts.dedup_by(|later, first| later.id.partition() == first.id.partition());
        parts
    }

    /// Whether anything of a partition is to be read that stands before an offset.
    pub(crate) fn is_unread(&self, of: &TopicPartition, offset: u64) -> bool {
        let ranges = self.ranges.get(&(Arc::clone(&of.topic), of.partition));
        let is_before = |range: &Growing| range.position < offset && range.position < range.to;
        ranges.is_some_and(|ranges| ranges.iter().any(is_before))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.unknown.is_empty()
    }

    /// The ledger has to be asked what is owed of a partition.
    pub(crate) fn ask(&mut self, of: TopicPartition) {
        self.unknown.entry(of).or_default();
    }

    /// Has the questions of which it is not known after which batch they are asked wait for this
    /// one; `true`: there are any. Only who takes ranges out of here, and tells the recorder what
    /// becomes of them, may say so.
    pub(crate) fn ask_after(&mut self, batch: u64) -> bool {
        let mut is_any = false;
        for after in self.unknown.values_mut() {
            is_any |= after.is_none();
            after.get_or_insert(batch);
        }
        is_any
    }

    /// Whether the question about a partition may be asked when so many batches are written. Only
    /// once: the next one waits for another batch.
    pub(crate) fn may_ask(&mut self, of: &TopicPartition, written: u64) -> bool {
        let after = self.unknown.get_mut(of);
        let after = after.and_then(|after| after.take_if(|batch| *batch <= written));
        after.is_some()
    }

    /// The batch after which the next question may be asked.
    pub(crate) fn next_question(&self) -> Option<u64> {
        self.unknown.values().flatten().min().copied()
    }

    /// A range has gone: what the recorder is about to hear of it is not part of the batch that was
    /// waited for so far.
    fn has_gone(&mut self, of: &TopicPartition) {
        if let Some(after) = self.unknown.get_mut(of) {
            *after = None;
        }
    }

    /// What the ledger knows besides is of no concern: deliveries go in any order.
    pub(crate) fn ask_nothing(&mut self) {
        self.unknown.clear();
    }

    /// Whether the recorder knows that a record is part of a range.
    pub(crate) fn covers(&self, topic: &Arc<str>, partition: u32, offset: u64) -> bool {
        let ranges = self.ranges.get(&(Arc::clone(topic), partition));
        let is_in = |range: &Growing| (range.start..range.recorded).contains(&offset);
        ranges.is_some_and(|ranges| ranges.iter().any(is_in))
    }

    pub(crate) fn unknown(&self) -> Vec<TopicPartition> {
        self.unknown.keys().cloned().collect()
    }

    /// What is owed of a partition is known, or is no concern of this process any more.
    pub(crate) fn answered(&mut self, of: &TopicPartition) {
        self.unknown.remove(of);
    }

    /// Partitions of which anything is owed.
    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        let partition = |(topic, partition): &(Arc<str>, u32)| TopicPartition {
            topic: Arc::clone(topic),
            partition: *partition,
        };
        self.ranges.keys().map(partition).collect()
    }

    /// Takes a range in that was claimed, and does not grow. One of its name that is here goes as
    /// far as it, because it is the same to the ledger.
    pub(crate) fn adopt(&mut self, range: &OwedRange) {
        if let Some(same) = self.range(&range.id) {
            same.to = same.to.max(range.to);
            same.recorded = same.recorded.max(range.to);
            return;
        }
        let place = (Arc::clone(&range.id.topic), range.id.partition);
        let adopted = Growing {
            start: range.id.start,
            from: range.from,
            position: range.from,
            to: range.to,
            recorded: range.to,
            unrecorded: 0,
            missing: 0,
            is_set_back: false,
        };
        // Before the one that grows.
        self.ranges.entry(place).or_default().insert(0, adopted);
    }

    /// The recorder knows of a range up to there.
    pub(crate) fn recorded(&mut self, id: &RangeId, to: u64) {
        if let Some(range) = self.range(id) {
            range.recorded = range.recorded.max(to);
            range.unrecorded = range.unrecorded.saturating_sub(1);
        }
    }

    /// Takes a range out, unless it goes further than that; `true`: it is out.
    pub(crate) fn remove(&mut self, id: &RangeId, to: u64) -> bool {
        let place = (Arc::clone(&id.topic), id.partition);
        let Some(ranges) = self.ranges.get_mut(&place) else {
            return false;
        };
        let before = ranges.len();
        ranges.retain(|range| range.start != id.start || range.to > to || range.unrecorded > 0);
        let is_out = ranges.len() < before;
        if ranges.is_empty() {
            self.ranges.remove(&place);
        }
        if is_out {
            self.has_gone(&id.partition());
        }
        is_out
    }

    fn range(&mut self, id: &RangeId) -> Option<&mut Growing> {
        let place = (Arc::clone(&id.topic), id.partition);
        let mut ranges = self.ranges.get_mut(&place)?.iter_mut();
        ranges.find(|range| range.start == id.start)
    }

    /// Whether a range is to be read from its start again; asked once.
    pub(crate) fn take_set_back(&mut self, id: &RangeId) -> bool {
        let range = self.range(id);
        range.is_some_and(|range| std::mem::take(&mut range.is_set_back))
    }

    /// A range was looked at up to here; what was not tried after all is looked at again.
    pub(crate) fn read_to(&mut self, id: &RangeId, position: u64) {
        if let Some(range) = self.range(id)
            && !range.is_set_back
        {
            range.position = position;
        }
    }

    /// The log ends before what is left of a range. Where it has done so at several checks, and the
    /// range has not grown meanwhile, it is taken out: gives up to where it went.
    pub(crate) fn is_missing(&mut self, id: &RangeId) -> Option<u64> {
        let range = self.range(id)?;
        range.missing += 1;
        let is_known = range.is_known();
        let to = (range.missing >= MISSING_CHECKS && is_known).then_some(range.to)?;
        self.remove(id, to).then_some(to)
    }

    /// Takes ranges out of which everything is part of the one that grows; each, and up to where it
    /// went.
    pub(crate) fn take_covered(&mut self, endpoint: EndpointId) -> Vec<(RangeId, u64)> {
        let mut covered = Vec::new();
        for ((topic, partition), ranges) in &mut self.ranges {
            let Some(last) = ranges.last() else { continue };
            let (start, position, to) = (last.start, last.position, last.recorded);
            ranges.retain(|range| {
                let is_other = range.start != start;
                let is_known = range.is_known();
                let is_covered = is_other && is_known && position <= range.start && range.to <= to;
                if is_covered {
                    let id = RangeId {
                        endpoint,
                        topic: Arc::clone(topic),
                        partition: *partition,
                        start: range.start,
                    };
                    covered.push((id, range.to));
                }
                !is_covered
            });
        }
        for (id, _) in &covered {
            self.has_gone(&id.partition());
        }
        covered
    }
}

#[cfg(test)]
mod tests;
