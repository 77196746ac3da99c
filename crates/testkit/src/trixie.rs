//! Dovecot 2.4 of Debian 13 (trixie) on a machine that has another one: packages unpacked into a directory to chroot to.
//!
//! The cache is `target/dovecot-2.4` of the workspace; the environment variable `DOVECAST_TRIXIE_CACHE` names another
//! directory than `target`, on a file system that allows device nodes. It is filled under a lock and renamed into place,
//! so a directory that is there is whole, whatever became of other test processes; to have newer packages remove it.
//! What this machine cannot have is [`Unavailable`], not an error. Nothing is mounted, nothing is installed.

mod apt;
mod tree;

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};

use crate::Unavailable;

/// The cache below `target`; a cache made by another recipe needs another name.
const NAME: &str = "dovecot-2.4";
/// What is unpacked to be run, with everything it depends on.
const PACKAGES: [&str; 4] = [
    "dovecot-core",
    "dovecot-imapd",
    "dovecot-lmtpd",
    "dovecot-sieve",
];
/// The headers; what they depend on is not needed.
const HEADERS: &str = "dovecot-dev";

/// The unpacked packages, shared by all tests and changed by none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trixie {
    cache: &'static Path,
}

impl Trixie {
    /// The packages of this machine's cache, fetched (32 MB) and unpacked (90 MB) if they must be.
    ///
    /// The outer error is a failure; the inner one says that this machine lacks what it takes.
    pub fn get() -> Result<Result<Trixie, Unavailable>> {
        static CACHE: OnceLock<PathBuf> = OnceLock::new();
        // The threads of a test process: another one need not find out that the mirror cannot be reached.
        static MISSING: Mutex<Option<Unavailable>> = Mutex::new(None);
        let mut missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unavailable) = &*missing {
            return Ok(Err(unavailable.clone()));
        }
        if CACHE.get().is_none() {
            match find()? {
                Ok(path) => drop(CACHE.set(path)),
                Err(unavailable) => {
                    *missing = Some(unavailable.clone());
                    return Ok(Err(unavailable));
                }
            }
        }
        let cache = CACHE.get().context("the cache has just been found")?;
        Ok(Ok(Trixie { cache }))
    }

    /// The tree with Dovecot's headers and `dovecot-config`: what `DOVECOT_SYSROOT` is to be for a build against 2.4.
    pub fn dev_sysroot(self) -> PathBuf {
        self.cache.join("dev")
    }

    /// The packages themselves, those of [`Self::dev_sysroot`] not among them.
    pub fn debs(self) -> PathBuf {
        self.cache.join("debs")
    }

    /// The tree that private roots are copied from; nothing may write into it, nor into a file of it.
    pub(crate) fn root(self) -> PathBuf {
        self.cache.join("root")
    }

    /// Where private roots are made: on the same file system.
    pub(crate) fn private_roots(self) -> PathBuf {
        self.cache.join("private")
    }

    /// Fills `private_root`, an empty directory below [`Self::private_roots`], with a tree to chroot to.
    ///
    /// Its directories are its own, its files are hard links to the shared ones: a file may be added, or replaced by a
    /// rename, but never be written to.
    pub(crate) fn copy_root(self, private_root: &Path) -> Result<()> {
        tree::hard_link(&self.root(), private_root)?;
        tree::add_name_resolution(private_root)
    }
}

/// The mirror this machine's apt takes Debian from.
pub fn debian_mirror() -> Result<Result<String, Unavailable>> {
    apt::mirror()
}

fn find() -> Result<Result<PathBuf, Unavailable>> {
    let parent = env::var_os("DOVECAST_TRIXIE_CACHE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    if !fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
        let reason = "Dovecot 2.4 runs in a chroot, and only root may make one".to_owned();
        return Ok(Err(Unavailable::new(reason)));
    }
    fs::create_dir_all(&parent).with_context(|| format!("cannot create `{}`", parent.display()))?;
    // chroot(8) takes a path relative to its own directory otherwise, and apt a `..` amiss.
    let parent = fs::canonicalize(&parent)
        .with_context(|| format!("cannot resolve `{}`", parent.display()))?;
    let cache = parent.join(NAME);
    if cache.is_dir() {
        return Ok(Ok(cache));
    }
    let _lock = lock(&parent.join(format!("{NAME}.lock")))?;
    if cache.is_dir() {
        return Ok(Ok(cache));
    }
    let prefix = format!("{NAME}-");
    // Only who has the lock fills one: what is there was left by a process that was killed.
    tree::remove_all(&parent, &prefix)?;
    let filling = tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(&parent)
        .with_context(|| format!("cannot create a directory in `{}`", parent.display()))?;
    if let Err(unavailable) = fill(filling.path())? {
        return Ok(Err(unavailable));
    }
    fs::rename(filling.keep(), &cache)
        .with_context(|| format!("cannot rename the packages to `{}`", cache.display()))?;
    Ok(Ok(cache))
}

/// Waits for other processes that fetch; released when the file is closed, however this process ends.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create `{}`", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock `{}`", path.display()))?;
    Ok(file)
}

/// Makes a whole cache in an empty directory.
fn fill(cache: &Path) -> Result<Result<(), Unavailable>> {
    tree::make_directory(cache, 0o755)?;
    for name in ["debs", "dev", "private", "root"] {
        tree::make_directory(&cache.join(name), 0o755)?;
    }
    let headers = match apt::fetch(cache, &cache.join("debs"))? {
        Ok(headers) => headers,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    tree::unpack(&headers, &cache.join("dev"))?;
    tree::make_root(&cache.join("debs"), &cache.join("root"))?;
    Ok(Ok(()))
}
