//! Where reading a topic begins, as the command line and queries say it.

use std::str::FromStr;

use dovecast_log::StartAt;
use jiff::Timestamp;

/// [`StartAt`] as it is written on the command line and in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin(pub(crate) StartAt);

impl FromStr for Begin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let start = match text {
            "beginning" => Some(StartAt::Beginning),
            "end" => Some(StartAt::End),
            _ => {
                if let Some(count) = text.strip_prefix("last:") {
                    count.parse().ok().map(StartAt::Last)
                } else {
                    let time = text.parse::<Timestamp>().ok();
                    time.map(|time| StartAt::Time(time.as_millisecond()))
                }
            }
        };
        start.map(Self).ok_or_else(|| {
            format!("`{text}` is none of `beginning`, `end`, `last:N` and an RFC 3339 time")
        })
    }
}

impl std::fmt::Display for Begin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            StartAt::Beginning => f.write_str("beginning"),
            StartAt::End => f.write_str("end"),
            StartAt::Last(count) => write!(f, "last:{count}"),
            StartAt::Time(time_ms) => {
                let time = Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::MAX);
                write!(f, "{time}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_begin_is_written_as_it_is_read() {
        for text in ["beginning", "end", "last:0", "last:25"] {
            assert_eq!(text.parse::<Begin>().expect(text).to_string(), text);
        }
    }
}
