//! What this process logs, to be looked at.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use dovecast_log::{Log, Position, Reader};
use dovecast_testkit::mock_broker::MockBroker;

use crate::{ARRIVAL, connect, skipped};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what is logged from now on.
pub(crate) fn capture() {
    tracing_subscriber::fmt()
        .with_writer(|| Lines)
        .with_ansi(false)
        .init();
}

/// The lines with this text.
pub(crate) fn with(text: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = String::from_utf8_lossy(&lines).into_owned();
    let found = lines.lines().filter(|line| line.contains(text));
    found.map(str::to_owned).collect()
}

pub(crate) async fn are_ours(broker: &MockBroker) -> Result<()> {
    let topic = "said";
    let log = connect(broker, &[])?;
    skipped::fill(broker, &log, topic).await?;
    let mut reader = log
        .reader_at(&Position {
            topic: topic.into(),
            partition: 0,
            offset: 0,
        })
        .await?;
    // Whatever comes first, librdkafka has begun elsewhere then, and has said so.
    let _ = tokio::time::timeout(ARRIVAL, reader.next()).await?;
    with("librdkafka")
        .into_iter()
        .find(|line| line.contains("offset reset") && line.contains(topic))
        .context("librdkafka's line about the offset is not in the log")?;
    Ok(())
}
