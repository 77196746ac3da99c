//! Where the partitions of a topic end, for a reader who wants to come to an end.

use std::collections::HashMap;

/// Where the partitions end: what is left of them is what is read, and no more.
pub(crate) struct End {
    left: HashMap<u32, u64>,
}

impl End {
    /// Between where a reader begins and where each partition ends, by partition number.
    pub(crate) fn between(begin: Vec<u64>, end: Vec<u64>) -> Self {
        let numbered = (0..).zip(begin.into_iter().zip(end));
        let left = numbered
            .filter(|(_, (begin, end))| begin < end)
            .map(|(partition, (_, end))| (partition, end))
            .collect();
        Self { left }
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.left.is_empty()
    }

    /// Whether what ends before `next_offset` was there when the end was looked at.
    pub(crate) fn takes(&mut self, partition: u32, next_offset: u64) -> bool {
        let Some(end) = self.left.get(&partition).copied() else {
            return false;
        };
        if next_offset >= end {
            self.left.remove(&partition);
        }
        next_offset <= end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_reached_when_every_partition_is_at_it_and_later_records_are_left_out() {
        let mut end = End {
            left: HashMap::from([(0, 2), (3, 1)]),
        };
        assert!(end.takes(0, 1));
        assert!(!end.takes(1, 1), "a partition that was empty");
        assert!(end.takes(3, 1));
        assert!(!end.is_reached());
        assert!(end.takes(0, 2));
        assert!(end.is_reached() && !end.takes(0, 3));
    }
}
