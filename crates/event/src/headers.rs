//! The headers of a record: what identifies an event and places it in its transaction.
//!
//! Values are text, so that any Kafka tool shows them. The record's key is the user name, its value
//! the JSON of [`render`](crate::render()).

use uuid::Uuid;

use crate::{UnixMillis, time};

/// Names of the record headers.
pub mod header_name {
    /// UUID of the event, version 7 or made of the mail; the same however often the record is sent.
    pub const ID: &str = "dovecast-id";
    /// When the event was observed, RFC 3339 in UTC with milliseconds.
    pub const TIME: &str = "dovecast-time";
    /// The host it was observed on.
    pub const HOST: &str = "dovecast-host";
    /// UUID of the mailbox transaction.
    pub const TXN: &str = "dovecast-txn";
    /// Place in the transaction, from 0.
    pub const TXN_SEQ: &str = "dovecast-txn-seq";
    /// `1` on the last record of a transaction, absent on the others.
    pub const TXN_LAST: &str = "dovecast-txn-last";
    /// User id of the process that has handed the record to the relay, as the kernel tells it.
    pub const UID: &str = "dovecast-uid";
}

/// Headers of one record, to be written.
#[derive(Clone, Copy, Debug)]
pub struct RecordHeaders<'a> {
    /// The event.
    pub id: Uuid,
    /// When it was observed.
    pub time: UnixMillis,
    /// Host name.
    pub host: &'a str,
    /// The transaction.
    pub txn: Uuid,
    /// Place in the transaction, from 0.
    pub txn_seq: u32,
    /// Whether the transaction ends with this record.
    pub txn_last: bool,
}

impl RecordHeaders<'_> {
    /// Calls `write` with the name and the value of each header. `scratch` is a buffer to reuse.
    pub fn write(&self, scratch: &mut Vec<u8>, mut write: impl FnMut(&'static str, &[u8])) {
        let mut uuid = Uuid::encode_buffer();
        write(
            header_name::ID,
            self.id.hyphenated().encode_lower(&mut uuid).as_bytes(),
        );
        scratch.clear();
        time::write_utc_ms(scratch, self.time);
        write(header_name::TIME, scratch);
        write(header_name::HOST, self.host.as_bytes());
        write(
            header_name::TXN,
            self.txn.hyphenated().encode_lower(&mut uuid).as_bytes(),
        );
        scratch.clear();
        crate::json::write_number(scratch, u64::from(self.txn_seq));
        write(header_name::TXN_SEQ, scratch);
        if self.txn_last {
            write(header_name::TXN_LAST, b"1");
        }
    }
}

/// Headers of one record, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedHeaders {
    /// The event.
    pub id: Uuid,
    /// When it was observed, RFC 3339.
    pub time: String,
    /// Host name.
    pub host: String,
    /// The transaction.
    pub txn: Uuid,
    /// Place in the transaction, from 0.
    pub txn_seq: u32,
    /// Whether the transaction ends with this record.
    pub txn_last: bool,
}

