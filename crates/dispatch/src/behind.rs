//! The ranges of the log that a lane owes since it is behind.
//!
//! Of each partition one range grows. Where offsets go back, because the log was made anew,
//! truncated or restored, or because records are read again, another range begins: what was looked
//! at already, or lies before the range, is no part of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ledger::RangeId;
use dovecast_notification::EndpointId;

/// How often in a row the log has to have no record at the place of a range before that is ended:
/// leaders that have just changed may say so by mistake.
pub(crate) const MISSING_CHECKS: u32 = 3;

/// What a lane owes since it is behind.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// By topic and partition; the last of each grows.
    ranges: BTreeMap<(Arc<str>, u32), Vec<Growing>>,
    /// Whether somebody is catching up.
    pub(crate) is_caught_up_with: bool,
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
        (topic, partition): (&Arc<str>, u32),
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
    pub(crate) fn ids(&self, endpoint: EndpointId) -> Vec<(RangeId, u64)> {
        let ids = |((topic, partition), ranges): (&(Arc<str>, u32), &Vec<Growing>)| {
            let id = |range: &Growing| {
                let id = RangeId {
                    endpoint,
                    topic: Arc::clone(topic),
                    partition: *partition,
                    start: range.start,
                };
                (id, range.recorded)
            };
            ranges.iter().map(id).collect::<Vec<_>>()
        };
        self.ranges.iter().flat_map(ids).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
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
        covered
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ENDPOINT: EndpointId = EndpointId(Uuid::nil());

    /// Offsets that are owed one after the other, how far the newest range is read before each, and
    /// the ranges in the end.
    #[track_caller]
    fn check(offsets: &[(u64, Option<u64>)], ranges: &[(u64, u64)]) -> Behind {
        let mut behind = Behind::default();
        let mut newest = None;
        for (offset, position) in offsets {
            if let (Some(id), Some(position)) = (&newest, position) {
                behind.read_to(id, *position);
            }
            newest = Some(owe(&mut behind, *offset));
        }
        assert_eq!(found(&behind), ranges, "{offsets:?}");
        behind
    }

    /// A record is owed, and the recorder knows.
    fn owe(behind: &mut Behind, offset: u64) -> RangeId {
        let growth = behind.defer(ENDPOINT, (&Arc::from("t"), 3), offset);
        behind.announce(&growth.id);
        behind.recorded(&growth.id, growth.to);
        growth.id
    }

    fn found(behind: &Behind) -> Vec<(u64, u64)> {
        let ids = behind.ids(ENDPOINT).into_iter();
        ids.map(|(id, to)| (id.start, to)).collect()
    }

    fn id(start: u64) -> RangeId {
        RangeId {
            endpoint: ENDPOINT,
            topic: Arc::from("t"),
            partition: 3,
            start,
        }
    }

    #[test]
    fn an_offset_before_a_range_or_before_what_was_read_of_it_begins_another() {
        check(&[(100, None), (119, None)], &[(100, 120)]);
        check(
            &[(100, None), (119, None), (10, None)],
            &[(100, 120), (10, 11)],
        );
        // It was not looked at yet.
        check(&[(100, None), (119, None), (110, Some(110))], &[(100, 120)]);
        check(
            &[(100, None), (119, None), (110, Some(111))],
            &[(100, 120), (110, 111)],
        );
        check(
            &[
                (100, None),
                (119, None),
                (10, None),
                (11, Some(11)),
                (3, None),
            ],
            &[(100, 120), (10, 12), (3, 4)],
        );
    }

    #[test]
    fn a_range_whose_first_record_comes_again_is_read_again() {
        let mut behind = check(&[(100, None), (119, None), (100, Some(110))], &[(100, 120)]);
        // What the former reader says counts no more.
        behind.read_to(&id(100), 115);
        assert!(behind.take_set_back(&id(100)) && !behind.take_set_back(&id(100)));
        let growth = behind.defer(ENDPOINT, (&Arc::from("t"), 3), 100);
        assert!(!growth.begins && growth.to == 120);
        assert_eq!(found(&behind), [(100, 120)]);
    }

    #[test]
    fn what_the_newest_range_covers_is_owed_once() {
        let mut behind = check(
            &[(100, None), (119, None), (10, None)],
            &[(100, 120), (10, 11)],
        );
        assert_eq!(behind.take_covered(ENDPOINT), []);
        owe(&mut behind, 119);
        assert_eq!(behind.take_covered(ENDPOINT), [(id(100), 120)]);
        assert_eq!(found(&behind), [(10, 120)]);
    }

    #[test]
    fn a_range_beyond_the_end_is_taken_out_unless_it_grows() {
        let mut behind = check(&[(100, None), (119, None)], &[(100, 120)]);
        assert_eq!(behind.is_missing(&id(100)), None);
        assert_eq!(behind.is_missing(&id(100)), None);
        owe(&mut behind, 112);
        assert_eq!(behind.is_missing(&id(100)), None);
        assert_eq!(behind.is_missing(&id(100)), None);
        assert_eq!(behind.is_missing(&id(100)), Some(120));
        assert!(behind.is_empty());
    }

    #[test]
    fn what_the_recorder_does_not_know_is_neither_delivered_nor_ended() {
        let mut behind = check(&[(100, None), (104, None)], &[(100, 105)]);
        let growth = behind.defer(ENDPOINT, (&Arc::from("t"), 3), 109);
        let (grown, to) = (growth.id, growth.to);
        behind.announce(&grown);
        assert_eq!(found(&behind), [(100, 105)]);
        assert!(!behind.remove(&grown, 105), "it goes further");
        for _ in 0..MISSING_CHECKS {
            assert_eq!(behind.is_missing(&grown), None);
        }
        behind.recorded(&grown, to);
        assert_eq!(found(&behind), [(100, 110)]);
        assert!(behind.remove(&grown, to) && behind.is_empty());
    }

    #[test]
    fn a_range_of_which_a_growth_is_not_recorded_yet_is_not_taken_out() {
        let mut behind = check(&[(100, None), (104, None)], &[(100, 105)]);
        let early = behind.defer(ENDPOINT, (&Arc::from("t"), 3), 106);
        behind.announce(&early.id);
        // Another thread is faster.
        let late = owe(&mut behind, 109);
        assert!(!behind.remove(&late, 110));
        behind.recorded(&early.id, early.to);
        assert!(behind.remove(&late, 110));
    }
}
