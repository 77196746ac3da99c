//! The server's own log, on standard error.

use std::io;
use std::io::IsTerminal;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Logging};

/// From here on everything that is logged is written.
pub(super) fn start(logging: &Logging) -> Result<()> {
    let filter = EnvFilter::try_new(&logging.filter)
        .with_context(|| format!("`filter`: `{}` is no filter", logging.filter))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match logging.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
