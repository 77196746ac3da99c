//! The configuration: one TOML file, documented by the default one that is part of the binary.
//!
//! Every value is checked while it is read, so that an error names file, line, column and key.
//! Nothing of properties of Kafka is ever printed: passwords are among them.

mod check;
mod clusters;
mod dispatch;
mod drivers;
mod elsewhere;
mod exposed;
mod http;
mod limits;
mod mail;
pub(crate) mod mail_push;
mod ox;
pub(crate) mod paths;
mod place;
pub(crate) mod places;
mod presets;
mod properties;
mod push_notification;
mod quota;
mod relay;
mod secrets;
mod store;
mod topics;
mod users;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use dovecast_log::embedded::EmbeddedOptions;
#[cfg(feature = "kafka")]
use dovecast_log::kafka::KafkaOptions;
#[cfg(feature = "kafka")]
use dovecast_relay::ship::ShipOptions;
use dovecast_store::{DatabasePlace, KeySource, StoreOptions};
use serde::{Deserialize, Deserializer, de};

pub(crate) use dispatch::Dispatch;
pub(crate) use elsewhere::Absent;
pub(crate) use exposed::Exposed;
pub(crate) use http::Http;
pub(crate) use limits::Bounded;
pub(crate) use ox::{Credentials, Ox};
pub(crate) use properties::Properties;
pub(crate) use quota::Quota;
pub(crate) use relay::Relay;
pub(crate) use secrets::Secrets;
pub(crate) use store::StoreSection;
pub(crate) use topics::check_topic;
pub(crate) use users::Allowed;

/// The default configuration file, as `dovecast config` prints it.
pub(crate) const DEFAULT_FILE: &str = include_str!("../dovecast.toml");

/// What is said where the configuration asks for what this build has not.
#[cfg(not(feature = "kafka"))]
pub(crate) const NO_KAFKA: &str =
    "`kind = \"kafka\"` in [log]: this dovecast was built without the feature `kafka`";
/// The consumer group that ships the spool to Kafka.
pub(crate) const SHIPPER_GROUP: &str = "kafka";

/// The configuration of a `dovecast`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(deserialize_with = "paths::path")]
    pub(crate) data_dir: PathBuf,
    #[serde(deserialize_with = "roles")]
    pub(crate) roles: Vec<Role>,
    pub(crate) http: Http,
    pub(crate) quota: Quota,
    pub(crate) store: StoreSection,
    pub(crate) secrets: Secrets,
    #[serde(deserialize_with = "dispatch::checked")]
    pub(crate) dispatch: Dispatch,
    pub(crate) ox: Ox,
    pub(crate) logging: Logging,
    pub(crate) control: Control,
    pub(crate) relay: Relay,
    pub(crate) log: Log,
    pub(crate) kafka: Kafka,
    #[serde(deserialize_with = "clusters::read")]
    pub(crate) kafka_clusters: clusters::KafkaClusters,
    #[serde(deserialize_with = "push_notification::read")]
    pub(crate) push_notification: push_notification::PushNotification,
    pub(crate) presets: presets::Presets,
    pub(crate) mail: mail::Mail,
    #[serde(deserialize_with = "mail_push::checked")]
    pub(crate) mail_push: mail_push::MailPushSection,
    /// A secret that every user of the host can read.
    #[serde(skip)]
    pub(crate) exposed: Option<Exposed>,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Relay,
    Dispatch,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Logging {
    pub(crate) format: LogFormat,
    #[serde(deserialize_with = "filter")]
    pub(crate) filter: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Control {
    #[serde(deserialize_with = "paths::socket")]
    socket: Option<PathBuf>,
    /// Whether a command has found the server in its working directory, and nobody has named it.
    #[serde(skip)]
    pub(crate) is_found: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) kind: LogKind,
    pub(crate) partitions: Bounded<1, 1024>,
    pub(crate) retention_hours: Bounded<0, 876_000>,
    pub(crate) retention_mb: Bounded<0, 1_000_000_000>,
    pub(crate) dedup_window_records: Bounded<1000, 100_000_000>,
    pub(crate) keep_free_mb: Bounded<0, 1_000_000>,
}

/// Which implementation of the log is the one that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogKind {
    Embedded,
    Kafka,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(
    not(feature = "kafka"),
    allow(dead_code, reason = "checked in every build, used in one with Kafka")
)]
pub(crate) struct Kafka {
    #[serde(deserialize_with = "brokers")]
    pub(crate) brokers: Vec<String>,
    pub(crate) properties: Properties,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./dovecast-data"),
            roles: vec![Role::Relay, Role::Dispatch],
            http: Http::default(),
            quota: Quota::default(),
            store: StoreSection::default(),
            secrets: Secrets::default(),
            dispatch: Dispatch::default(),
            ox: Ox::default(),
            logging: Logging::default(),
            control: Control::default(),
            relay: Relay::default(),
            log: Log::default(),
            kafka: Kafka::default(),
            kafka_clusters: clusters::KafkaClusters::new(),
            push_notification: push_notification::PushNotification::default(),
            presets: presets::Presets::default(),
            mail: mail::Mail::default(),
            mail_push: mail_push::MailPushSection::default(),
            exposed: None,
        }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            kind: LogKind::Embedded,
            partitions: Bounded::new(8),
            retention_hours: Bounded::new(168),
            retention_mb: Bounded::new(10_240),
            dedup_window_records: Bounded::new(1_000_000),
            keep_free_mb: Bounded::new(64),
        }
    }
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: vec!["localhost:9092".to_owned()],
            properties: Properties::default(),
        }
    }
}

