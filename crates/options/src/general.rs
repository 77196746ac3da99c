//! General settings: how records leave the process, and where to.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::OptionError;
use crate::list::{GENERAL_SETTINGS, OptionDefault};
use crate::spelling::Spelling;
use crate::values::{absolute, kbytes, milliseconds};

/// How records leave the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportKind {
    /// By librdkafka.
    #[default]
    Kafka,
    /// Over the socket of this host's relay.
    Relay,
}

/// Settings of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GeneralSettings {
    /// How records leave the process.
    pub transport: TransportKind,
    /// Settings of the transport `relay`.
    pub relay: RelaySettings,
    /// Brokers of the transport `kafka`, `host:port,host:port`.
    pub brokers: String,
    /// Subjects of librdkafka's debug lines; empty: none.
    pub debug: String,
    /// How often a record is queued again that librdkafka refuses.
    pub max_retries: u32,
    /// How often reports are fetched while anything is in flight.
    pub retry_poll_time: Duration,
    /// Longest wait for records at the exit of a process.
    pub flush_time: Duration,
    /// Longest wait for librdkafka to end at the exit of a process.
    pub destroy_time: Duration,
    /// librdkafka properties in the order they were given.
    pub properties: Vec<(String, String)>,
}

/// Settings of the transport `relay`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelaySettings {
    /// Socket of the relay.
    pub socket: PathBuf,
    /// Where a process leaves what it could not hand to the relay.
    pub spill_dir: PathBuf,
    /// What may wait in memory, in bytes.
    pub queue_bytes: usize,
    /// How large one process's spill file may grow, in bytes.
    pub spill_bytes: u64,
}

/// What the general settings of one user amount to.
#[derive(Debug, PartialEq, Eq)]
pub struct ParsedGeneral {
    /// The settings.
    pub settings: GeneralSettings,
    /// Settings that had a meaning for earlier drivers of this name and have none any more.
    pub obsolete: Vec<String>,
}

impl GeneralSettings {
    /// Reads the general settings; those not given have their default. The error is the first of
    /// [`GeneralSettings::read`].
    pub fn parse(
        spelling: Spelling,
        settings: &[(&[u8], &[u8])],
    ) -> Result<ParsedGeneral, OptionError> {
        let (parsed, errors) = Self::read(spelling, settings);
        errors.into_iter().next().map_or(Ok(parsed), Err)
    }

    /// Reads the general settings, with everything that is wrong with them.
    pub fn read(
        spelling: Spelling,
        settings: &[(&[u8], &[u8])],
    ) -> (ParsedGeneral, Vec<OptionError>) {
        let mut errors = Vec::new();
        let mut parsed = ParsedGeneral {
            settings: Self::default(),
            obsolete: Vec::new(),
        };
        for OptionDefault { name, value } in GENERAL_SETTINGS {
            errors.extend(parsed.settings.set(spelling, name, value).err());
        }
        for (name, value) in settings {
            let (name, value) = (
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value),
            );
            if name == "kafka_topic_close_time_in_ms" {
                parsed.obsolete.push(spelling.setting_name(&name));
            } else {
                errors.extend(parsed.settings.set(spelling, &name, &value).err());
            }
        }
        (parsed, errors)
    }

    /// What the records go to, for the log.
    pub fn destination(&self) -> &str {
        match self.transport {
            TransportKind::Kafka => &self.brokers,
            TransportKind::Relay => self.relay.socket.to_str().unwrap_or_default(),
        }
    }

    fn set(&mut self, spelling: Spelling, short: &str, value: &str) -> Result<(), OptionError> {
        let name = &spelling.setting_name(short);
        match short {
            "kafka_brokers" if value.trim().is_empty() => {
                return Err(OptionError::invalid(
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
                    .map_err(|_| OptionError::invalid(name, value, "a number"))?;
            }
            "kafka_retry_poll_time_in_ms" => self.retry_poll_time = milliseconds(name, value)?,
            "kafka_flush_time_in_ms" => self.flush_time = milliseconds(name, value)?,
            "kafka_destroy_time_in_ms" => self.destroy_time = milliseconds(name, value)?,
            "transport" => {
                self.transport = match &*value.to_ascii_lowercase() {
                    "kafka" => TransportKind::Kafka,
                    "relay" => TransportKind::Relay,
                    _ => return Err(OptionError::invalid(name, value, "`kafka` or `relay`")),
                }
            }
            _ if short.starts_with("relay_") => return self.relay.set(spelling, short, value),
            _ => match short.strip_prefix("settings.") {
                Some(property) if !property.is_empty() => {
                    self.properties
                        .push((property.to_owned(), value.to_owned()));
                }
                _ => return Err(OptionError::unknown(name, value, spelling.known_settings())),
            },
        }
        Ok(())
    }
}

impl RelaySettings {
    fn set(&mut self, spelling: Spelling, short: &str, value: &str) -> Result<(), OptionError> {
        let name = &spelling.setting_name(short);
        match short {
            // The kernel takes no longer path for a socket.
            "relay_socket" if value.len() > 107 => {
                return Err(OptionError::invalid(
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
            _ => return Err(OptionError::unknown(name, value, spelling.known_settings())),
        }
        Ok(())
    }
}
