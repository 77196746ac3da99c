//! The bytes between a mail process and the relay. Pure: no I/O.
//!
//! A stream of frames each way: length of what follows (u32), type (u8), body. All numbers are
//! little-endian; `text8`, `text16` and `bytes32` are a length of so many bits and the bytes. The
//! client begins with [`Frame::Hello`] and need not wait for the answer. Its records are numbered
//! from 0 on each connection, in the order of the stream; [`Frame::Ack`] says how many of them,
//! from the first, are durable.
//!
//! | type | from | body |
//! | --- | --- | --- |
//! | 1 Hello | client | version u8, host text16, program text16, spill file text16 (empty: none) |
//! | 2 Records | client | count u32, then each: topic text16, key bytes32, value bytes32, time u64 (ms), id 16 bytes, txn 16 bytes, place in it u32, flags u8 (1: last of the transaction) |
//! | 129 Welcome | relay | version u8, longest frame u32 |
//! | 130 Ack | relay | records u64 |
//! | 131 Refused | relay | reason u8, text text16; the relay closes the connection after it |
//! | 132 Rejected | relay | records u64, count u64, reason text16 |
//!
//! A Rejected, which came with version 2, says of how many records that an [`Frame::Ack`] of
//! `records` counts that they are lost.

use std::str;

use uuid::Uuid;

/// Version of the protocol.
pub const VERSION: u8 = 2;
/// The oldest version that a relay understands; others it refuses with [`Refusal::Version`]. A
/// client of version 1 knows no [`Frame::Rejected`]: it is sent away instead.
pub const OLDEST_VERSION: u8 = 1;
/// The longest frame: length of type and body. A longer one is refused.
pub const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;
/// Length and type of a frame.
pub const FRAME_HEAD_BYTES: usize = 5;
/// What a record takes beside topic, key and value.
const RECORD_FIXED_BYTES: usize = 2 + 4 + 4 + 8 + 16 + 16 + 4 + 1;
const FLAG_LAST: u8 = 1;

const HELLO: u8 = 1;
const RECORDS: u8 = 2;
const WELCOME: u8 = 129;
const ACK: u8 = 130;
const REFUSED: u8 = 131;
const REJECTED: u8 = 132;

/// One event on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireRecord<'a> {
    /// Topic it goes to.
    pub topic: &'a str,
    /// The user.
    pub key: &'a [u8],
    /// The rendered event.
    pub value: &'a [u8],
    /// When it was observed, milliseconds since the epoch.
    pub time_ms: u64,
    /// UUIDv7 of the event.
    pub id: Uuid,
    /// The mailbox transaction.
    pub txn: Uuid,
    /// Place in the transaction, from 0.
    pub txn_seq: u32,
    /// Whether the transaction ends with this record.
    pub txn_last: bool,
}

/// Who a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Version of the protocol that the client speaks.
    pub version: u8,
    /// Name of its host, for the records' header.
    pub host: &'a str,
    /// What it is, for the log: `imap`, `lmtp`...
    pub program: &'a str,
    /// Name of the spill file that no relay has confirmed yet, open and locked perhaps; its records
    /// come before those of this connection. Empty: none.
    pub spill: &'a str,
}

/// Why the relay does not go on with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The user id of the process is not among those that may send.
    Peer = 1,
    /// Another version of the protocol.
    Version = 2,
    /// What came is no frame, or none that has to come; in version 1 also a record is not taken.
    Malformed = 3,
    /// There are too many clients, a frame comes too slowly, or the spill file has to wait.
    Busy = 4,
    /// The relay is being stopped.
    Stopping = 5,
}

impl Refusal {
    fn from_code(code: u8) -> Option<Self> {
        [
            Self::Peer,
            Self::Version,
            Self::Malformed,
            Self::Busy,
            Self::Stopping,
        ]
        .into_iter()
        .find(|refusal| *refusal as u8 == code)
    }
}

