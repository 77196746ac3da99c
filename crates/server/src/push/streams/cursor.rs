//! Cursors: how far a stream has come, as its client says it when it comes back.
//!
//! The events of a mailbox are in one partition of their topic, so that the place of the last one
//! is exact there; for other topics, and where nothing was told yet, it is the time of the log.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest cursor, in bytes: numbers, and the name of a topic.
const MAX_BYTES: usize = 400;

/// Longest name of a topic, in bytes: Kafka's.
const MAX_TOPIC_BYTES: usize = 249;

/// Place of a record in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordAt {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    pub(super) offset: u64,
}

/// How far a stream has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// When the last record was written, or when the stream began, in milliseconds since 1970.
    pub(super) time_ms: i64,
    /// The last record.
    pub(super) place: Option<RecordAt>,
}

/// A text that is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadCursor;

impl Cursor {
    pub(super) fn at(time_ms: i64, place: RecordAt) -> Self {
        Self {
            time_ms,
            place: Some(place),
        }
    }

    pub(super) fn of_time(time_ms: i64) -> Self {
        Self {
            time_ms,
            place: None,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.time_ms)?;
        match &self.place {
            Some(place) => write!(out, ".{}.{}.{}", place.partition, place.offset, place.topic),
            None => Ok(()),
        }
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        if text.len() > MAX_BYTES {
            return Err(BadCursor);
        }
        let mut parts = text.splitn(4, '.');
        let time_ms = number(parts.next())?;
        let place = match parts.next() {
            None => None,
            partition => Some(RecordAt {
                partition: number(partition)?,
                offset: number(parts.next())?,
                topic: topic(parts.next())?.into(),
            }),
        };
        Ok(Self { time_ms, place })
    }
}

/// Digits alone: `parse` takes a sign as well.
fn number<T: FromStr>(text: Option<&str>) -> Result<T, BadCursor> {
    let text = text.ok_or(BadCursor)?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadCursor);
    }
    text.parse().map_err(|_| BadCursor)
}

/// What a topic may be called: a cursor is said again as it came, so that nothing else is taken.
fn topic(text: Option<&str>) -> Result<&str, BadCursor> {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name =
        |text: &&str| (1..=MAX_TOPIC_BYTES).contains(&text.len()) && text.bytes().all(is_usual);
    text.filter(is_name).ok_or(BadCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let place = |topic: &str| RecordAt {
            topic: topic.into(),
            partition: 3,
            offset: u64::MAX,
        };
        for cursor in [
            Cursor::of_time(0),
            Cursor::at(1_700_000_000_123, place("dovecot")),
            Cursor::at(7, place("mail.of.one-site")),
        ] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in [
            "",
            "x",
            "-1",
            "+1",
            "1.",
            "1.2",
            "1.2.3",
            "1.-2.3.t",
            "1.2.99999999999999999999.t",
            "99999999999999999999",
            "1.4294967296.0.t",
            "1.2.3.",
            "1.2.3.t\n\ndata: forged",
            "1.2.3.t\r",
            "1.2.3.a topic",
            "1.2.3.\u{e9}",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(BadCursor), "{text}");
        }
        for bytes in [250, 1_000_000] {
            let long = format!("1.2.3.{}", "t".repeat(bytes));
            assert_eq!(long.parse::<Cursor>(), Err(BadCursor), "{bytes}");
        }
    }
}
