//! What librdkafka tells: delivery reports, log lines, errors.
//!
//! librdkafka's callbacks may run in another thread while a producer is destroyed, so they only
//! write things down here; Dovecot's thread reads them and logs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dovecast_dovecot_sys::host::Level;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

/// Lines kept until Dovecot's thread fetches them; more are counted.
const MAX_LINES: usize = 1000;

/// What one producer's callbacks have written down.
#[derive(Default)]
pub(crate) struct Reports(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    lines: VecDeque<(Level, String)>,
    lines_dropped: u64,
    callbacks: u64,
    delivered: u64,
    failed: BTreeMap<String, u64>,
    fatal: Option<String>,
}

/// What was written down since the last time.
pub(crate) struct News {
    pub(crate) lines: VecDeque<(Level, String)>,
    pub(crate) lines_dropped: u64,
    pub(crate) delivered: u64,
    /// Events that will not be delivered, by reason.
    pub(crate) failed: BTreeMap<String, u64>,
    /// The producer can do no more.
    pub(crate) fatal: Option<String>,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of callbacks so far.
    pub(crate) fn callbacks(&self) -> u64 {
        self.lock().callbacks
    }

    /// Takes what was written down.
    pub(crate) fn take(&self) -> News {
        let mut inner = self.lock();
        News {
            lines: std::mem::take(&mut inner.lines),
            lines_dropped: std::mem::take(&mut inner.lines_dropped),
            delivered: std::mem::take(&mut inner.delivered),
            failed: std::mem::take(&mut inner.failed),
            fatal: inner.fatal.take(),
        }
    }
}

impl Inner {
    fn line(&mut self, level: Level, text: String) {
        if self.lines.len() < MAX_LINES {
            self.lines.push_back((level, text));
        } else {
            self.lines_dropped += 1;
        }
    }
}

/// The producer's context: librdkafka calls it, it writes to [`Reports`].
#[derive(Clone)]
pub(crate) struct ReportsContext(pub(crate) Arc<Reports>);

impl ClientContext for ReportsContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel as L;
        let level = match level {
            // A connection that fails is tried again: nobody has to act yet.
            L::Emerg | L::Alert | L::Critical | L::Error
                if !matches!(facility, "FAIL" | "ERROR") =>
            {
                Level::Error
            }
            L::Emerg | L::Alert | L::Critical | L::Error | L::Warning => Level::Warning,
            L::Notice | L::Info => Level::Info,
            L::Debug => Level::Debug,
        };
        let mut inner = self.0.lock();
        inner.callbacks += 1;
        inner.line(level, format!("librdkafka: {facility}: {message}"));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut inner = self.0.lock();
        inner.callbacks += 1;
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => inner.fatal = Some(reason.to_owned()),
            // Told as log lines already.
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut,
            ) => {}
            _ => {
                let text = format!("librdkafka: {error}: {reason}");
                // The client library tells each error of a producer twice in a row.
                if inner.lines.back().is_none_or(|(_, last)| *last != text) {
                    inner.line(Level::Error, text);
                }
            }
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let mut inner = self.0.lock();
        inner.callbacks += 1;
        inner.line(
            Level::Info,
            format!(
                "librdkafka statistics: {}",
                String::from_utf8_lossy(statistics)
            ),
        );
    }
}

impl ProducerContext for ReportsContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        let mut inner = self.0.lock();
        inner.callbacks += 1;
        match result {
            Ok(_) => inner.delivered += 1,
            Err((error, _message)) => {
                let reason = error
                    .rdkafka_error_code()
                    .map_or_else(|| error.to_string(), |code| code.to_string());
                *inner.failed.entry(reason).or_default() += 1;
            }
        }
    }
}