/// A frame, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The first of a client.
    Hello(Hello<'a>),
    /// Records of a client.
    Records(Records<'a>),
    /// The answer to [`Frame::Hello`].
    Welcome {
        /// The relay's version.
        version: u8,
        /// The longest frame it takes.
        max_frame_bytes: u32,
    },
    /// Records of this connection that are durable, or were rejected before, in all.
    Ack(u64),
    /// Records that are lost.
    Rejected(Rejected<'a>),
    /// The last of a relay.
    Refused {
        /// Why; `None`: a reason of a later version.
        reason: Option<Refusal>,
        /// Why, in words.
        text: &'a str,
    },
}

/// Records that are not in the log and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected<'a> {
    /// The acknowledgement of so many records of the connection counts them. 0: they were in the
    /// spill file that the hello named.
    pub up_to: u64,
    /// How many they are.
    pub count: u64,
    /// Why, in words.
    pub reason: &'a str,
}

/// The records of a frame: an iterator that ends after the last or after an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records<'a> {
    count: u32,
    rest: &'a [u8],
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The length is impossible.
    #[error("a frame of {0} bytes (1 to {MAX_FRAME_BYTES} are possible)")]
    Length(usize),
    /// There is no such type.
    #[error("unknown frame type {0}")]
    Type(u8),
    /// The body ends too early.
    #[error("the body of a frame of type {0} is cut short")]
    Short(u8),
    /// There is more than the body.
    #[error("{1} bytes too many in a frame of type {0}")]
    Long(u8, usize),
    /// Text is not UTF-8.
    #[error("text that is not UTF-8 in a frame of type {0}")]
    Text(u8),
}

/// Splits the first frame off `bytes`: the frame and what it took. `None`: it is not complete yet.
pub fn read_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, WireError> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if !(1..=MAX_FRAME_BYTES).contains(&length) {
        return Err(WireError::Length(length));
    }
    let Some(frame) = rest.get(..length) else {
        return Ok(None);
    };
    let mut body = Body {
        kind: frame[0],
        rest: &frame[1..],
    };
    let frame = match body.kind {
        HELLO => Frame::Hello(Hello {
            version: body.u8()?,
            host: body.text16()?,
            program: body.text16()?,
            spill: body.text16()?,
        }),
        RECORDS => {
            let records = Records {
                count: body.u32()?,
                rest: body.rest,
            };
            return Ok(Some((Frame::Records(records), 4 + length)));
        }
        WELCOME => Frame::Welcome {
            version: body.u8()?,
            max_frame_bytes: body.u32()?,
        },
        ACK => Frame::Ack(body.u64()?),
        REJECTED => Frame::Rejected(Rejected {
            up_to: body.u64()?,
            count: body.u64()?,
            reason: body.text16()?,
        }),
        REFUSED => Frame::Refused {
            reason: Refusal::from_code(body.u8()?),
            text: body.text16()?,
        },
        unknown => return Err(WireError::Type(unknown)),
    };
    body.end()?;
    Ok(Some((frame, 4 + length)))
}

impl Records<'_> {
    /// How many there are, as the frame says.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// What they take in the frame, which ends behind them.
    pub fn len_bytes(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<WireRecord<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut body = Body {
            kind: RECORDS,
            rest: self.rest,
        };
        if self.count == 0 {
            self.rest = &[];
            return body.end().err().map(Err);
        }
        let record = body.record();
        self.count = if record.is_ok() { self.count - 1 } else { 0 };
        self.rest = if record.is_ok() { body.rest } else { &[] };
        Some(record)
    }
}

/// What is left of a frame's body.
struct Body<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(WireError::Short(self.kind))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(WireError::Short(self.kind))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes32(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.u32()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn text16(&mut self) -> Result<&'a str, WireError> {
        let length = u16::from_le_bytes(self.array()?);
        str::from_utf8(self.take(usize::from(length))?).map_err(|_| WireError::Text(self.kind))
    }

    fn record(&mut self) -> Result<WireRecord<'a>, WireError> {
        Ok(WireRecord {
            topic: self.text16()?,
            key: self.bytes32()?,
            value: self.bytes32()?,
            time_ms: self.u64()?,
            id: Uuid::from_bytes(self.array()?),
            txn: Uuid::from_bytes(self.array()?),
            txn_seq: self.u32()?,
            txn_last: self.u8()? & FLAG_LAST != 0,
        })
    }

    fn end(&self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(WireError::Long(self.kind, more)),
        }
    }
}

