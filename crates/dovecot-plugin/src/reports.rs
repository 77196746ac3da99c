//! What librdkafka tells: delivery reports, log lines, errors; and the count of events that were lost.
//!
//! librdkafka's callbacks may run in another thread while a producer is destroyed, so they only write things down here;
//! Dovecot's thread reads them and logs. Nothing is logged without bound: repeating trouble is told once a minute.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dovecast_dovecot_sys::host::{self, Level};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

/// Lines kept until Dovecot's thread fetches them; more are counted.
const MAX_LINES: usize = 1000;
/// Warnings and errors of librdkafka: so many at once, then one a minute.
const FREE_LINES: u32 = 3;
/// How often repeating trouble is told.
const REPEAT: Duration = Duration::from_mins(1);

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

/// Warnings and errors of librdkafka on their way to the log: a few at once, then one a minute.
#[derive(Default)]
pub(crate) struct LineLimit {
    told: u32,
    quiet_until: Option<Instant>,
    suppressed: u64,
}

impl LineLimit {
    /// Logs what is due of `lines`.
    pub(crate) fn log(&mut self, lines: impl IntoIterator<Item = (Level, String)>, dropped: u64) {
        self.suppressed += dropped;
        for (level, text) in lines {
            if matches!(level, Level::Debug | Level::Info) {
                host::log(level, &text);
                continue;
            }
            let now = Instant::now();
            if self.told >= FREE_LINES && self.quiet_until.is_some_and(|until| now < until) {
                self.suppressed += 1;
                continue;
            }
            self.told = self.told.saturating_add(1);
            self.quiet_until = Some(now + REPEAT);
            match std::mem::take(&mut self.suppressed) {
                0 => host::log(level, &text),
                more => host::log(
                    level,
                    &format!("{text} ({more} lines before this one not shown)"),
                ),
            }
        }
    }
}

/// Events that will never be delivered, by reason: told at once, then once a minute, and at exit.
#[derive(Default)]
pub(crate) struct Losses {
    untold: BTreeMap<String, u64>,
    total: u64,
    quiet_until: Option<Instant>,
}

impl Losses {
    /// Counts `events` as lost.
    pub(crate) fn add(&mut self, events: u64, reason: &str) {
        if events > 0 {
            *self.untold.entry(reason.to_owned()).or_default() += events;
            self.total += events;
        }
    }

    /// Logs what is due.
    pub(crate) fn tell(&mut self, brokers: &str) {
        if self.quiet_until.is_none_or(|until| Instant::now() >= until) {
            self.tell_now(brokers);
        }
    }

    /// Logs what was not told yet.
    pub(crate) fn tell_now(&mut self, brokers: &str) {
        if self.untold.is_empty() {
            return;
        }
        for (reason, events) in std::mem::take(&mut self.untold) {
            let total = self.total;
            host::log(
                Level::Error,
                &format!(
                    "{events} events for `{brokers}` lost: {reason} (lost in this process: {total})"
                ),
            );
        }
        self.quiet_until = Some(Instant::now() + REPEAT);
    }
}
