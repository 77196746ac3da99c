//! The options of one driver instance and the general settings, from text to values.
//!
//! Pure: errors come back as values that name the option as the configuration spells it, and what
//! it was set to. Names and defaults come from the one list that Dovecot 2.4's settings module is
//! made of, too.

use std::ffi::CString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use dovecast_dovecot_sys::version::{self, GENERAL_SETTINGS, INSTANCE_OPTIONS, OptionDefault};
use dovecast_event::{EventSet, UnknownEvent};

use crate::secrets::{NOT_SHOWN, is_secret};

/// Options of one driver instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InstanceOptions {
    pub(crate) topic: String,
    pub(crate) events: EventSet,
    /// Only keywords that begin with this are shown.
    pub(crate) keyword_prefix: Vec<u8>,
    pub(crate) send_flags: bool,
    /// Plugin settings or userdb fields to show.
    pub(crate) userdb: Vec<CString>,
    /// Name of the field that must be `on`.
    pub(crate) feature: Option<CString>,
    pub(crate) full: bool,
    pub(crate) content: bool,
    /// METADATA entries to show, each beginning with `/private/` or `/shared/`.
    pub(crate) metadata: Vec<CString>,
    /// Longer header values and snippets are cut.
    pub(crate) max_field_bytes: usize,
}

/// How records leave the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TransportKind {
    /// By librdkafka.
    #[default]
    Kafka,
    /// Over the socket of this host's relay.
    Relay,
}

/// Settings of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GeneralSettings {
    pub(crate) transport: TransportKind,
    pub(crate) relay: RelaySettings,
    pub(crate) brokers: String,
    pub(crate) debug: String,
    pub(crate) max_retries: u32,
    pub(crate) retry_poll_time: Duration,
    pub(crate) flush_time: Duration,
    pub(crate) destroy_time: Duration,
    /// librdkafka properties in the order they were given.
    pub(crate) properties: Vec<(String, String)>,
}

/// Settings of the transport `relay`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RelaySettings {
    pub(crate) socket: PathBuf,
    pub(crate) spill_dir: PathBuf,
    /// What may wait in memory.
    pub(crate) queue_bytes: usize,
    /// How large one process's spill file may grow.
    pub(crate) spill_bytes: u64,
}

/// What is wrong with an option.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionError {
    #[error("unknown option `{name}` (value `{value}`), known are: {known}")]
    Unknown {
        name: String,
        value: String,
        known: String,
    },
    #[error("option `{name}`: `{value}` is not {expected}")]
    Invalid {
        name: String,
        value: String,
        expected: &'static str,
    },
    #[error("option `{name}`: {source}")]
    Event { name: String, source: UnknownEvent },
    #[error("option `{name}` is empty")]
    Empty { name: String },
    #[error("option `{name}` (value `{value}`) needs full detail")]
    NeedsFull { name: String, value: String },
}

impl InstanceOptions {
    /// Reads the options of an instance; those not given have their default.
    pub(crate) fn parse(options: &[(&[u8], &[u8])]) -> Result<Self, OptionError> {
        let mut parsed = Self::default();
        for OptionDefault { name, value } in INSTANCE_OPTIONS {
            parsed.set(name, value.as_bytes())?;
        }
        for (name, value) in options {
            parsed.set(&String::from_utf8_lossy(name), value)?;
        }
        match parsed.metadata.first() {
            Some(entry) if !parsed.full => Err(OptionError::NeedsFull {
                name: version::option_name("metadata"),
                value: entry.to_string_lossy().into_owned(),
            }),
            _ => Ok(parsed),
        }
    }

