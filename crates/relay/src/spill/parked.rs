//! Spill files that their writers have let go of for a while, and come back to.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::Writer;

/// How often, and after which rest, the lock of a file is tried again by who may wait: a relay that
/// reads the file has it for as long as a slice takes.
const LOCK_ATTEMPTS: usize = 25;
const LOCK_REST: Duration = Duration::from_millis(2);

/// A spill file that nobody has open, and that more may be appended to.
#[derive(Debug)]
pub(crate) struct Parked {
    path: PathBuf,
    name: String,
    inode: u64,
    max_bytes: u64,
}

impl Parked {
    /// What opens the file of a writer again, after that is dropped. Everything was flushed before.
    pub(crate) fn of(writer: &Writer) -> io::Result<Self> {
        Ok(Self {
            path: writer.path.clone(),
            name: writer.name.clone(),
            inode: writer.file.metadata()?.ino(),
            max_bytes: writer.max_bytes,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Opens and locks the file; `None`: a relay has taken it in meanwhile. A relay removes a file
    /// under its lock only, and only if it is as long as what was read of it. While it reads the
    /// file the error is `WouldBlock`, after some rest if the caller `may_wait`.
    pub(crate) fn reopen(&self, may_wait: bool) -> io::Result<Option<Writer>> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::open(&self.path, flags | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        lock(&file, may_wait)?;
        // Looked at under the lock: from now on it stays there.
        let opened = file.metadata()?;
        let is_there = fs::symlink_metadata(&self.path)
            .is_ok_and(|there| there.is_file() && there.ino() == self.inode);
        if !is_there || opened.ino() != self.inode {
            return Ok(None);
        }
        Ok(Some(Writer {
            bytes: opened.len(),
            file,
            path: self.path.clone(),
            name: self.name.clone(),
            max_bytes: self.max_bytes,
            entries: Vec::new(),
            is_broken: false,
        }))
    }
}

fn lock(file: &File, may_wait: bool) -> io::Result<()> {
    let rests = if may_wait { LOCK_ATTEMPTS - 1 } else { 0 };
    for _ in 0..rests {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => thread::sleep(LOCK_REST),
            done => return Ok(done?),
        }
    }
    Ok(rustix::fs::flock(
        file,
        FlockOperation::NonBlockingLockExclusive,
    )?)
}
