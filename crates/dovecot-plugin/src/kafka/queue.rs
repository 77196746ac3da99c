//! Records that wait for librdkafka, in order and bounded.
//!
//! The bounds are those of librdkafka's own queue and count what it holds as well. Where retries
//! are configured (`kafka_max_retries`), as many again may wait beside the full queue for a while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A bounded queue of `T`.
pub(crate) struct Queue<T> {
    waiting: VecDeque<(T, usize)>,
    waiting_bytes: usize,
    /// Records that found the queue full, and until when they may find room.
    refused: VecDeque<(T, usize, Instant)>,
    refused_bytes: usize,
    max_records: usize,
    max_bytes: usize,
    patience: Duration,
}

impl<T> Queue<T> {
    /// A queue of so many records and bytes; a record that finds it full waits for room as long as
    /// `patience` lasts.
    pub(crate) fn new(max_records: usize, max_bytes: usize, patience: Duration) -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            refused: VecDeque::new(),
            refused_bytes: 0,
            max_records,
            max_bytes,
            patience,
        }
    }

    /// Number of records, in the queue and beside it.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.refused.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether records wait beside the full queue.
    pub(crate) fn is_overfull(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Appends a record; `false` if there is no room for it. `in_flight` records are taken out but
    /// count still.
    pub(crate) fn push(&mut self, record: T, bytes: usize, in_flight: usize, now: Instant) -> bool {
        if self.refused.is_empty() && self.has_room(bytes, in_flight) {
            self.waiting_bytes += bytes;
            self.waiting.push_back((record, bytes));
            return true;
        }
        let is_full =
            self.refused.len() >= self.max_records || self.refused_bytes + bytes > self.max_bytes;
        if self.patience.is_zero() || is_full {
            return false;
        }
        self.refused_bytes += bytes;
        self.refused.push_back((record, bytes, now + self.patience));
        true
    }

    fn has_room(&self, bytes: usize, in_flight: usize) -> bool {
        self.waiting.len() + in_flight < self.max_records
            && self.waiting_bytes + bytes <= self.max_bytes
    }

    /// The next record.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let (record, bytes) = self.waiting.pop_front()?;
        self.waiting_bytes -= bytes;
        Some(record)
    }

    /// Undoes [`pop`](Self::pop).
    pub(crate) fn put_back(&mut self, record: T, bytes: usize) {
        self.waiting_bytes += bytes;
        self.waiting.push_front((record, bytes));
    }

    /// Moves into the queue what waits beside it, as far as there is room; drops what has waited
    /// too long and says how many those were.
    pub(crate) fn take_back(&mut self, in_flight: usize, now: Instant) -> usize {
        let mut expired = 0;
        while let Some((_, bytes, until)) = self.refused.front() {
            let has_room = self.has_room(*bytes, in_flight);
            if !has_room && now < *until {
                break;
            }
            let Some((record, bytes, _)) = self.refused.pop_front() else {
                break;
            };
            self.refused_bytes -= bytes;
            if has_room {
                self.waiting_bytes += bytes;
                self.waiting.push_back((record, bytes));
            } else {
                expired += 1;
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn drain(queue: &mut Queue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn without_patience_the_bound_is_the_bound() {
        let now = Instant::now();
        let mut queue = Queue::new(3, 100, Duration::ZERO);
        let taken = (0..5).map(|n| queue.push(n, 1, 1, now)).collect::<Vec<_>>();
        assert_eq!(taken, [true, true, false, false, false]);
        assert!(!queue.push(9, 99, 0, now), "more bytes than fit");
        assert_eq!(drain(&mut queue), [0, 1]);
    }

    #[test]
    fn what_waits_beside_the_queue_keeps_its_place_or_expires() {
        let now = Instant::now();
        let mut queue = Queue::new(2, 100, PATIENCE);
        assert_eq!((0..5).filter(|n| queue.push(*n, 1, 0, now)).count(), 4);
        assert!(queue.is_overfull());
        assert_eq!(queue.take_back(0, now), 0);
        assert_eq!(queue.pop(), Some(0));
        assert_eq!(queue.take_back(0, now), 0);
        // Behind those that wait already, though there is room now.
        assert!(queue.push(7, 1, 0, now));
        assert_eq!(queue.take_back(0, now), 0);
        assert_eq!(queue.take_back(0, now + PATIENCE), 2);
        assert_eq!(drain(&mut queue), [1, 2]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_record_that_is_put_back_is_the_next_again() {
        let mut queue = Queue::new(9, 100, Duration::ZERO);
        for n in 0..3 {
            assert!(queue.push(n, 1, 0, Instant::now()));
        }
        let first = queue.pop().expect("three wait");
        queue.put_back(first, 1);
        assert_eq!(drain(&mut queue), [0, 1, 2]);
    }
}
