//! Records of spill files that the configuration refuses, and may take tomorrow: what else is in
//! the file goes to the log, and the file is kept until nothing of it is refused.
//!
//! A file that comes back is read from its beginning. The log knows by their ids the records that
//! it has had of it already, as far as its window of ids reaches.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::aside::REFUSED_SUFFIX;
use super::file::{self, Slice};
use super::{Intake, IntakeError, Relay, failed};
use crate::spill::{SUFFIX, random, rename_new};

/// Names that are tried for a file.
const NAMES: usize = 3;

/// Which files have such records, as far as they were read; by name.
#[derive(Default)]
pub(super) struct Kept {
    /// Files that have some.
    found: HashSet<String>,
    /// Files that were begun before the relay was started: what they had until then is not known.
    pub(super) resumed: HashSet<String>,
}

impl Kept {
    /// Forgets files that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(&String) -> bool) {
        self.found.retain(&is_there);
        self.resumed.retain(&is_there);
    }
}

impl Intake {
    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts records that are kept, and remembers that their file has some.
pub(super) fn keep(relay: &Relay, name: &str, slice: &Slice) {
    let Some(reason) = slice.kept.reason() else {
        return;
    };
    let records = slice.kept.count();
    let counter = &relay.counters.spill_kept;
    counter.fetch_add(records, Ordering::Relaxed);
    if relay.peers.kept.take(slice.owner.unwrap_or(u32::MAX)) {
        tracing::warn!(
            file = name,
            uid = slice.owner,
            records,
            reason,
            "records of a spill file are not taken; the file is kept as `*{REFUSED_SUFFIX}`, and taken in by the first start whose configuration takes them"
        );
    }
    relay.intake.kept().found.insert(name.to_owned());
}

/// Whether a file that is at its end has such records.
pub(super) async fn has_kept(relay: &Arc<Relay>, name: &str) -> Result<bool, IntakeError> {
    {
        let kept = relay.intake.kept();
        if kept.found.contains(name) || !kept.resumed.contains(name) {
            return Ok(kept.found.contains(name));
        }
    }
    let (relay, path) = (Arc::clone(relay), relay.intake.dir.join(name));
    let reading = tokio::task::spawn_blocking(move || file::is_refused(&relay, &path));
    Ok(reading.await.map_err(|_| IntakeError::Panicked)??)
}

/// Gives files of which nothing is refused any more the names of spill files, before those are
/// taken in.
pub(in crate::server) async fn take_back(relay: &Arc<Relay>) {
    let taking = Arc::clone(relay);
    let taken = tokio::task::spawn_blocking(move || rename_all(&taking)).await;
    if let Err(error) = taken.map_err(io::Error::other).flatten() {
        failed(relay, &error.into(), "files that were put aside");
    }
}

fn rename_all(relay: &Relay) -> io::Result<()> {
    for entry in fs::read_dir(&relay.intake.dir)? {
        let path = entry?.path();
        if name_of(&path, "").is_some()
            && fs::symlink_metadata(&path).is_ok_and(|there| there.is_file())
            && !file::is_refused(relay, &path).unwrap_or(true)
        {
            // Whoever has made one that cannot be renamed keeps no other back.
            match rename(&path) {
                Ok(name) => {
                    tracing::info!(file = %name.display(), "a spill file that was refused is taken in");
                }
                Err(error) => failed(relay, &error.into(), "files that were put aside"),
            }
        }
    }
    Ok(())
}

/// Gives a file that was put aside the name of a spill file, another one where there is such a
/// file already.
fn rename(path: &Path) -> io::Result<PathBuf> {
    let mut more = String::new();
    for _ in 0..NAMES {
        let Some(name) = name_of(path, &more) else {
            break;
        };
        match rename_new(path, &name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                more = format!("-{:016x}", random());
            }
            done => return done.map(|()| name),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The name of a spill file for one that was put aside; never one that it had before, of which the
/// log may have a mark still; with `more` at its end. `None`: it was not put aside.
fn name_of(path: &Path, more: &str) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(REFUSED_SUFFIX)?;
    Some(path.with_file_name(format!("{name}{more}{SUFFIX}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_in_the_way_keeps_none_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.refused");
        let first = dir.path().join(format!("a{SUFFIX}"));
        fs::write(&path, "kept").expect("a file");
        assert_eq!(rename(&path).expect("a name"), first);
        fs::write(&path, "kept, too").expect("a file");
        let second = rename(&path).expect("another name");
        assert_ne!(second, first);
        assert_eq!(fs::read(&first).expect("a file"), b"kept");
        assert_eq!(fs::read(&second).expect("a file"), b"kept, too");
        assert!(second.to_string_lossy().ends_with(SUFFIX) && !path.exists());
    }
}
