//! Options of one driver instance.

use std::ffi::CString;

use dovecast_event::EventSet;

use crate::error::OptionError;
use crate::list::{INSTANCE_OPTIONS, OptionDefault};
use crate::spelling::Spelling;
use crate::values::{is_topic, metadata, names, on_off};

const A_TOPIC: &str = "a Kafka topic (1 to 249 of letters, digits, `.`, `_`, `-`; not `.` or `..`)";

/// Options of one driver instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceOptions {
    /// Topic of the records.
    pub topic: String,
    /// Events to show.
    pub events: EventSet,
    /// Only keywords that begin with this are shown.
    pub keyword_prefix: Vec<u8>,
    /// Whether system flags are shown.
    pub send_flags: bool,
    /// Plugin settings or userdb fields to show.
    pub userdb: Vec<CString>,
    /// Name of the field that must be `on`.
    pub feature: Option<CString>,
    /// Whether all is shown that is known of an event.
    pub full: bool,
    /// Whether headers and snippets of mails are shown.
    pub content: bool,
    /// METADATA entries to show, each beginning with `/private/` or `/shared/`.
    pub metadata: Vec<CString>,
    /// Longer header values and snippets are cut, in bytes.
    pub max_field_bytes: usize,
}

impl InstanceOptions {
    /// Reads the options of an instance; those not given have their default. The error is the first
    /// of [`InstanceOptions::read`].
    pub fn parse(spelling: Spelling, options: &[(&[u8], &[u8])]) -> Result<Self, OptionError> {
        let (parsed, errors) = Self::read(spelling, options);
        errors.into_iter().next().map_or(Ok(parsed), Err)
    }

    /// Reads the options of an instance, with everything that is wrong with them.
    pub fn read(spelling: Spelling, options: &[(&[u8], &[u8])]) -> (Self, Vec<OptionError>) {
        let mut parsed = Self::default();
        let mut errors = Vec::new();
        for OptionDefault { name, value } in INSTANCE_OPTIONS {
            errors.extend(parsed.set(spelling, name, value.as_bytes()).err());
        }
        for (name, value) in options {
            let name = String::from_utf8_lossy(name);
            errors.extend(parsed.set(spelling, &name, value).err());
        }
        if let Some(entry) = parsed.metadata.first()
            && !parsed.full
        {
            errors.push(OptionError::NeedsFull {
                name: spelling.option_name("metadata"),
                value: entry.to_string_lossy().into_owned(),
                detail: match spelling {
                    Spelling::V2_3 => "detail=full".to_owned(),
                    Spelling::V2_4 => "kafka_detail = full".to_owned(),
                },
            });
        }
        (parsed, errors)
    }

    fn set(&mut self, spelling: Spelling, short: &str, raw: &[u8]) -> Result<(), OptionError> {
        let value = &*String::from_utf8_lossy(raw);
        let name = &spelling.option_name(short);
        match short {
            "topic" if value.is_empty() => return Err(OptionError::Empty { name: name.clone() }),
            "topic" if !is_topic(value) => return Err(OptionError::invalid(name, value, A_TOPIC)),
            "topic" => value.clone_into(&mut self.topic),
            "events" => {
                self.events = EventSet::parse(value).map_err(|source| OptionError::Event {
                    name: name.clone(),
                    source,
                })?;
            }
            "keyword_prefix" => self.keyword_prefix = raw.to_vec(),
            "send_flags" => self.send_flags = on_off(spelling, name, value)?,
            "userdb" => self.userdb = names(name, value)?,
            "feature" => self.feature = names(name, value)?.into_iter().next(),
            "detail" => {
                self.full = match &*value.to_ascii_lowercase() {
                    "full" => true,
                    "compat" => false,
                    _ => return Err(OptionError::invalid(name, value, "`compat` or `full`")),
                }
            }
            "content" => self.content = on_off(spelling, name, value)?,
            "metadata" => self.metadata = metadata(name, value)?,
            "max_field_bytes" => self.max_field_bytes = field_bytes(name, value)?,
            _ => return Err(OptionError::unknown(name, value, spelling.known_options())),
        }
        Ok(())
    }
}

fn field_bytes(name: &str, value: &str) -> Result<usize, OptionError> {
    let bytes = value.parse().ok();
    let bytes = bytes.filter(|bytes| (64..=1024 * 1024).contains(bytes));
    bytes.ok_or_else(|| OptionError::invalid(name, value, "a number of bytes from 64 to 1048576"))
}
