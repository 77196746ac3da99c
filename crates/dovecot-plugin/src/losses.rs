//! Trouble on its way to the log, bounded: what repeats is told once a minute; lost events are
//! counted, and all of them told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dovecast_dovecot_sys::host::{self, Level};

/// Warnings and errors: so many at once, then one a minute.
const FREE_LINES: u32 = 3;
/// How often repeating trouble is told.
const REPEAT: Duration = Duration::from_mins(1);

/// Warnings and errors of a transport on their way to the log: a few at once, then one a minute.
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
