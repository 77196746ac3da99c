//! What was read of a client and not taken yet: records are taken one by one, so that of a frame
//! with very many no more are in memory than the next append has room for.

use crate::wire::{self, Frame, MAX_FRAME_BYTES, Records, WireError, WireRecord};

/// Bytes of whole frames, and perhaps the beginning of one.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// Where the next frame or record begins.
    at: usize,
    open: Option<Open>,
}

/// A frame of records that are being taken.
struct Open {
    left: u32,
    /// Where it ends.
    end: usize,
}

/// The next thing that a client has sent.
pub(super) enum Item<'a> {
    /// A record and its bytes on the wire.
    Record(WireRecord<'a>, usize),
    /// A hello, or a frame that only a relay sends.
    Other,
}

impl Inbox {
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What is not taken yet.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What the frame takes that is being taken or has not arrived whole; 0 if there is none, or no
    /// more than a part of its length.
    pub(super) fn frame_bytes(&self) -> usize {
        let left = &self.bytes[self.at..];
        match (&self.open, left.first_chunk()) {
            (Some(open), _) => open.end - self.at,
            (None, Some(length)) => {
                let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
                // A longer one is refused when it is read.
                length.min(MAX_FRAME_BYTES) + size_of::<u32>()
            }
            (None, None) => 0,
        }
    }

    /// Whether the frame that is being taken, or is the next one, has arrived whole.
    pub(super) fn is_whole(&self) -> bool {
        let has_length = self.len() >= size_of::<u32>();
        self.open.is_some() || (has_length && self.len() >= self.frame_bytes())
    }

    /// The first frame of all, once it has arrived whole, and what it took.
    pub(super) fn first(&self) -> Result<Option<(Frame<'_>, usize)>, WireError> {
        wire::read_frame(&self.bytes)
    }

    /// Leaves out what the first frame took.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
        self.tidy();
    }

    /// The next thing that has arrived whole.
    pub(super) fn next(&mut self) -> Result<Option<Item<'_>>, WireError> {
        loop {
            if let Some(Open { left, end }) = &mut self.open {
                if *left > 0 {
                    let (record, bytes) = wire::first_record(&self.bytes[self.at..*end])?;
                    self.at += bytes;
                    *left -= 1;
                    return Ok(Some(Item::Record(record, bytes)));
                }
                if self.at < *end {
                    return Err(wire::behind_records(*end - self.at));
                }
                self.open = None;
            }
            let Some((frame, bytes)) = wire::read_frame(&self.bytes[self.at..])? else {
                return Ok(None);
            };
            let end = self.at + bytes;
            let Frame::Records(records) = frame else {
                self.at = end;
                return Ok(Some(Item::Other));
            };
            self.at = end - records.len_bytes();
            self.open = Some(Open {
                left: Records::count(&records),
                end,
            });
        }
    }

    /// Gives back the room of what was taken.
    pub(super) fn tidy(&mut self) {
        self.bytes.drain(..self.at);
        if let Some(open) = &mut self.open {
            open.end -= self.at;
        }
        self.at = 0;
        if self.bytes.is_empty() {
            // Thousands of idle clients keep no buffer.
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn frame(out: &mut Vec<u8>, numbers: std::ops::Range<u32>) {
        let at = wire::begin_records(out);
        let count = numbers.len();
        for number in numbers {
            let record = WireRecord {
                topic: "dovecot",
                key: b"alice",
                value: b"{}",
                time_ms: 0,
                id: Uuid::nil(),
                txn: Uuid::nil(),
                txn_seq: number,
                txn_last: true,
            };
            wire::write_record(out, &record);
        }
        wire::end_records(out, at, u32::try_from(count).expect("few"));
    }

    #[test]
    fn records_are_taken_one_by_one_however_the_bytes_arrive() {
        let mut bytes = Vec::new();
        frame(&mut bytes, 0..3);
        frame(&mut bytes, 3..3);
        frame(&mut bytes, 3..5);
        for piece in [1, 7, 100, bytes.len()] {
            for is_tidied in [false, true] {
                let mut inbox = Inbox::default();
                let mut taken = Vec::new();
                for piece in bytes.chunks(piece) {
                    inbox.extend(piece);
                    while let Some(item) = inbox.next().expect("frames") {
                        let Item::Record(record, _) = item else {
                            panic!("no record");
                        };
                        taken.push(record.txn_seq);
                        if is_tidied {
                            inbox.tidy();
                        }
                    }
                }
                assert_eq!(taken, [0, 1, 2, 3, 4], "pieces of {piece}");
                assert_eq!(inbox.frame_bytes(), 0);
            }
        }
    }

    #[test]
    fn a_frame_is_whole_as_soon_as_its_last_byte_is_there_and_while_it_is_taken() {
        let mut bytes = Vec::new();
        frame(&mut bytes, 0..2);
        let first = bytes.len();
        frame(&mut bytes, 2..4);
        for (there, taken, expected) in [
            (0, 0, false),
            (3, 0, false),
            (4, 0, false),
            (first - 1, 0, false),
            (first, 0, true),
            // Its records wait for the log, one by one.
            (first, 1, true),
            (first, 2, true),
            (first + 10, 1, true),
            (bytes.len(), 3, true),
        ] {
            let mut inbox = Inbox::default();
            inbox.extend(&bytes[..there]);
            for _ in 0..taken {
                assert!(matches!(inbox.next(), Ok(Some(Item::Record(..)))));
            }
            assert_eq!(inbox.is_whole(), expected, "{taken} taken of {there} bytes");
        }
        let mut inbox = Inbox::default();
        inbox.extend(&bytes[..first + 10]);
        for _ in 0..2 {
            assert!(matches!(inbox.next(), Ok(Some(Item::Record(..)))));
        }
        assert!(matches!(inbox.next(), Ok(None)));
        assert!(!inbox.is_whole(), "the second has not arrived whole");
    }

    #[test]
    fn what_is_behind_the_last_record_is_an_error() {
        let mut bytes = Vec::new();
        let at = wire::begin_records(&mut bytes);
        bytes.push(0);
        wire::end_records(&mut bytes, at, 0);
        let mut inbox = Inbox::default();
        inbox.extend(&bytes);
        let error = inbox.next().err().expect("an error").to_string();
        assert_eq!(error, "1 bytes too many in a frame of type 2");
    }
}
