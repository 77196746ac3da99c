//! The server's own log, on standard error.
//!
//! A line that cannot be written is dropped and counted; nothing else happens. No one who logs
//! waits: lines go through a bounded queue to a thread of their own ([`lines`]).

mod lines;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Logging};
use crate::terminal;
use lines::Lines;

/// The process has one.
static LINES: OnceLock<Lines> = OnceLock::new();

/// Writes what is left, for a moment, when it is dropped.
#[must_use]
pub(super) struct Started(());

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(lines) = LINES.get() {
            lines.drain();
        }
    }
}

/// From here on everything that is logged is written, or counted.
pub(super) fn start(logging: &Logging) -> Result<Started> {
    let filter = EnvFilter::try_new(&logging.filter)
        .with_context(|| format!("`filter`: `{}` is not a filter", logging.filter))?;
    let started = Lines::start(io::stderr()).context("cannot start the writer of the log")?;
    let lines = LINES.get_or_init(|| started);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal() && terminal::has_colours())
        // It would print errors of the writer with a macro that panics where there is no standard
        // error.
        .log_internal_errors(false)
        .with_writer(move || lines);
    match logging.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    panic::set_hook(Box::new(log_panic));
    Ok(Started(()))
}

/// Lines that could not be written since the start.
pub(crate) fn lost_lines() -> u64 {
    LINES.get().map_or(0, Lines::lost)
}

/// The usual hook writes to standard error itself, and waits where that takes nothing.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let has_backtrace = backtrace.status() == BacktraceStatus::Captured;
    let backtrace = has_backtrace.then(|| tracing::field::display(backtrace));
    tracing::error!(%panic, backtrace, "a part of the server has panicked");
}
