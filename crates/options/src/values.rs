//! Values of options, from text.

use std::ffi::CString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::OptionError;
use crate::spelling::Spelling;

/// Longest wait, in milliseconds: a longer one at exit is never meant.
const MAX_WAIT_MS: u64 = 600_000;

/// 2.3's options say on and off; 2.4's configuration says yes and no, and `on` stays possible.
pub(crate) fn on_off(spelling: Spelling, name: &str, value: &str) -> Result<bool, OptionError> {
    match (&*value.to_ascii_lowercase(), spelling) {
        ("on", _) | ("yes", Spelling::V2_4) => Ok(true),
        ("off", _) | ("no", Spelling::V2_4) => Ok(false),
        (_, Spelling::V2_4) => Err(OptionError::invalid(name, value, "`yes` or `no`")),
        (_, Spelling::V2_3) => Err(OptionError::invalid(name, value, "`on` or `off`")),
    }
}

pub(crate) fn milliseconds(name: &str, value: &str) -> Result<Duration, OptionError> {
    let expected = "a number of milliseconds from 0 to 600000";
    let ms = value.parse().ok().filter(|ms| *ms <= MAX_WAIT_MS);
    let ms = ms.ok_or_else(|| OptionError::invalid(name, value, expected))?;
    Ok(Duration::from_millis(ms))
}

/// What the range is has to be said in the text as well.
pub(crate) fn kbytes(
    name: &str,
    value: &str,
    range: RangeInclusive<u64>,
) -> Result<u64, OptionError> {
    let expected = match range.end() {
        1_048_576 => "a number of kilobytes from 16 to 1048576",
        _ => "a number of kilobytes from 16 to 1073741824",
    };
    let kbytes = value.parse().ok().filter(|kbytes| range.contains(kbytes));
    kbytes.ok_or_else(|| OptionError::invalid(name, value, expected))
}

pub(crate) fn absolute(name: &str, value: &str) -> Result<PathBuf, OptionError> {
    if value.starts_with('/') {
        Ok(PathBuf::from(value))
    } else {
        Err(OptionError::invalid(name, value, "an absolute path"))
    }
}

/// A list by commas, without empty parts and repetitions.
pub(crate) fn names(name: &str, value: &str) -> Result<Vec<CString>, OptionError> {
    let mut list = Vec::new();
    let parts = value.split(',').map(str::trim);
    for part in parts.filter(|part| !part.is_empty()) {
        let part =
            CString::new(part).map_err(|_| OptionError::invalid(name, value, "free of NUL"))?;
        if !list.contains(&part) {
            list.push(part);
        }
    }
    Ok(list)
}

pub(crate) fn metadata(name: &str, value: &str) -> Result<Vec<CString>, OptionError> {
    let entries = names(name, value)?;
    let is_entry = |entry: &CString| {
        let bytes = entry.as_bytes();
        let key = bytes
            .strip_prefix(b"/private/")
            .or_else(|| bytes.strip_prefix(b"/shared/"));
        key.is_some_and(|key| !key.is_empty())
    };
    if entries.iter().all(is_entry) {
        return Ok(entries);
    }
    let expected = "a list of METADATA entries (/private/... or /shared/...)";
    Err(OptionError::invalid(name, value, expected))
}

/// Kafka's rule for topic names.
pub(crate) fn is_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".."
}
