//! Values of settings: those of 2.4, which are texts, and what is wrong with one in Dovecot's words
//! (`str-parse.c`, `settings-parser.c`); those of 2.3, which are numbers, truths and texts of Lua.

use mlua::Value;

/// What the value of a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Count,
    Milliseconds,
    Seconds,
    Size,
    Text,
    Truth,
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A count, or a time in its unit.
    Number(u32),
    Text(String),
    Truth(bool),
}

impl Kind {
    /// Reads a value of 2.4; `None`: it has no effect here.
    pub(super) fn read(self, key: &str, value: &Value) -> Result<Option<Read>, String> {
        let Some(text) = text(value)? else {
            return Err(format!("{key}: string expected"));
        };
        let read = match self {
            Self::Text => Ok(Some(Read::Text(text.clone()))),
            Self::Truth => truth(&text).map(|truth| Some(Read::Truth(truth))),
            Self::Count => count(&text).map(|count| Some(Read::Number(count))),
            Self::Milliseconds => time(&text, 1).map(|ms| Some(Read::Number(ms))),
            Self::Seconds => time(&text, 1_000).map(|seconds| Some(Read::Number(seconds))),
            Self::Size => size(&text).map(|()| None),
        };
        // A text is never wrong, so no password is cited.
        read.map_err(|error| format!("{key}={text}: {error}"))
    }

    /// Reads a value of 2.3, which has to be of the right type.
    pub(super) fn read_typed(self, key: &str, value: &Value) -> Result<Read, String> {
        match (self, value) {
            (Self::Text, Value::String(text)) => Ok(Read::Text(text.to_string_lossy())),
            (Self::Text, _) => Err(format!("{key}: string expected")),
            (Self::Truth, Value::Boolean(truth)) => Ok(Read::Truth(*truth)),
            (Self::Truth, _) => Err(format!("{key}: boolean expected")),
            (_, value) => {
                let number = whole(value).filter(|number| *number >= 0);
                let number =
                    number.ok_or_else(|| format!("{key}: non-negative number expected"))?;
                Ok(Read::Number(u32::try_from(number).unwrap_or(u32::MAX)))
            }
        }
    }
}

/// A value as the text that Dovecot makes of it, `None` where it makes none. A truth, of which
/// Dovecot makes no text, is `yes` or `no` here; numbers that are whole have no decimals.
pub(super) fn text(value: &Value) -> Result<Option<String>, String> {
    Ok(match value {
        Value::String(text) => Some(text.to_string_lossy()),
        Value::Boolean(truth) => Some(if *truth { "yes" } else { "no" }.to_owned()),
        Value::Integer(_) | Value::Number(_) => match whole(value) {
            Some(number) => Some(number.to_string()),
            None => Some(value.to_string().map_err(|error| error.to_string())?),
        },
        _ => None,
    })
}

/// A number without a fraction.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        #[allow(
            clippy::cast_possible_truncation,
            reason = "checked to be whole; saturates"
        )]
        Value::Number(number) if number.fract() == 0.0 => Some(*number as i64),
        _ => None,
    }
}

fn truth(text: &str) -> Result<bool, String> {
    match &*text.to_ascii_lowercase() {
        "yes" | "y" | "1" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("Invalid boolean value: {text} (use yes or no)")),
    }
}

fn count(text: &str) -> Result<u32, String> {
    if text == "unlimited" {
        return Ok(u32::MAX);
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().map_err(|_| {
        let why = match text.strip_prefix('-') {
            Some(number) if is_number(number) => "Number too small",
            None if is_number(text) => "Number too large",
            _ => "Not a valid number",
        };
        format!("Invalid number {text}: {why}")
    })
}

/// A time with its unit (`5s`, `500 msecs`, `1 hour`), in units of so many milliseconds.
fn time(text: &str, unit_ms: u64) -> Result<u32, String> {
    let invalid = || format!("Invalid time interval: {text}");
    let too_large = || format!("Time interval is too large: {text}");
    let (number, unit) = parts(text).ok_or_else(invalid)?;
    let number: u64 = number.parse().map_err(|_| invalid())?;
    if unit.is_empty() && number != 0 {
        return Err(format!(
            "Time interval '{text}' is missing units (add e.g. 's' for seconds)"
        ));
    }
    // A unit may be shortened, but to what begins no other one.
    let is_short_for = |names: &[&str]| names.iter().any(|name| name.starts_with(&*unit));
    let ms = if unit.is_empty() || is_short_for(&["secs", "seconds"]) {
        1_000
    } else if is_short_for(&["mins", "minutes"]) {
        60_000
    } else if is_short_for(&["msecs", "mseconds", "millisecs", "milliseconds"]) {
        1
    } else if is_short_for(&["hours"]) {
        3_600_000
    } else if is_short_for(&["days"]) {
        86_400_000
    } else if is_short_for(&["weeks"]) {
        604_800_000
    } else {
        return Err(invalid());
    };
    let ms = number.checked_mul(ms).ok_or_else(too_large)?;
    if ms % unit_ms != 0 {
        return Err(format!(
            "Milliseconds not supported for this setting: {text}"
        ));
    }
    u32::try_from(ms / unit_ms).map_err(|_| too_large())
}

/// A number of bytes, with a unit or without.
fn size(text: &str) -> Result<(), String> {
    let invalid = || format!("Invalid size: {text}");
    let (number, unit) = parts(text).ok_or_else(invalid)?;
    let _: u64 = number.parse().map_err(|_| invalid())?;
    let mut unit = unit.chars();
    let (first, rest) = (unit.next(), unit.as_str());
    let is_known = match first {
        None => true,
        Some('b') => rest.is_empty(),
        Some('k' | 'm' | 'g' | 't') => matches!(rest, "" | "i" | "b" | "ib"),
        Some(_) => false,
    };
    is_known.then_some(()).ok_or_else(invalid)
}

/// The digits that a text begins with, and what is behind them in lower case.
fn parts(text: &str) -> Option<(&str, String)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number, unit.trim_start_matches(' ').to_ascii_lowercase()))
}
