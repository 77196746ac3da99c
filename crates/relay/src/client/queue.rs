//! Records that are not acknowledged yet, in frames, in order. Pure: no I/O.

use std::collections::VecDeque;

use crate::wire::{self, Frame, MAX_FRAME_BYTES, WireRecord, record_bytes};

/// A frame takes no more records when it has grown to this; small enough that the relay is busy
/// with one client only briefly.
const FRAME_BYTES: usize = 32 * 1024;
/// A buffer that has grown beyond this is given back to the system.
const KEPT_BYTES: usize = 64 * 1024;

/// Frames that wait to be sent, and behind them in time those that wait for their acknowledgement.
#[derive(Default)]
pub(super) struct Queue {
    frames: VecDeque<Records>,
    /// Whether the last frame takes more records.
    is_open: bool,
    bytes: usize,
    /// How many frames, from the first, were sent on this connection.
    sent: usize,
    /// How much of the first unsent frame was sent.
    sent_bytes: usize,
    /// How many records of this connection are acknowledged and gone from here.
    gone: u64,
    /// A buffer for the next frame.
    spare: Vec<u8>,
}

/// One frame.
struct Records {
    bytes: Vec<u8>,
    count: u32,
}

impl Queue {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many records of this connection are acknowledged and will not be sent again.
    pub(super) fn acknowledged(&self) -> u64 {
        self.gone
    }

