//! What one commit adds to one partition, as bytes: a header that says where it belongs, records, a
//! checksum over all.
//!
//! CRC-32 (u32) of what follows; topic, partition, base offset, number of records; then each
//! record: time, key (0: none, else its length and 1), value, number of headers, headers. Numbers
//! are LEB128, the time zigzag; texts are length and bytes. The name of a header that every event
//! has is one byte from [`NAMES`], and a UUID is 16 bytes instead of 36.
//!
//! The header repeats what the row's key says: a batch that is all that is left of a damaged store
//! can still be placed. Of records that retention has removed from between others the header alone
//! is left.

mod entries;

use std::sync::Arc;

use bytes::Bytes;

use crate::{Header, NewRecord, Record};

pub(super) use entries::{Entry, entries};

/// Header names that take one byte, numbered from 1; only ever appended to.
const NAMES: [&str; 6] = [
    "dovecast-id",
    "dovecast-time",
    "dovecast-host",
    "dovecast-txn",
    "dovecast-txn-seq",
    "dovecast-txn-last",
];
/// Stands for the length of a value that is a UUID in its usual form.
const UUID: u64 = 0;
const UUID_TEXT_BYTES: usize = 36;

/// A batch in the making.
pub(super) struct Builder {
    bytes: Vec<u8>,
    pub(super) count: u64,
    pub(super) base: u64,
    head: (Arc<str>, u32),
}

impl Builder {
    pub(super) fn new(topic: &Arc<str>, partition: u32, base: u64) -> Self {
        Self {
            bytes: Vec::new(),
            count: 0,
            base,
            head: (Arc::clone(topic), partition),
        }
    }

    /// What is left of so many records that were removed.
    pub(super) fn removed(topic: &Arc<str>, partition: u32, base: u64, count: u64) -> Self {
        Self {
            count,
            ..Self::new(topic, partition, base)
        }
    }

    /// Bytes of the records so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn push(&mut self, record: &NewRecord) {
        let out = &mut self.bytes;
        write_number(out, zigzag(record.timestamp_ms));
        match &record.key {
            None => write_number(out, 0),
            Some(key) => {
                write_number(out, key.len() as u64 + 1);
                out.extend_from_slice(key);
            }
        }
        write_text(out, &record.value);
        write_number(out, record.headers.len() as u64);
        for header in &record.headers {
            write_header(out, header);
        }
        self.count += 1;
    }

    /// Adds a record as it stands in another batch.
    pub(super) fn push_entry(&mut self, entry: &Entry<'_>) {
        self.bytes.extend_from_slice(entry.bytes);
        self.count += 1;
    }

    /// The row's content.
    pub(super) fn finish(self) -> Vec<u8> {
        let (topic, partition) = self.head;
        let mut out = Vec::with_capacity(self.bytes.len() + topic.len() + 32);
        out.extend_from_slice(&[0; 4]);
        write_text(&mut out, topic.as_bytes());
        write_number(&mut out, u64::from(partition));
        write_number(&mut out, self.base);
        write_number(&mut out, self.count);
        out.extend_from_slice(&self.bytes);
        let sum = crc32fast::hash(&out[4..]);
        out[..4].copy_from_slice(&sum.to_le_bytes());
        out
    }
}

/// What a batch says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    pub(super) base: u64,
    pub(super) count: u64,
}

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("the checksum is wrong")]
    Checksum,
    #[error("it cannot be read though its checksum is right")]
    Nonsense,
    #[error("it belongs to another place")]
    Misplaced,
}

/// Checks a batch and reads its head.
pub(super) fn head(bytes: &[u8]) -> Result<Head, Damage> {
    Ok(open(bytes)?.0)
}