    fn set(&mut self, short: &str, raw: &[u8]) -> Result<(), OptionError> {
        let value = &*String::from_utf8_lossy(raw);
        let name = &version::option_name(short);
        match short {
            "topic" if value.is_empty() => return Err(OptionError::Empty { name: name.clone() }),
            "topic" if !is_topic(value) => {
                let expected =
                    "a Kafka topic (1 to 249 of letters, digits, `.`, `_`, `-`; not `.` or `..`)";
                return Err(invalid(name, value, expected));
            }
            "topic" => value.clone_into(&mut self.topic),
            "events" => {
                self.events = EventSet::parse(value).map_err(|source| OptionError::Event {
                    name: name.clone(),
                    source,
                })?;
            }
            "keyword_prefix" => self.keyword_prefix = raw.to_vec(),
            "send_flags" => self.send_flags = on_off(name, value)?,
            "userdb" => self.userdb = names(name, value)?,
            "feature" => self.feature = names(name, value)?.into_iter().next(),
            "detail" => {
                self.full = match &*value.to_ascii_lowercase() {
                    "full" => true,
                    "compat" => false,
                    _ => return Err(invalid(name, value, "`compat` or `full`")),
                }
            }
            "content" => self.content = on_off(name, value)?,
            "metadata" => self.metadata = metadata(name, value)?,
            "max_field_bytes" => {
                self.max_field_bytes = value
                    .parse()
                    .ok()
                    .filter(|bytes| (64..=1024 * 1024).contains(bytes))
                    .ok_or_else(|| invalid(name, value, "a number of bytes from 64 to 1048576"))?;
            }
            _ => return Err(unknown(name, value, known_options())),
        }
        Ok(())
    }
}

/// What the general settings of one user amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ParsedGeneral {
    pub(crate) settings: GeneralSettings,
    /// Settings that had a meaning for earlier drivers of this name and have none any more.
    pub(crate) obsolete: Vec<String>,
}

impl GeneralSettings {
    /// Reads the general settings; those not given have their default.
    pub(crate) fn parse(settings: &[(&[u8], &[u8])]) -> Result<ParsedGeneral, OptionError> {
        let mut parsed = ParsedGeneral {
            settings: Self::default(),
            obsolete: Vec::new(),
        };
        for OptionDefault { name, value } in GENERAL_SETTINGS {
            parsed.settings.set(name, value)?;
        }
        for (name, value) in settings {
            let (name, value) = (
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value),
            );
            if name == "kafka_topic_close_time_in_ms" {
                parsed.obsolete.push(version::setting_name(&name));
            } else {
                parsed.settings.set(&name, &value)?;
            }
        }
        Ok(parsed)
    }

    /// What the records go to, for the log.
    pub(crate) fn destination(&self) -> &str {
        match self.transport {
            TransportKind::Kafka => &self.brokers,
            TransportKind::Relay => self.relay.socket.to_str().unwrap_or_default(),
        }
    }

    fn set(&mut self, short: &str, value: &str) -> Result<(), OptionError> {
        let name = &version::setting_name(short);
        match short {
            "kafka_brokers" if value.trim().is_empty() => {
                return Err(invalid(
                    name,
                    value,
                    "a list of brokers (host:port,host:port)",
                ));
            }
            "kafka_brokers" => value.trim().clone_into(&mut self.brokers),
            "kafka_debug" => value.trim().clone_into(&mut self.debug),
            "kafka_max_retries" => {
                self.max_retries = value
                    .parse()
                    .map_err(|_| invalid(name, value, "a number"))?;
            }
            "kafka_retry_poll_time_in_ms" => self.retry_poll_time = milliseconds(name, value)?,
            "kafka_flush_time_in_ms" => self.flush_time = milliseconds(name, value)?,
            "kafka_destroy_time_in_ms" => self.destroy_time = milliseconds(name, value)?,
            "transport" => {
                self.transport = match &*value.to_ascii_lowercase() {
                    "kafka" => TransportKind::Kafka,
                    "relay" => TransportKind::Relay,
                    _ => return Err(invalid(name, value, "`kafka` or `relay`")),
                }
            }
            _ if short.starts_with("relay_") => return self.relay.set(short, value),
            _ => match short.strip_prefix("settings.") {
                Some(property) if !property.is_empty() => {
                    self.properties
                        .push((property.to_owned(), value.to_owned()));
                }
                _ => return Err(unknown(name, value, known_settings())),
            },
        }
        Ok(())
    }
}

impl RelaySettings {
    fn set(&mut self, short: &str, value: &str) -> Result<(), OptionError> {
        let name = &version::setting_name(short);
        match short {
            // The kernel takes no longer path for a socket.
            "relay_socket" if value.len() > 107 => {
                return Err(invalid(
                    name,
                    value,
                    "an absolute path of at most 107 bytes",
                ));
            }
            "relay_socket" => self.socket = absolute(name, value)?,
            "relay_spill_dir" => self.spill_dir = absolute(name, value)?,
            "relay_queue_max_kbytes" => {
                let kbytes = kbytes(name, value, 16..=1_048_576)?;
                self.queue_bytes = usize::try_from(kbytes * 1024).unwrap_or(usize::MAX);
            }
            "relay_spill_max_kbytes" => {
                self.spill_bytes = kbytes(name, value, 16..=1_073_741_824)? * 1024;
            }
            _ => return Err(unknown(name, value, known_settings())),
        }
        Ok(())
    }
}

