//! What scripts say: lines of the log, and what they print.

use std::sync::Arc;

use dovecast_lua_host::wire::{Level, Line};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::ChildStderr;

use super::options::LuaOptions;
use super::stats::Counters;
use crate::log_line::one_line;

/// Target of all lines about scripts, and of those that scripts log.
pub(super) const TARGET: &str = "lua";

/// Most lines that one process may print; what is above is counted.
const MAX_PRINTED_LINES: u64 = 1000;
/// Longest line that is printed, in bytes; what is above is another line.
const MAX_PRINTED_BYTES: u64 = 4096;

/// Logs a line of a script.
pub(super) fn line(options: &LuaOptions, line: Line) {
    let driver = &*options.name;
    let script = options.script.display();
    let Line {
        level,
        text,
        event,
        fields,
    } = line;
    let fields: Vec<String> = fields
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let fields = (!fields.is_empty()).then(|| fields.join(" "));
    let text = one_line(&text);
    match level {
        Level::Debug => {
            tracing::debug!(target: TARGET, driver, %script, event, fields, "{text}");
        }
        Level::Info => tracing::info!(target: TARGET, driver, %script, event, fields, "{text}"),
        Level::Warning => {
            tracing::warn!(target: TARGET, driver, %script, event, fields, "{text}");
        }
        Level::Error => {
            tracing::error!(target: TARGET, driver, %script, event, fields, "{text}");
        }
    }
}

/// Logs what a process prints, until it ends.
pub(super) async fn printed(driver: String, output: ChildStderr, dropped: Arc<Counters>) {
    let mut output = BufReader::new(output);
    let mut lines = 0_u64;
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut next = (&mut output).take(MAX_PRINTED_BYTES);
        match next.read_until(b'\n', &mut line).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(target: TARGET, driver, %error, "what a script prints is lost");
                return;
            }
        }
        lines += 1;
        if lines > MAX_PRINTED_LINES {
            dropped.dropped_lines(1);
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        let text = one_line(text.trim_end());
        tracing::info!(target: TARGET, driver, "printed: {text}");
    }
}
