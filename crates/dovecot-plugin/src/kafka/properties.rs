//! librdkafka's configuration: our defaults, the operator's properties on top, checked before any
//! thread is started.

use std::fmt::Write as _;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use dovecast_options::GeneralSettings;
use dovecast_options::{NOT_SHOWN, is_secret};

/// Defaults that differ from librdkafka's own; each can be overridden by `settings.*`.
const DEFAULTS: [(&str, &str); 4] = [
    ("client.id", "dovecast"),
    // Order per user through retries. Not enable.idempotence: brokers keep state for every producer
    // id for a day, and every mail process would be a producer of its own.
    ("max.in.flight", "1"),
    // Events wait as long as the process lives; the queue's size is the bound.
    ("message.timeout.ms", "0"),
    // librdkafka's 1 GB would run into vsz_limit, and that ends the mail process.
    ("queue.buffering.max.kbytes", "32768"),
];

/// What is wrong with a property. Values of secret properties are not shown.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PropertyError {
    #[error("unknown librdkafka property `{name}` (value `{value}`)")]
    Unknown { name: String, value: String },
    #[error("librdkafka property `{name}`: invalid value `{value}`: {reason}")]
    Invalid {
        name: String,
        value: String,
        reason: String,
    },
    #[error("librdkafka: {0}")]
    Other(String),
}

/// The configuration for these settings, with every property accepted by librdkafka.
pub(crate) fn client_config(settings: &GeneralSettings) -> Result<ClientConfig, PropertyError> {
    let mut config = ClientConfig::new();
    for (name, value) in DEFAULTS {
        config.set(name, value);
    }
    config.set("bootstrap.servers", &settings.brokers);
    if !settings.debug.is_empty() {
        config.set("debug", &settings.debug);
    }
    for (name, value) in &settings.properties {
        for spelling in aliases(name) {
            config.remove(spelling);
        }
        config.set(name, value);
    }
    config.set_log_level(log_level(&config)?);
    config.create_native_config().map_err(property_error)?;
    Ok(config)
}

/// How much the producer may hold, as librdkafka bounds it: messages and bytes.
pub(crate) fn queue_bounds(config: &ClientConfig) -> (usize, usize) {
    let messages = match number(config, "queue.buffering.max.messages", 100_000) {
        0 => usize::MAX,
        messages => messages,
    };
    let kbytes = number(config, "queue.buffering.max.kbytes", 32_768);
    (messages, kbytes.saturating_mul(1024))
}

/// What surely fits into one request to a partition: messages and bytes.
pub(crate) fn batch_bounds(config: &ClientConfig) -> (usize, usize) {
    let messages = number(config, "batch.num.messages", 10_000).min(5000);
    let size = number(config, "batch.size", 1_000_000);
    let largest = number(config, "message.max.bytes", 1_000_000);
    // The size of a record is an estimate, but never too small; the request has a header of its
    // own.
    (messages.max(1), size.min(largest) / 10 * 9)
}

fn number(config: &ClientConfig, property: &str, default: usize) -> usize {
    config
        .get(property)
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// What is wrong with the files that properties name, in addition to librdkafka's error, which does
/// not name them.
pub(crate) fn unreadable_files(config: &ClientConfig) -> String {
    const FILES: [&str; 5] = [
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.keystore.location",
        "ssl.crl.location",
    ];
    let mut text = String::new();
    for name in FILES {
        let Some(path) = config.get(name).filter(|path| *path != "probe") else {
            continue;
        };
        if let Err(error) = std::fs::File::open(path) {
            let _ = write!(text, "; `{name}`: cannot read `{path}`: {error}");
        }
    }
    text
}

/// The spellings under which one of our defaults may be overridden.
fn aliases(name: &str) -> &'static [&'static str] {
    match name {
        // An idempotent producer keeps the order with up to five requests in flight.
        "max.in.flight" | "max.in.flight.requests.per.connection" | "enable.idempotence" => {
            &["max.in.flight"]
        }
        "message.timeout.ms" | "delivery.timeout.ms" => &["message.timeout.ms"],
        "bootstrap.servers" | "metadata.broker.list" => &["bootstrap.servers"],
        _ => &[],
    }
}

