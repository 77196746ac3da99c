//! Where answers go: standard output, as the process got it, shared with the watch.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use dovecast_host_process::child::{announce, write_frame};

use crate::wire::{Answer, Level, Line, MAX_LINES, cut};

/// Most fields of an event that go with a line of the log.
const MAX_FIELDS: usize = 64;

/// Answers of the process.
pub(crate) struct Output {
    file: Mutex<File>,
    /// Lines of the request that is under way.
    lines: AtomicU64,
}

impl Output {
    pub(crate) fn new(file: File) -> Self {
        Self {
            file: Mutex::new(file),
            lines: AtomicU64::new(0),
        }
    }

    /// Says that the bounds are set.
    pub(crate) fn announce(&self) -> io::Result<()> {
        announce(&mut *self.file.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends an answer.
    pub(crate) fn send(&self, answer: &Answer) -> io::Result<()> {
        let bytes = serde_json::to_vec(answer)?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *file, &bytes)?;
        file.flush()
    }

    /// Sends a line of the log, unless there were too many in this request.
    pub(crate) fn log(
        &self,
        level: Level,
        text: String,
        event: Option<String>,
        mut fields: Vec<(String, String)>,
    ) -> io::Result<()> {
        if self.lines.fetch_add(1, Ordering::Relaxed) >= MAX_LINES {
            return Ok(());
        }
        fields.truncate(MAX_FIELDS);
        let fields = fields
            .into_iter()
            .map(|(name, value)| (cut(name), cut(value)));
        self.send(&Answer::Line(Line {
            level,
            text: cut(text),
            event: event.map(cut),
            fields: fields.collect(),
        }))
    }

    /// How many lines were dropped since the last time this was asked.
    pub(crate) fn take_dropped(&self) -> u64 {
        let lines = self.lines.swap(0, Ordering::Relaxed);
        lines.saturating_sub(MAX_LINES)
    }
}