    /// How many records there are.
    pub(super) fn len(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.count)).sum()
    }

    /// Appends a record; `true` if that has filled a frame, or the one before.
    pub(super) fn push(&mut self, record: &WireRecord<'_>) -> bool {
        // The record before may have left less room than a large one needs: a longer frame is none.
        let is_other = self.open_bytes() + record_bytes(record) > MAX_FRAME_BYTES;
        if is_other {
            self.close_frame();
        }
        if !self.is_open {
            let mut bytes = std::mem::take(&mut self.spare);
            wire::begin_records(&mut bytes);
            self.bytes += bytes.len();
            self.frames.push_back(Records { bytes, count: 0 });
            self.is_open = true;
        }
        let Some(frame) = self.frames.back_mut() else {
            return is_other;
        };
        let before = frame.bytes.len();
        wire::write_record(&mut frame.bytes, record);
        frame.count += 1;
        self.bytes += frame.bytes.len() - before;
        let is_full = frame.bytes.len() >= FRAME_BYTES;
        if is_full {
            self.close_frame();
        }
        is_full || is_other
    }

    /// Bytes of the frame that takes more records.
    fn open_bytes(&self) -> usize {
        let open = self.frames.back().filter(|_| self.is_open);
        open.map_or(0, |frame| frame.bytes.len())
    }

    /// The last frame takes no more records and may be sent.
    pub(super) fn close_frame(&mut self) {
        if std::mem::take(&mut self.is_open)
            && let Some(frame) = self.frames.back_mut()
        {
            wire::end_records(&mut frame.bytes, 0, frame.count);
        }
    }

    /// What is to be sent next; the open frame is not.
    pub(super) fn unsent(&self) -> Option<&[u8]> {
        let closed = self.frames.len() - usize::from(self.is_open);
        let frame = self.frames.get(self.sent).filter(|_| self.sent < closed)?;
        frame.bytes.get(self.sent_bytes..)
    }

    /// Says that so many bytes of [`unsent`](Self::unsent) were sent.
    pub(super) fn mark_sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes;
        let length = self.frames.get(self.sent).map(|frame| frame.bytes.len());
        if length == Some(self.sent_bytes) {
            self.sent += 1;
            self.sent_bytes = 0;
        }
    }

    /// On a new connection everything is sent again.
    pub(super) fn begin_again(&mut self) {
        (self.sent, self.sent_bytes, self.gone) = (0, 0, 0);
    }

    /// The relay has the first `records` of this connection. `false`: it was never sent so many.
    pub(super) fn acknowledge(&mut self, records: u64) -> bool {
        while self.sent > 0
            && let Some(frame) = self.frames.front()
            && self.gone + u64::from(frame.count) <= records
        {
            self.gone += u64::from(frame.count);
            self.sent -= 1;
            self.forget_first();
        }
        let sent: u64 = self
            .frames
            .iter()
            .take(self.sent)
            .map(|frame| u64::from(frame.count))
            .sum();
        records <= self.gone + sent
    }

    fn forget_first(&mut self) {
        let Some(frame) = self.frames.pop_front() else {
            return;
        };
        self.bytes -= frame.bytes.len();
        if frame.bytes.capacity() <= KEPT_BYTES {
            self.spare = frame.bytes;
            self.spare.clear();
        }
    }

    /// Calls `take` with each record, oldest first; says how many could not be read.
    pub(super) fn for_each(&mut self, mut take: impl FnMut(&WireRecord<'_>)) -> u64 {
        self.close_frame();
        let mut read = 0;
        for frame in &self.frames {
            if let Ok(Some((Frame::Records(records), _))) = wire::read_frame(&frame.bytes) {
                for record in records.flatten() {
                    take(&record);
                    read += 1;
                }
            }
        }
        self.len().saturating_sub(read)
    }

    /// Forgets all records; says how many those were.
    pub(super) fn clear(&mut self) -> u64 {
        let records = self.len();
        self.is_open = false;
        while !self.frames.is_empty() {
            self.forget_first();
        }
        self.begin_again();
        records
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn record(number: u32, value: &[u8]) -> WireRecord<'_> {
        WireRecord {
            topic: "dovecot",
            key: b"alice",
            value,
            time_ms: 0,
            id: Uuid::nil(),
            txn: Uuid::nil(),
            txn_seq: number,
            txn_last: false,
        }
    }

    fn push(queue: &mut Queue, number: u32, value: &[u8]) -> bool {
        queue.push(&record(number, value))
    }

    fn numbers(queue: &mut Queue) -> Vec<u32> {
        let mut numbers = Vec::new();
        let unread = queue.for_each(|record| numbers.push(record.txn_seq));
        assert_eq!(unread, 0, "every record is whole");
        numbers
    }

    fn send_all(queue: &mut Queue) {
        while let Some(bytes) = queue.unsent() {
            let half = bytes.len().div_ceil(2);
            queue.mark_sent(half);
        }
    }

    #[test]
    fn frames_go_when_they_are_acknowledged_as_a_whole() {
        let mut queue = Queue::default();
        for number in 0..6 {
            push(&mut queue, number, b"{}");
            if number % 2 == 1 {
                queue.close_frame();
            }
        }
        assert!(queue.acknowledge(0));
        send_all(&mut queue);
        assert!(queue.acknowledge(3));
        assert_eq!(numbers(&mut queue), [2, 3, 4, 5]);
        assert!(queue.acknowledge(6));
        assert!(queue.is_empty());
        assert_eq!(queue.bytes(), 0);
        assert!(!queue.acknowledge(7), "more than was ever sent");
    }

    #[test]
    fn an_open_frame_is_not_sent_and_a_new_connection_begins_with_what_is_left() {
        let mut queue = Queue::default();
        push(&mut queue, 0, b"{}");
        assert_eq!(queue.unsent(), None);
        queue.close_frame();
        send_all(&mut queue);
        push(&mut queue, 1, b"{}");
        queue.close_frame();
        assert!(queue.acknowledge(1));
        queue.begin_again();
        send_all(&mut queue);
        assert!(queue.acknowledge(1));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_full_frame_closes_itself() {
        let mut queue = Queue::default();
        assert!(push(&mut queue, 0, &vec![b' '; FRAME_BYTES]));
        assert!(queue.unsent().is_some());
        assert!(!push(&mut queue, 1, b"{}"));
        assert_eq!(numbers(&mut queue), [0, 1]);
        assert_eq!(queue.clear(), 2);
        assert!(queue.is_empty() && queue.unsent().is_none());
    }
    #[test]
    fn a_record_that_has_no_room_in_the_frame_begins_another() {
        let mut queue = Queue::default();
        assert!(!push(&mut queue, 0, b"{}"));
        let empty = record_bytes(&record(1, b""));
        let longest = vec![b' '; MAX_FRAME_BYTES - wire::FRAME_HEAD_BYTES - 4 - empty];
        assert!(push(&mut queue, 1, &longest));
        let first = queue.unsent().expect("a frame").len();
        assert!(first < FRAME_BYTES, "{first} bytes");
        send_all(&mut queue);
        assert_eq!(numbers(&mut queue), [0, 1]);
        assert!(queue.acknowledge(2) && queue.is_empty());
    }

    #[test]
    fn what_cannot_be_read_back_is_counted() {
        let mut queue = Queue::default();
        push(&mut queue, 0, b"{}");
        push(&mut queue, 1, b"{}");
        queue.close_frame();
        let last = queue.frames.back_mut().expect("a frame");
        last.bytes.truncate(last.bytes.len() - 1);
        assert_eq!(queue.for_each(|_| {}), 2);
    }
}
