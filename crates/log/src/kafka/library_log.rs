//! What librdkafka says, as lines of our log: its own log lines, and errors of a client as a whole.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::LineLimit;

/// What librdkafka is asked for, with its property `debug` or without; the filter of our log
/// decides what of it is shown.
pub(crate) fn level(has_debug: bool) -> RDKafkaLogLevel {
    if has_debug {
        RDKafkaLogLevel::Debug
    } else {
        RDKafkaLogLevel::Info
    }
}

/// Logs a line of librdkafka. Which of them are worth somebody's sleep is not known here, so none
/// is an error unless librdkafka takes it for critical.
pub fn line(level: RDKafkaLogLevel, facility: &str, text: &str) {
    use RDKafkaLogLevel as Level;
    match level {
        Level::Emerg | Level::Alert | Level::Critical => {
            tracing::error!(target: "librdkafka", facility, "{text}");
        }
        Level::Error | Level::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{text}");
        }
        Level::Notice | Level::Info => tracing::info!(target: "librdkafka", facility, "{text}"),
        Level::Debug => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}

/// The errors of one client, logged once a minute: librdkafka goes on by itself, and repeats them
/// while a cluster is away.
#[derive(Default)]
pub struct ClientErrors {
    lines: LineLimit,
}

impl ClientErrors {
    /// Logs an error, if it is time.
    pub fn note(&self, error: &KafkaError, reason: &str) {
        if self.lines.take() {
            tracing::warn!(%error, reason, "librdkafka reports an error");
        }
    }
}
