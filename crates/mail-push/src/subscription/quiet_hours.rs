//! Quiet hours of a person, in the time of a place.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Hours of each day in which a device stays quiet.
#[derive(Clone, Debug, PartialEq)]
pub struct QuietHours {
    zone: TimeZone,
    from: Time,
    to: Time,
}

/// Why quiet hours are none; the text begins with the name of the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuietHours {
    /// No time zone of the IANA database has this name.
    #[error("`timezone` is no time zone such as `Europe/Berlin`")]
    Zone,
    /// A field is no time of the day.
    #[error("`{0}` is no time of the day such as `22:00`")]
    Time(&'static str),
    /// Nothing would be quiet, or everything.
    #[error("`from` and `to` are the same time")]
    Same,
}

impl QuietHours {
    /// Reads quiet hours as they stand in JSON.
    pub fn parse(zone: &str, from: &str, to: &str) -> Result<Self, BadQuietHours> {
        let zone = TimeZone::get(zone).map_err(|_| BadQuietHours::Zone)?;
        let from = time(from).ok_or(BadQuietHours::Time("from"))?;
        let to = time(to).ok_or(BadQuietHours::Time("to"))?;
        if from == to {
            return Err(BadQuietHours::Same);
        }
        Ok(Self { zone, from, to })
    }

    /// Name of the time zone, beginning and end, as they stand in JSON.
    pub fn texts(&self) -> [String; 3] {
        let zone = self.zone.iana_name().unwrap_or("UTC").to_owned();
        let text = |time: Time| format!("{:02}:{:02}", time.hour(), time.minute());
        [zone, text(self.from), text(self.to)]
    }

    /// When the quiet hours end in which a moment lies, in milliseconds since 1970, later than the
    /// moment; `None`: it lies in none. Where clocks are put forward over the end, they end with
    /// the gap; where they are put back over it, they end when it comes first.
    pub fn end_of(&self, now_ms: i64) -> Option<i64> {
        let now = Timestamp::from_millisecond(now_ms).ok()?;
        let here = now.to_zoned(self.zone.clone());
        let time = here.time();
        let spans_midnight = self.from > self.to;
        let (is_quiet, ends_tomorrow) = if spans_midnight {
            (time >= self.from || time < self.to, time >= self.from)
        } else {
            (time >= self.from && time < self.to, false)
        };
        if !is_quiet {
            return None;
        }
        let mut day = here.date();
        if ends_tomorrow {
            day = day.checked_add(1.day()).ok()?;
        }
        let end = day.to_datetime(self.to).to_zoned(self.zone.clone()).ok()?;
        // Of an hour that comes twice the first end may be over.
        let end_ms = end.timestamp().as_millisecond();
        (end_ms > now_ms).then_some(end_ms)
    }
}

/// `HH:MM`
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| text.parse().ok()).flatten()
    };
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().expect(text).as_millisecond()
    }

    #[track_caller]
    fn check(hours: [&str; 3], now: &str, expected: Option<&str>) {
        let quiet = QuietHours::parse(hours[0], hours[1], hours[2]).expect("quiet hours");
        assert_eq!(quiet.end_of(ms(now)), expected.map(ms), "{hours:?} {now}");
        assert_eq!(quiet.texts(), hours.map(ToOwned::to_owned));
    }

    #[test]
    fn a_night_begins_before_midnight_and_ends_after_it() {
        let night = ["Europe/Berlin", "22:00", "07:00"];
        for (now, expected) in [
            ("2026-01-10T20:59:59Z", None),
            ("2026-01-10T21:00:00Z", Some("2026-01-11T06:00:00Z")),
            ("2026-01-11T05:59:59Z", Some("2026-01-11T06:00:00Z")),
            ("2026-01-11T06:00:00Z", None),
            // In summer an hour earlier.
            ("2026-07-10T20:00:00Z", Some("2026-07-11T05:00:00Z")),
            // The night in which clocks are put forward.
            ("2026-03-28T22:00:00Z", Some("2026-03-29T05:00:00Z")),
        ] {
            check(night, now, expected);
        }
    }

    #[test]
    fn hours_of_a_day_end_on_it() {
        let lunch = ["America/New_York", "12:00", "13:30"];
        check(lunch, "2026-01-10T17:00:00Z", Some("2026-01-10T18:30:00Z"));
        check(lunch, "2026-01-10T18:30:00Z", None);
    }

    #[test]
    fn an_end_that_does_not_exist_is_the_end_of_the_gap() {
        let hours = ["Europe/Berlin", "00:00", "02:30"];
        check(hours, "2026-03-29T00:00:00Z", Some("2026-03-29T01:30:00Z"));
    }

    #[test]
    fn an_end_that_comes_twice_is_the_first_one() {
        let hours = ["Europe/Berlin", "22:00", "02:30"];
        check(hours, "2026-10-25T00:15:00Z", Some("2026-10-25T00:30:00Z"));
        check(hours, "2026-10-25T01:15:00Z", None);
    }

    #[test]
    fn what_are_no_quiet_hours_is_said() {
        for (hours, expected) in [
            (["Mars/Base", "22:00", "07:00"], BadQuietHours::Zone),
            (["", "22:00", "07:00"], BadQuietHours::Zone),
            (["UTC", "24:00", "07:00"], BadQuietHours::Time("from")),
            (["UTC", "22:00", "7:00"], BadQuietHours::Time("to")),
            (["UTC", "+1:00", "07:00"], BadQuietHours::Time("from")),
            (["UTC", "07:00", "07:00"], BadQuietHours::Same),
        ] {
            let refused = QuietHours::parse(hours[0], hours[1], hours[2]);
            assert_eq!(refused.expect_err("refused"), expected, "{hours:?}");
        }
    }
}
