//! A file system of some megabytes that can be filled up (tmpfs), and files that cannot grow
//! (`RLIMIT_FSIZE`).
//!
//! Mounting needs root. Where it is not permitted that is [`Unavailable`], not an error.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::Unavailable;

/// A tmpfs of its own, which goes when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// Mounts one of so many megabytes.
    pub fn mount(megabytes: u32) -> Result<Result<Self, Unavailable>> {
        let dir = tempfile::tempdir().context("no directory to mount on")?;
        let size = format!("size={megabytes}m,mode=0711");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "dovecast-test"]);
        let output = match mount.arg(dir.path()).output() {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Err(Unavailable::new("there is no `mount`".to_owned())));
            }
            Err(error) => return Err(error).context("cannot run `mount`"),
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let reason = format!("no tmpfs can be mounted: {}", said.trim());
            return Ok(Err(Unavailable::new(reason)));
        }
        Ok(Ok(Self { dir }))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> Result<()> {
        let mut filler = fs::File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .context("cannot fill the disk")?;
        loop {
            match filler.write(&[0; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("cannot fill the disk"),
            }
        }
    }

    /// Removes what it was filled with.
    pub fn make_room(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("cannot remove the filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Who still uses a file on it keeps that, and nobody finds it. There is nobody to tell of a
        // failure.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
    }
}

/// Bounds how long the files of a process may become (`None`: as long as they like). A write beyond
/// fails with `EFBIG` if the process ignores SIGXFSZ, which else ends it.
pub fn limit_files(pid: u32, bytes: Option<u64>) -> Result<()> {
    let bytes = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    let output = Command::new("prlimit")
        .args(["--pid", &pid.to_string()])
        // The soft limit alone: it can be raised again.
        .arg(format!("--fsize={bytes}:"))
        .output()
        .context("cannot run `prlimit`")?;
    ensure!(
        output.status.success(),
        "prlimit fails: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
