//! How much room the file system of a log has, and what is not appended where that is little.
//!
//! What makes room in a log takes some first: what a group has read is written, what is removed is
//! overwritten, and all of that goes through the write-ahead file. A log that has filled its file
//! system to the last byte could do none of it.

use std::io;
use std::path::Path;

use super::writer::{Command, Writer};
use crate::LogError;

/// The room to keep is at most this part of a file system: one in so many.
const LARGEST_PART: u64 = 20;

/// Room of a file system, in bytes.
pub(super) struct Room {
    pub(super) free: u64,
    all: u64,
}

impl Room {
    /// Room where a path is.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let there = rustix::fs::statvfs(path)?;
        Ok(Self {
            free: there.f_bavail.saturating_mul(there.f_frsize),
            all: there.f_blocks.saturating_mul(there.f_frsize),
        })
    }

    fn has(&self, kept: u64) -> bool {
        self.free >= kept.min(self.all / LARGEST_PART)
    }
}

impl Writer {
    /// Refuses what would make the log larger, where there is little room left; the rest.
    pub(super) fn refuse_without_room(&mut self, commands: Vec<Command>) -> Vec<Command> {
        let path = &self.shared.store.path;
        let kept = self.shared.options.keep_free_bytes;
        // Where it cannot be asked, what is written says whether there is room.
        let has_room = || Room::at(path).map_or(true, |room| room.has(kept));
        if !commands.iter().any(Command::grows) || has_room() {
            return commands;
        }
        let place = path.display().to_string();
        if self.room_lines.take() {
            tracing::warn!(
                file = place,
                kept,
                "the log takes no records: its file system has little room left, which is kept for what makes room"
            );
        }
        self.shared.counters.failed();
        let (grow, rest): (Vec<_>, Vec<_>) = commands.into_iter().partition(Command::grows);
        for command in grow {
            let place = place.clone();
            command.answer(Err(LogError::Full { place }));
        }
        rest
    }
}