/// `log_level` is a property of librdkafka, but the client library sets it through its own type.
fn log_level(config: &ClientConfig) -> Result<RDKafkaLogLevel, PropertyError> {
    use RDKafkaLogLevel as L;
    const LEVELS: [L; 8] = [
        L::Emerg,
        L::Alert,
        L::Critical,
        L::Error,
        L::Warning,
        L::Notice,
        L::Info,
        L::Debug,
    ];
    let Some(value) = config.get("log_level") else {
        let is_debug = config
            .get("debug")
            .is_some_and(|contexts| !contexts.is_empty());
        return Ok(if is_debug { L::Debug } else { L::Warning });
    };
    let level = value
        .parse::<usize>()
        .ok()
        .and_then(|number| LEVELS.get(number));
    level.copied().ok_or_else(|| PropertyError::Invalid {
        name: "log_level".to_owned(),
        value: value.to_owned(),
        reason: "expected 0 to 7".to_owned(),
    })
}

fn property_error(error: KafkaError) -> PropertyError {
    let KafkaError::ClientConfig(result, reason, name, value) = error else {
        return PropertyError::Other(error.to_string());
    };
    let secret = is_secret(&name);
    let value = if secret { NOT_SHOWN.to_owned() } else { value };
    if result == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        PropertyError::Unknown { name, value }
    } else {
        let reason = if secret {
            "refused by librdkafka".to_owned()
        } else {
            reason
        };
        PropertyError::Invalid {
            name,
            value,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use dovecast_options::Spelling;

    use super::*;

    fn defaults() -> GeneralSettings {
        let parsed = GeneralSettings::parse(Spelling::V2_3, &[]);
        parsed.expect("defaults").settings
    }

    fn with(properties: &[(&str, &str)]) -> Result<ClientConfig, String> {
        let properties = properties
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let settings = GeneralSettings {
            properties,
            ..defaults()
        };
        client_config(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn wrong_properties_are_named_before_anything_starts() {
        assert_eq!(
            with(&[("linger.mss", "5")]).unwrap_err(),
            "unknown librdkafka property `linger.mss` (value `5`)"
        );
        let error = with(&[("linger.ms", "soon")]).unwrap_err();
        assert!(
            error.starts_with("librdkafka property `linger.ms`: invalid value `soon`: "),
            "{error}"
        );
        let error = with(&[("log_level", "9")]).unwrap_err();
        assert_eq!(
            error,
            "librdkafka property `log_level`: invalid value `9`: expected 0 to 7"
        );
        let settings = GeneralSettings {
            debug: "brokr".to_owned(),
            ..defaults()
        };
        let error = client_config(&settings).unwrap_err().to_string();
        assert!(
            error.starts_with("librdkafka property `debug`: invalid value `brokr`: "),
            "{error}"
        );
    }

    #[test]
    fn a_secret_is_never_shown() {
        let error = with(&[("sasl.passwordd", "hunter2")]).unwrap_err();
        assert_eq!(
            error,
            "unknown librdkafka property `sasl.passwordd` (value `(not shown)`)"
        );
    }

    #[test]
    fn the_operators_property_wins_under_either_spelling() {
        let config = with(&[
            ("max.in.flight.requests.per.connection", "3"),
            ("enable.idempotence", "true"),
        ])
        .unwrap();
        assert_eq!(config.get("max.in.flight"), None);
        assert_eq!(with(&[]).unwrap().get("max.in.flight"), Some("1"));
        assert_eq!(
            queue_bounds(&with(&[("queue.buffering.max.messages", "7")]).unwrap()),
            (7, 32_768 * 1024)
        );
    }
}