/// Reads the record that `bytes` begin with: the record and what it took.
pub fn first_record(bytes: &[u8]) -> Result<(WireRecord<'_>, usize), WireError> {
    let mut body = Body {
        kind: RECORDS,
        rest: bytes,
    };
    let record = body.record()?;
    Ok((record, bytes.len() - body.rest.len()))
}

/// What is wrong with a frame of records that has so many bytes behind its last one.
pub fn behind_records(bytes: usize) -> WireError {
    WireError::Long(RECORDS, bytes)
}

/// Reads one record that fills `bytes`, as a spill file has it.
pub fn read_record(bytes: &[u8]) -> Result<WireRecord<'_>, WireError> {
    let mut body = Body {
        kind: RECORDS,
        rest: bytes,
    };
    let record = body.record()?;
    body.end()?;
    Ok(record)
}

/// Appends one record, as it is within a frame.
pub fn write_record(out: &mut Vec<u8>, record: &WireRecord<'_>) {
    write_text16(out, record.topic);
    write_bytes32(out, record.key);
    write_bytes32(out, record.value);
    out.extend_from_slice(&record.time_ms.to_le_bytes());
    out.extend_from_slice(record.id.as_bytes());
    out.extend_from_slice(record.txn.as_bytes());
    out.extend_from_slice(&record.txn_seq.to_le_bytes());
    out.push(if record.txn_last { FLAG_LAST } else { 0 });
}

/// What [`write_record`] appends.
pub fn record_bytes(record: &WireRecord<'_>) -> usize {
    RECORD_FIXED_BYTES + record.topic.len() + record.key.len() + record.value.len()
}

/// Begins a frame of records at the end of `out`; [`end_records`] wants the place it returns.
pub fn begin_records(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, RECORDS, 0, 0, 0, 0]);
    at
}

/// Ends the frame that begins at `at` and is the last in `out`.
pub fn end_records(out: &mut [u8], at: usize, count: u32) {
    let body = at + FRAME_HEAD_BYTES;
    out[body..body + 4].copy_from_slice(&count.to_le_bytes());
    set_length(out, at);
}

/// Appends a hello.
pub fn write_hello(out: &mut Vec<u8>, hello: &Hello<'_>) {
    write_frame(out, HELLO, |out| {
        out.push(hello.version);
        write_text16(out, hello.host);
        write_text16(out, hello.program);
        write_text16(out, hello.spill);
    });
}

/// Appends a welcome.
pub fn write_welcome(out: &mut Vec<u8>) {
    write_frame(out, WELCOME, |out| {
        out.push(VERSION);
        let longest = u32::try_from(MAX_FRAME_BYTES).unwrap_or(u32::MAX);
        out.extend_from_slice(&longest.to_le_bytes());
    });
}

/// Appends an acknowledgement of the first `records` of a connection.
pub fn write_ack(out: &mut Vec<u8>, records: u64) {
    write_frame(out, ACK, |out| {
        out.extend_from_slice(&records.to_le_bytes());
    });
}

/// Appends what tells of records that are lost.
pub fn write_rejected(out: &mut Vec<u8>, rejected: &Rejected<'_>) {
    write_frame(out, REJECTED, |out| {
        out.extend_from_slice(&rejected.up_to.to_le_bytes());
        out.extend_from_slice(&rejected.count.to_le_bytes());
        write_text16(out, rejected.reason);
    });
}

/// Appends a refusal.
pub fn write_refused(out: &mut Vec<u8>, reason: Refusal, text: &str) {
    write_frame(out, REFUSED, |out| {
        out.push(reason as u8);
        write_text16(out, text);
    });
}

fn write_frame(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    body(out);
    set_length(out, at);
}

fn set_length(out: &mut [u8], at: usize) {
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Longer texts are cut at the end of a character.
pub(crate) fn write_text16(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn write_bytes32(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
