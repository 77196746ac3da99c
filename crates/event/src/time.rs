//! RFC 3339 times, written straight into an output buffer.

use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// An instant in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Appends `2026-11-20T21:35:28.123Z`.
    pub fn write_rfc3339(self, out: &mut Vec<u8>) {
        write_utc_ms(out, self);
    }
}

const PRINTER: DateTimePrinter = DateTimePrinter::new();
const PRINTER_MS: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// Years that RFC 3339's four digits can hold, as seconds: 0000-01-01T00:00:00Z to
/// 9999-12-30T22:00:00Z, jiff's last.
const RFC3339_SECONDS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_207_200;

/// Writes `2026-11-20T21:35:28.123Z`. An instant past the year 9999 is written as the last one that
/// can be.
pub(crate) fn write_utc_ms(out: &mut Vec<u8>, time: UnixMillis) {
    let last_ms = RFC3339_SECONDS.end() * 1000;
    let ms = i64::try_from(time.0).unwrap_or(last_ms).min(last_ms);
    let timestamp =
        Timestamp::from_duration(SignedDuration::from_millis(ms)).unwrap_or(Timestamp::MAX);
    // Writing into a Vec cannot fail; the printer's error is its writer's.
    let _ = PRINTER_MS.print_timestamp(&timestamp, out);
}

/// Writes `2026-11-20T12:34:56+05:30`: the instant `unix_seconds` on the clock of `tz_minutes` east
/// of UTC.
///
/// An offset that RFC 3339 cannot hold (a day or more) is written as UTC: the instant stays right.
/// Returns whether anything was written: nothing is for a year outside 0000 to 9999.
pub(crate) fn write_with_offset(out: &mut Vec<u8>, unix_seconds: i64, tz_minutes: i32) -> bool {
    let offset_seconds = if tz_minutes.abs() < 24 * 60 {
        tz_minutes * 60
    } else {
        0
    };
    let local = unix_seconds.saturating_add(i64::from(offset_seconds));
    if !RFC3339_SECONDS.contains(&unix_seconds) || !RFC3339_SECONDS.contains(&local) {
        return false;
    }
    let (Ok(timestamp), Ok(offset)) = (
        Timestamp::from_second(unix_seconds),
        Offset::from_seconds(offset_seconds),
    ) else {
        return false;
    };
    PRINTER
        .print_timestamp_with_offset(&timestamp, offset, out)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(ms: u64) -> String {
        let mut out = Vec::new();
        write_utc_ms(&mut out, UnixMillis(ms));
        String::from_utf8(out).expect("ASCII")
    }

    fn local(seconds: i64, tz_minutes: i32) -> Option<String> {
        let mut out = Vec::new();
        write_with_offset(&mut out, seconds, tz_minutes)
            .then(|| String::from_utf8(out).expect("ASCII"))
    }

    #[test]
    fn utc_has_three_digits_of_a_second() {
        assert_eq!(utc(1_795_210_528_120), "2026-11-20T21:35:28.120Z");
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(u64::MAX), "9999-12-30T22:00:00.000Z");
    }

    #[test]
    fn local_time_keeps_the_instant() {
        // Fri, 20 Nov 2026 12:34:56 +0530
        assert_eq!(
            local(1_795_158_296, 330).as_deref(),
            Some("2026-11-20T12:34:56+05:30")
        );
        assert_eq!(
            local(1_795_158_296, -480).as_deref(),
            Some("2026-11-19T23:04:56-08:00")
        );
        assert_eq!(
            local(1_795_158_296, 0).as_deref(),
            Some("2026-11-20T07:04:56+00:00")
        );
    }

    #[test]
    fn what_rfc_3339_cannot_hold_is_utc_or_nothing() {
        assert_eq!(
            local(1_795_158_296, 6039).as_deref(),
            Some("2026-11-20T07:04:56+00:00")
        );
        assert_eq!(local(i64::MAX, 0), None);
        assert_eq!(local(i64::MIN, -1439), None);
        assert_eq!(local(-62_167_219_200, -60), None);
    }
}