impl Config {
    /// Reads a file, or takes the defaults where there is none. `data_dir` goes before what the
    /// file says.
    pub(crate) fn load(file: Option<&Path>, data_dir: Option<&Path>) -> Result<Self> {
        let mut config = match file {
            Some(file) => {
                let text = fs::read_to_string(file).with_context(|| {
                    format!("cannot read the configuration `{}`", file.display())
                })?;
                let parsed = Self::parse(&text);
                Self {
                    exposed: exposed::find(file, &text),
                    ..parsed.map_err(|error| anyhow!("{}:{error}", file.display()))?
                }
            }
            None => Self::default(),
        };
        if let Some(data_dir) = data_dir {
            data_dir.clone_into(&mut config.data_dir);
        }
        Ok(config)
    }

    /// Reads the text of a file. The error begins with line and column.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| place::describe(text, &error))
    }

    /// Whether this process has a role.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Where the embedded log is.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.data_dir.join("log")
    }

    /// The control socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.in_data_dir(self.control.socket.as_deref(), "control.sock")
    }

    /// The socket of mail processes.
    pub(crate) fn relay_socket(&self) -> PathBuf {
        self.in_data_dir(self.relay.socket.as_deref(), "relay.sock")
    }

    /// Where mail processes leave spill files.
    pub(crate) fn spill_dir(&self) -> PathBuf {
        self.in_data_dir(self.relay.spill_dir.as_deref(), "spill")
    }

    /// Where the store is.
    pub(crate) fn store_options(&self) -> Result<StoreOptions> {
        self.store_options_with(Absent::Refused)
    }

    fn store_options_with(&self, absent: Absent) -> Result<StoreOptions> {
        let file = || DatabasePlace::Sqlite(self.data_dir.join("state.db"));
        let timeout = Duration::from_secs(self.store.timeout_seconds.get());
        let beside = || KeySource::File(self.data_dir.join("secrets.key"));
        Ok(StoreOptions {
            keys: self.secrets.keys.clone().unwrap_or_else(beside),
            connect_timeout: timeout,
            statement_timeout: timeout,
            ..StoreOptions::new(self.store.place(absent)?.unwrap_or_else(file))
        })
    }

    /// How the embedded log is kept. As a spool it keeps what Kafka has not got.
    pub(crate) fn embedded_options(&self) -> EmbeddedOptions {
        let or_none = |value: u64| (value > 0).then_some(value);
        let is_spool = self.log.kind == LogKind::Kafka;
        EmbeddedOptions {
            partitions: u32::try_from(self.log.partitions.get()).unwrap_or(u32::MAX),
            retention_ms: or_none(self.log.retention_hours.get() * 3_600_000),
            retention_bytes: or_none(self.log.retention_mb.get() * 1_000_000),
            retain_for_group: is_spool.then(|| SHIPPER_GROUP.to_owned()),
            dedup_window_records: self.log.dedup_window_records.get(),
            keep_free_bytes: self.log.keep_free_mb.get() * 1024 * 1024,
            ..EmbeddedOptions::default()
        }
    }

    #[cfg(feature = "kafka")]
    /// How records get to Kafka.
    pub(crate) fn ship_options() -> ShipOptions {
        ShipOptions {
            group: SHIPPER_GROUP.to_owned(),
            ..ShipOptions::default()
        }
    }

    #[cfg(feature = "kafka")]
    /// How to reach the Kafka cluster; what stands elsewhere is read.
    pub(crate) fn kafka_options(&self) -> Result<KafkaOptions> {
        self.kafka_options_with(Absent::Refused)
    }

    #[cfg(feature = "kafka")]
    fn kafka_options_with(&self, absent: Absent) -> Result<KafkaOptions> {
        Ok(KafkaOptions {
            brokers: self.kafka.brokers.join(","),
            properties: self.kafka.properties.read("kafka.properties", absent)?,
        })
    }

    /// Where the key is that ids of what `ox` sends are made with.
    pub(crate) fn ox_key_file(&self) -> PathBuf {
        self.in_data_dir(self.ox.key_file.as_deref(), "ox.key")
    }

    fn in_data_dir(&self, set: Option<&Path>, name: &str) -> PathBuf {
        set.map_or_else(|| self.data_dir.join(name), Path::to_owned)
    }
}

fn roles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Role>, D::Error> {
    let roles = Vec::deserialize(deserializer)?;
    if roles.is_empty() {
        return Err(de::Error::custom(
            "an empty list, expected at least one role",
        ));
    }
    Ok(roles)
}

fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    // A word alone would be taken for the name of a module, of which there is none.
    let is_level = |word: &str| word.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let wrong = text.split(',').map(str::trim).find(|part| {
        !part.contains(['=', '[']) && !is_level(part) && !part.starts_with("dovecast")
    });
    if let Some(wrong) = wrong {
        return Err(de::Error::custom(format!(
            "`{wrong}` is not a level, expected error, warn, info, debug, trace or off, or a filter such as `info,dovecast_relay=debug`"
        )));
    }
    match tracing_subscriber::EnvFilter::try_new(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(de::Error::custom(format!(
            "`{text}` is not a filter ({error}), expected one such as `info` or `info,dovecast_relay=debug`"
        ))),
    }
}

fn brokers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let brokers: Vec<String> = Vec::deserialize(deserializer)?;
    let is_broker = |text: &String| {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, "9092"));
        !host.is_empty() && !text.contains(',') && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if brokers.is_empty() {
        return Err(de::Error::custom(
            "an empty list, expected at least one broker",
        ));
    }
    match brokers.iter().find(|text| !is_broker(text)) {
        None => Ok(brokers),
        Some(wrong) => Err(de::Error::custom(format!(
            "`{wrong}` is not a broker, expected `host:port`"
        ))),
    }
}

#[cfg(test)]
mod tests;
