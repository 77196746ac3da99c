//! Times of requests, in RFC 3339.

use std::borrow::Cow;

use jiff::Timestamp;

/// What is said of another text.
pub(super) const NO_TIME: &str = "is not an RFC 3339 time";

/// Reads a time. Its fraction may have any number of digits, of which those of nanoseconds count.
pub(super) fn read(text: &str) -> Result<Timestamp, &'static str> {
    nanoseconds(text).parse().map_err(|_| NO_TIME)
}

fn nanoseconds(text: &str) -> Cow<'_, str> {
    let Some((seconds, rest)) = text.split_once('.') else {
        return text.into();
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    match digits {
        0..=9 => text.into(),
        _ => format!("{seconds}.{}{}", &rest[..9], &rest[digits..]).into(),
    }
}