fn known_options() -> String {
    let names: Vec<String> = INSTANCE_OPTIONS
        .iter()
        .map(|option| version::option_name(option.name))
        .collect();
    names.join(", ")
}

fn known_settings() -> String {
    let names = GENERAL_SETTINGS
        .iter()
        .map(|setting| setting.name)
        .chain(["settings.*"]);
    names
        .map(version::setting_name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn unknown(name: &str, value: &str, known: String) -> OptionError {
    // Perhaps `settings.` was forgotten before the name of a secret.
    let value = if is_secret(name) { NOT_SHOWN } else { value };
    OptionError::Unknown {
        name: name.to_owned(),
        value: value.to_owned(),
        known,
    }
}

fn invalid(name: &str, value: &str, expected: &'static str) -> OptionError {
    OptionError::Invalid {
        name: name.to_owned(),
        value: value.to_owned(),
        expected,
    }
}

/// 2.3's options say on and off; 2.4's configuration says yes and no, and `on` stays possible.
fn on_off(name: &str, value: &str) -> Result<bool, OptionError> {
    match &*value.to_ascii_lowercase() {
        "on" => Ok(true),
        "off" => Ok(false),
        "yes" if version::IS_2_4 => Ok(true),
        "no" if version::IS_2_4 => Ok(false),
        _ if version::IS_2_4 => Err(invalid(name, value, "`yes` or `no`")),
        _ => Err(invalid(name, value, "`on` or `off`")),
    }
}

/// Ten minutes at most: a longer wait at exit is never meant.
fn milliseconds(name: &str, value: &str) -> Result<Duration, OptionError> {
    let ms: u64 = value
        .parse()
        .ok()
        .filter(|ms| *ms <= 600_000)
        .ok_or_else(|| invalid(name, value, "a number of milliseconds from 0 to 600000"))?;
    Ok(Duration::from_millis(ms))
}

/// What the range is has to be said in the text as well.
fn kbytes(name: &str, value: &str, range: RangeInclusive<u64>) -> Result<u64, OptionError> {
    let expected = match range.end() {
        1_048_576 => "a number of kilobytes from 16 to 1048576",
        _ => "a number of kilobytes from 16 to 1073741824",
    };
    let kbytes = value.parse().ok().filter(|kbytes| range.contains(kbytes));
    kbytes.ok_or_else(|| invalid(name, value, expected))
}

fn absolute(name: &str, value: &str) -> Result<PathBuf, OptionError> {
    if value.starts_with('/') {
        Ok(PathBuf::from(value))
    } else {
        Err(invalid(name, value, "an absolute path"))
    }
}

/// A list by commas, without empty parts and repetitions.
fn names(name: &str, value: &str) -> Result<Vec<CString>, OptionError> {
    let mut list = Vec::new();
    for part in value
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let part = CString::new(part).map_err(|_| invalid(name, value, "free of NUL"))?;
        if !list.contains(&part) {
            list.push(part);
        }
    }
    Ok(list)
}

fn metadata(name: &str, value: &str) -> Result<Vec<CString>, OptionError> {
    let entries = names(name, value)?;
    let is_entry = |entry: &CString| {
        let bytes = entry.as_bytes();
        let key = bytes
            .strip_prefix(b"/private/")
            .or_else(|| bytes.strip_prefix(b"/shared/"));
        key.is_some_and(|key| !key.is_empty())
    };
    if entries.iter().all(is_entry) {
        Ok(entries)
    } else {
        Err(invalid(
            name,
            value,
            "a list of METADATA entries (/private/... or /shared/...)",
        ))
    }
}

/// Kafka's rule for topic names.
fn is_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(options: &[(&str, &str)]) -> Result<InstanceOptions, String> {
        let options: Vec<(&[u8], &[u8])> = options
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        InstanceOptions::parse(&options).map_err(|error| error.to_string())
    }

    fn general(settings: &[(&str, &str)]) -> Result<ParsedGeneral, String> {
        let settings: Vec<(&[u8], &[u8])> = settings
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        GeneralSettings::parse(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn no_option_means_the_documented_defaults() {
        let parsed = instance(&[]).expect("defaults");
        assert_eq!(
            (parsed.topic.as_str(), parsed.events),
            ("dovecot", EventSet::ALL)
        );
        assert_eq!(
            (parsed.keyword_prefix.as_slice(), parsed.send_flags),
            (&b"$"[..], true)
        );
        assert_eq!(
            (parsed.full, parsed.content, parsed.feature),
            (false, true, None)
        );
        let general = general(&[]).expect("defaults").settings;
        assert_eq!(
            (general.brokers.as_str(), general.max_retries),
            ("localhost:9092", 0)
        );
        assert_eq!(
            (
                general.retry_poll_time.as_millis(),
                general.flush_time.as_millis()
            ),
            (500, 1000)
        );
    }

    #[test]
    fn lists_lose_empty_parts_and_repetitions() {
        let parsed = instance(&[("userdb", "k1,,k2, k1")]).expect("a list");
        assert_eq!(parsed.userdb, [c"k1".to_owned(), c"k2".to_owned()]);
        assert_eq!(
            instance(&[("keyword_prefix", "")])
                .expect("empty")
                .keyword_prefix,
            b""
        );
    }

    #[test]
    fn every_wrong_option_is_named_as_it_is_spelled_with_its_value() {
        let check = |name: &str, value: &str, expected: &str| {
            let error = instance(&[(name, value)]).expect_err(name);
            let name = version::option_name(name);
            assert_eq!(error, expected.replace("NAME", &name));
        };
        check(
            "topik",
            "x",
            &format!(
                "unknown option `NAME` (value `x`), known are: {}",
                known_options()
            ),
        );
        check("topic", "", "option `NAME` is empty");
        check(
            "topic",
            "a/b",
            "option `NAME`: `a/b` is not a Kafka topic (1 to 249 of letters, digits, `.`, `_`, `-`; not `.` or `..`)",
        );
        let yes_no = if version::IS_2_4 {
            "`yes` or `no`"
        } else {
            "`on` or `off`"
        };
        check(
            "send_flags",
            "maybe",
            &format!("option `NAME`: `maybe` is not {yes_no}"),
        );
        check("content", "", &format!("option `NAME`: `` is not {yes_no}"));
        check(
            "detail",
            "fuller",
            "option `NAME`: `fuller` is not `compat` or `full`",
        );
        check(
            "max_field_bytes",
            "9",
            "option `NAME`: `9` is not a number of bytes from 64 to 1048576",
        );
        check(
            "metadata",
            "/private/x",
            "option `NAME` (value `/private/x`) needs full detail",
        );
        check(
            "metadata",
            "comment",
            "option `NAME`: `comment` is not a list of METADATA entries (/private/... or /shared/...)",
        );
        let error = instance(&[("events", "FlagsSet,MessageGone")]).expect_err("unknown event");
        let expected = format!(
            "option `{}`: unknown event `MessageGone` (known: FlagsClear, ",
            version::option_name("events")
        );
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn every_wrong_setting_is_named_as_it_is_spelled_with_its_value() {
        let check = |name: &str, value: &str, expected: &str| {
            let error = general(&[(name, value)]).expect_err(name);
            assert_eq!(
                error,
                expected.replace("NAME", &version::setting_name(name))
            );
        };
        check(
            "kafka_max_retries",
            "many",
            "option `NAME`: `many` is not a number",
        );
        check(
            "kafka_flush_time_in_ms",
            "-1",
            "option `NAME`: `-1` is not a number of milliseconds from 0 to 600000",
        );
        check(
            "transport",
            "pigeon",
            "option `NAME`: `pigeon` is not `kafka` or `relay`",
        );
        check(
            "kafka_broker",
            "x",
            &format!(
                "unknown option `NAME` (value `x`), known are: {}",
                known_settings()
            ),
        );
    }

    #[test]
    fn properties_are_passed_through_and_the_obsolete_is_told() {
        let parsed = general(&[("settings.linger.ms", "7")]).expect("a property");
        assert_eq!(
            parsed.settings.properties,
            [("linger.ms".to_owned(), "7".to_owned())]
        );
        let obsolete = general(&[("kafka_topic_close_time_in_ms", "0")])
            .expect("obsolete")
            .obsolete;
        assert_eq!(
            obsolete,
            [version::setting_name("kafka_topic_close_time_in_ms")]
        );
    }
}
