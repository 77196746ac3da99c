//! Options of a driver of the configuration file: under which keys they are found, in both
//! spellings of Dovecot, and what their texts mean.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Block, Known};

/// What every option may begin with.
const PREFIX: &str = "push_notification_";

/// The value of an option, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// A text, or a number.
    Text(String),
    /// `true` or `false`.
    Truth(bool),
}

/// What is wrong with an option. Shows no password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct OptionError {
    /// Key, as it was written; where it is missing, its name.
    pub key: String,
    /// What is wrong, in Dovecot's words where it has some.
    pub reason: String,
}

impl OptionError {
    /// What is wrong with a key.
    pub fn new(key: &str, reason: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            reason: reason.into(),
        }
    }
}

/// The options of a block.
#[derive(Debug)]
pub struct Options<'a> {
    /// By their names: the key as it was written, and the value.
    found: BTreeMap<&'static str, (&'a str, Value<'a>)>,
    /// Name of the block.
    pub block: &'a str,
    /// What a script asks for by name.
    pub plugin: &'a BTreeMap<String, String>,
    /// What a script is given when it is loaded.
    pub settings: Option<&'a BTreeMap<String, String>>,
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Written(&'a Written),
    /// Behind the name of the driver, as Dovecot 2.3 writes it.
    Text(&'a str),
    /// Behind the name of the driver, without a value: that it is there says everything.
    Present,
}

impl<'a> Options<'a> {
    /// Finds the options that a kind knows, and refuses others.
    pub(super) fn read(
        block: &'a Block,
        kind: &str,
        known: &'static [Known],
        behind: Option<&'a str>,
    ) -> Result<Self, OptionError> {
        let behind = behind.unwrap_or_default().split_ascii_whitespace();
        let behind = behind.map(|option| match option.split_once('=') {
            Some((key, value)) => (key, Value::Text(value)),
            None => (option, Value::Present),
        });
        let written = block.options.iter();
        let written = written.map(|(key, value)| (&**key, Value::Written(value)));
        let mut found = BTreeMap::new();
        for (key, value) in behind.chain(written) {
            let name = name_of(key, kind, known).ok_or_else(|| {
                let known: Vec<_> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
                let known = if known.is_empty() {
                    format!("`{kind}` has none")
                } else {
                    format!("expected one of {}", known.join(", "))
                };
                OptionError::new(key, format!("unknown option, {known}"))
            })?;
            if found.insert(name, (key, value)).is_some() {
                return Err(OptionError::new(key, "is there twice"));
            }
        }
        if block.settings.is_some() && kind != "lua" {
            let reason = format!("unknown option, `{kind}` has no script");
            return Err(OptionError::new("lua_settings", reason));
        }
        Ok(Self {
            found,
            block: &block.name,
            plugin: &block.plugin,
            settings: block.settings.as_ref(),
        })
    }

    /// The key under which an option was written.
    pub fn key(&self, name: &'static str) -> &str {
        self.found.get(name).map_or(name, |(key, _)| key)
    }

    /// Whether an option is there.
    pub fn has(&self, name: &str) -> bool {
        self.found.contains_key(name)
    }

    /// Whether an option has the name that Dovecot 2.4 has for it: with the name of the driver.
    pub fn is_in_2_4_spelling(&self, kind: &str, name: &'static str) -> bool {
        let key = self.key(name);
        let key = key.strip_prefix(PREFIX).unwrap_or(key);
        let rest = key.strip_prefix(kind);
        rest.is_some_and(|rest| rest.strip_prefix('_') == Some(name))
    }

    /// A text, if it is there and not empty.
    pub fn text(&self, name: &'static str) -> Result<Option<&'a str>, OptionError> {
        match self.found.get(name) {
            None | Some((_, Value::Text("") | Value::Present)) => Ok(None),
            Some((_, Value::Text(text))) => Ok(Some(text)),
            Some((_, Value::Written(Written::Text(text)))) if text.is_empty() => Ok(None),
            Some((_, Value::Written(Written::Text(text)))) => Ok(Some(text)),
            Some((key, Value::Written(Written::Truth(_)))) => {
                Err(OptionError::new(key, "is not a text"))
            }
        }
    }

    /// `yes` or `no`. Behind the name of the driver it is `yes` by being there, as in Dovecot 2.3.
    pub fn truth(&self, name: &'static str) -> Result<bool, OptionError> {
        match self.found.get(name) {
            None => Ok(false),
            Some((_, Value::Present | Value::Text(_))) => Ok(true),
            Some((_, Value::Written(Written::Truth(truth)))) => Ok(*truth),
            Some((key, Value::Written(Written::Text(text)))) => match &*text.to_ascii_lowercase() {
                "yes" | "y" | "true" | "1" => Ok(true),
                "no" | "n" | "false" | "0" => Ok(false),
                _ => {
                    let reason = format!("Invalid boolean value: {text} (use yes or no)");
                    Err(OptionError::new(key, reason))
                }
            },
        }
    }

    /// A number, if it is there.
    pub fn number(&self, name: &'static str) -> Result<Option<u32>, OptionError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let number = text.parse();
        number.map(Some).map_err(|_| {
            let reason = format!("`{text}` is not a number");
            OptionError::new(self.key(name), reason)
        })
    }

    /// A time, if it is there: a number with a unit, or of seconds.
    pub fn time(&self, name: &'static str) -> Result<Option<Duration>, OptionError> {
        let text = self.text(name)?;
        let time = text.map(|text| {
            let wrong =
                || OptionError::new(self.key(name), format!("Invalid time interval: {text}"));
            read_time(text).ok_or_else(wrong)
        });
        time.transpose()
    }
}

/// The name of the option that a key names.
fn name_of(key: &str, kind: &str, known: &'static [Known]) -> Option<&'static str> {
    let bare = key.strip_prefix(PREFIX).unwrap_or(key);
    let of_kind = bare
        .strip_prefix(kind)
        .and_then(|rest| rest.strip_prefix('_'));
    [Some(bare), of_kind]
        .into_iter()
        .flatten()
        .find_map(|bare| {
            let names = known.iter();
            let found = names
                .clone()
                .find(|(name, others)| *name == bare || others.contains(&bare));
            found.map(|(name, _)| *name)
        })
}

/// A time as Dovecot writes it: `10`, `10s`, `10 secs`, `500 msecs`, `1 hour`.
pub fn read_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let ms = match &*unit.trim().to_ascii_lowercase() {
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 1,
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        "w" | "week" | "weeks" => 604_800_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(ms)?))
}