fn open(bytes: &[u8]) -> Result<(Head, Input<'_>), Damage> {
    let (sum, content) = bytes.split_first_chunk().ok_or(Damage::Checksum)?;
    if crc32fast::hash(content) != u32::from_le_bytes(*sum) {
        return Err(Damage::Checksum);
    }
    let mut input = Input(content);
    let read = |input: &mut Input<'_>| {
        Some(Head {
            topic: Arc::from(std::str::from_utf8(input.text()?).ok()?),
            partition: u32::try_from(input.number()?).ok()?,
            base: input.number()?,
            count: input.number()?,
        })
    };
    let head = read(&mut input).ok_or(Damage::Nonsense)?;
    Ok((head, input))
}

/// Reads the records from `from` on of a batch that has to belong to this topic and place. `None`:
/// retention has removed them.
pub(super) fn records(
    bytes: &[u8],
    topic: &Arc<str>,
    (partition, base): (u32, u64),
    from: u64,
) -> Result<Option<Vec<Record>>, Damage> {
    let (head, mut input) = open(bytes)?;
    if (&*head.topic, head.partition, head.base) != (topic, partition, base) {
        return Err(Damage::Misplaced);
    }
    if is_removed(&head, &input) {
        return Ok(None);
    }
    let mut records = Vec::new();
    for offset in head.base..head.base.saturating_add(head.count) {
        let record = input.record(topic, partition, offset);
        let record = record.ok_or(Damage::Nonsense)?;
        if offset >= from {
            records.push(record);
        }
    }
    Ok(Some(records))
}

/// Whether the records of a batch were removed: none is without bytes.
fn is_removed(head: &Head, records: &Input<'_>) -> bool {
    head.count > 0 && records.0.is_empty()
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    fn record(&mut self, topic: &Arc<str>, partition: u32, offset: u64) -> Option<Record> {
        let timestamp_ms = unzigzag(self.number()?);
        let key = match self.number()? {
            0 => None,
            length => Some(Bytes::copy_from_slice(self.take(length - 1)?)),
        };
        let value = Bytes::copy_from_slice(self.text()?);
        let count = self.number()?;
        let mut headers = Vec::with_capacity(usize::try_from(count.min(16)).ok()?);
        for _ in 0..count {
            headers.push(self.header()?);
        }
        Some(Record {
            topic: Arc::clone(topic),
            partition,
            offset,
            key,
            value,
            headers,
            timestamp_ms,
        })
    }

    fn header(&mut self) -> Option<Header> {
        let name: Arc<str> = match self.number()? {
            0 => Arc::from(std::str::from_utf8(self.text()?).ok()?),
            known => Arc::from(*NAMES.get(usize::try_from(known).ok()? - 1)?),
        };
        let value = match self.number()? {
            UUID => Bytes::from(uuid_text(self.take(16)?.try_into().ok()?)),
            length => Bytes::copy_from_slice(self.take(length - 1)?),
        };
        Some(Header { name, value })
    }
}

fn write_header(out: &mut Vec<u8>, header: &Header) {
    let known = NAMES.iter().position(|name| **name == *header.name);
    if let Some(number) = known {
        write_number(out, number as u64 + 1);
    } else {
        write_number(out, 0);
        write_text(out, header.name.as_bytes());
    }
    if let Some(uuid) = uuid_bytes(&header.value) {
        write_number(out, UUID);
        out.extend_from_slice(&uuid);
    } else {
        write_number(out, header.value.len() as u64 + 1);
        out.extend_from_slice(&header.value);
    }
}

fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    write_number(out, text.len() as u64);
    out.extend_from_slice(text);
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = number.to_le_bytes()[0];
        number >>= 7;
        if number == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

/// The bytes of a UUID, if this is one in lower case with hyphens: only that is given back the
/// same.
fn uuid_bytes(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != UUID_TEXT_BYTES {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (i, byte) in text.iter().enumerate() {
        let digit = match byte {
            b'-' if matches!(i, 8 | 13 | 18 | 23) => continue,
            _ if matches!(i, 8 | 13 | 18 | 23) => return None,
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        bytes[digits / 2] = bytes[digits / 2] << 4 | digit;
        digits += 1;
    }
    Some(bytes)
}

fn uuid_text(bytes: [u8; 16]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Vec::with_capacity(UUID_TEXT_BYTES);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text
}

#[cfg(test)]
mod tests;
