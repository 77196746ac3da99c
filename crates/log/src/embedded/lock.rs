//! One process has a log's directory.

use std::fs::{self, File};
use std::path::Path;

use super::io_error;
use crate::LogError;

const LOCK_FILE: &str = "lock";

/// Keeps other processes out of the directory.
pub(super) fn lock(dir: &Path) -> Result<File, LogError> {
    fs::create_dir_all(dir).map_err(|error| io_error("make the directory of", dir, &error))?;
    let path = dir.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|error| io_error("lock", dir, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(LogError::Locked {
            place: dir.display().to_string(),
        }),
        Err(fs::TryLockError::Error(error)) => Err(io_error("lock", dir, &error)),
    }
}