/// Why the headers of a record could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A header that every record has is not there.
    #[error("header `{0}` is missing")]
    Missing(&'static str),
    /// A header has a value of another form.
    #[error("header `{name}` has the value `{value}`, expected {expected}")]
    Invalid {
        /// Which header.
        name: &'static str,
        /// Value of the header, made printable.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl ParsedHeaders {
    /// Reads the headers of a record; others than ours are ignored, of several with one name the
    /// last counts (as Kafka's `lastHeader`).
    pub fn parse<'h>(
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) -> Result<Self, HeaderError> {
        let (mut id, mut time, mut host, mut txn, mut txn_seq, mut txn_last) =
            (None, None, None, None, None, None);
        for (name, value) in headers {
            match name {
                header_name::ID => id = Some(value),
                header_name::TIME => time = Some(value),
                header_name::HOST => host = Some(value),
                header_name::TXN => txn = Some(value),
                header_name::TXN_SEQ => txn_seq = Some(value),
                header_name::TXN_LAST => txn_last = Some(value),
                _ => {}
            }
        }
        Ok(Self {
            id: parse_with(header_name::ID, id, "a UUID", |text| {
                Uuid::try_parse(text).ok()
            })?,
            time: parse_with(header_name::TIME, time, "an RFC 3339 time", |text| {
                text.parse::<jiff::Timestamp>()
                    .ok()
                    .map(|_| text.to_owned())
            })?,
            host: parse_with(header_name::HOST, host, "UTF-8", |text| {
                Some(text.to_owned())
            })?,
            txn: parse_with(header_name::TXN, txn, "a UUID", |text| {
                Uuid::try_parse(text).ok()
            })?,
            txn_seq: parse_with(header_name::TXN_SEQ, txn_seq, "a number", |text| {
                text.parse().ok()
            })?,
            txn_last: match txn_last {
                None => false,
                value => parse_with(header_name::TXN_LAST, value, "`1`", |text| {
                    (text == "1").then_some(true)
                })?,
            },
        })
    }
}

fn parse_with<T>(
    name: &'static str,
    value: Option<&[u8]>,
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, HeaderError> {
    let value = value.ok_or(HeaderError::Missing(name))?;
    std::str::from_utf8(value)
        .ok()
        .and_then(read)
        .ok_or_else(|| HeaderError::Invalid {
            name,
            value: value.escape_ascii().to_string(),
            expected,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(headers: &RecordHeaders<'_>) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        headers.write(&mut Vec::new(), |name, value| {
            all.push((name, String::from_utf8(value.to_vec()).expect("text")));
        });
        all
    }

    fn example(txn_last: bool) -> RecordHeaders<'static> {
        RecordHeaders {
            id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
            time: UnixMillis(1_795_210_528_120),
            host: "mail1",
            txn: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002),
            txn_seq: 12,
            txn_last,
        }
    }

    #[test]
    fn headers_are_text_and_read_back() {
        let all = written(&example(true));
        assert_eq!(
            all.iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect::<Vec<_>>(),
            [
                "dovecast-id: 01900000-0000-7000-8000-000000000001",
                "dovecast-time: 2026-11-20T21:35:28.120Z",
                "dovecast-host: mail1",
                "dovecast-txn: 01900000-0000-7000-8000-000000000002",
                "dovecast-txn-seq: 12",
                "dovecast-txn-last: 1",
            ]
        );
        let parsed =
            ParsedHeaders::parse(all.iter().map(|(name, value)| (*name, value.as_bytes())))
                .expect("our own");
        assert_eq!(
            (parsed.id, parsed.txn_seq, parsed.txn_last),
            (example(true).id, 12, true)
        );
        assert_eq!(written(&example(false)).len(), 5);
    }

    #[test]
    fn a_wrong_header_is_named_with_its_value() {
        let all = written(&example(false));
        let check = |changed: &str, value: &[u8], expected: &str| {
            let headers = all
                .iter()
                .map(|(n, v)| (*n, if *n == changed { value } else { v.as_bytes() }));
            assert_eq!(
                ParsedHeaders::parse(headers)
                    .expect_err(changed)
                    .to_string(),
                expected
            );
        };
        check(
            "dovecast-id",
            b"7\xff",
            "header `dovecast-id` has the value `7\\xff`, expected a UUID",
        );
        check(
            "dovecast-txn-seq",
            b"-1",
            "header `dovecast-txn-seq` has the value `-1`, expected a number",
        );
        check(
            "dovecast-time",
            b"now",
            "header `dovecast-time` has the value `now`, expected an RFC 3339 time",
        );
        let none = ParsedHeaders::parse([("other", &b"x"[..])]);
        assert_eq!(none, Err(HeaderError::Missing("dovecast-id")));
    }
}
