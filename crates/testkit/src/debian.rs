//! Dovecots of other Debians than this machine's: packages unpacked into a directory to chroot to.
//!
//! The cache of a release is a directory below `target` of the workspace; the environment variable
//! `DOVECAST_DEBIAN_CACHE` names another directory than `target`, on a file system that allows
//! device nodes. A cache is filled under a lock and renamed into place, so a directory that is
//! there is whole, whatever became of other test processes; to have newer packages remove it. What
//! this machine cannot have is [`Unavailable`], not an error. Nothing is mounted, nothing is
//! installed.

mod apt;
mod tree;

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::Unavailable;
use crate::dovecot::Series;

/// A Debian with a Dovecot.
#[derive(Debug, Eq, PartialEq)]
pub struct Release {
    /// The beginning of the version; a mirror that has another one, because the suite has moved on,
    /// has not this one.
    pub dovecot: &'static str,
    /// What the plugin is built for, and its package depends on.
    pub abi: &'static str,
    series: Series,
    /// What apt is to know; Dovecot is taken from the last one.
    suites: &'static [&'static str],
    /// The cache below `target`; a cache made by another recipe needs another name.
    cache: &'static str,
}

/// The backport for Debian 12.
pub static BACKPORTS: Release = Release {
    dovecot: "2.3.21.1",
    abi: "2.3.ABIv21",
    series: Series::V2_3,
    suites: &["bookworm", "bookworm-backports"],
    cache: "dovecot-2.3.21",
};
/// Debian 13.
pub static TRIXIE: Release = Release {
    dovecot: "2.4.1",
    abi: "2.4.ABIv1",
    series: Series::V2_4,
    suites: &["trixie"],
    cache: "dovecot-2.4",
};
/// Debian as it becomes.
pub static SID: Release = Release {
    dovecot: "2.4.5",
    abi: "2.4.ABIv5",
    series: Series::V2_4,
    suites: &["sid"],
    cache: "dovecot-2.4.5",
};

impl Release {
    /// What its version has in common with others.
    pub fn series(&self) -> Series {
        self.series
    }

    /// The suite that Dovecot is from.
    fn suite(&self) -> &'static str {
        self.suites.last().copied().unwrap_or_default()
    }
}

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
pub struct Unpacked {
    release: &'static Release,
    cache: &'static Path,
}

impl Unpacked {
    /// The packages of this machine's cache, fetched (32 MB) and unpacked (90 MB) if they must be.
    ///
    /// The outer error is a failure; the inner one says that this machine lacks what it takes.
    pub fn get(release: &'static Release) -> Result<Result<Self, Unavailable>> {
        // The threads of a test process: another one need not find out that the mirror cannot be
        // reached.
        static KNOWN: Mutex<Vec<(&Release, Result<Unpacked, Unavailable>)>> =
            Mutex::new(Vec::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = known.iter().find(|(known, _)| *known == release) {
            return Ok(found.clone());
        }
        let found = find(release)?.map(|cache| Self {
            release,
            cache: Box::leak(cache.into_boxed_path()),
        });
        known.push((release, found.clone()));
        Ok(found)
    }

    /// Where it is from.
    pub fn release(self) -> &'static Release {
        self.release
    }

    /// The tree with Dovecot's headers and `dovecot-config`: what `DOVECOT_SYSROOT` is to be for a
    /// build against it.
    pub fn dev_sysroot(self) -> PathBuf {
        self.cache.join("dev")
    }

    /// The packages themselves, those of [`Self::dev_sysroot`] not among them.
    pub fn debs(self) -> PathBuf {
        self.cache.join("debs")
    }

    /// The tree that private roots are copied from; nothing may write into it, nor into a file of
    /// it.
    pub(crate) fn root(self) -> PathBuf {
        self.cache.join("root")
    }

    /// Where private roots are made: on the same file system.
    pub(crate) fn private_roots(self) -> PathBuf {
        self.cache.join("private")
    }

    /// Fills `private_root`, an empty directory below [`Self::private_roots`], with a tree to
    /// chroot to.
    ///
    /// Its directories are its own, its files are hard links to the shared ones: a file may be
    /// added, or replaced by a rename, but never be written to.
    pub(crate) fn copy_root(self, private_root: &Path) -> Result<()> {
        tree::hard_link(&self.root(), private_root)?;
        tree::add_name_resolution(private_root)
    }
}

/// The mirror this machine's apt takes Debian from.
pub fn mirror() -> Result<Result<String, Unavailable>> {
    apt::mirror()
}

fn find(release: &Release) -> Result<Result<PathBuf, Unavailable>> {
    let parent = env::var_os("DOVECAST_DEBIAN_CACHE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    if !fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
        let reason = format!(
            "Dovecot {} runs in a chroot, and only root may make one",
            release.dovecot
        );
        return Ok(Err(Unavailable::new(reason)));
    }
    fs::create_dir_all(&parent).with_context(|| format!("cannot create `{}`", parent.display()))?;
    // chroot(8) takes a path relative to its own directory otherwise, and apt a `..` amiss.
    let parent = fs::canonicalize(&parent)
        .with_context(|| format!("cannot resolve `{}`", parent.display()))?;
    let name = release.cache;
    let cache = parent.join(name);
    if cache.is_dir() {
        return Ok(Ok(cache));
    }
    let _lock = lock(&parent.join(format!("{name}.lock")))?;
    if cache.is_dir() {
        return Ok(Ok(cache));
    }
    let prefix = format!("{name}-");
    // Only who has the lock fills one: what is there was left by a process that was killed.
    tree::remove_all(&parent, &prefix)?;
    let filling = tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(&parent)
        .with_context(|| format!("cannot create a directory in `{}`", parent.display()))?;
    if let Err(unavailable) = fill(release, filling.path())? {
        return Ok(Err(unavailable));
    }
    fs::rename(filling.keep(), &cache)
        .with_context(|| format!("cannot rename the packages to `{}`", cache.display()))?;
    Ok(Ok(cache))
}

/// Waits for other processes that fetch; released when the file is closed, however this process
/// ends.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create `{}`", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock `{}`", path.display()))?;
    Ok(file)
}

/// Makes a whole cache in an empty directory.
fn fill(release: &Release, cache: &Path) -> Result<Result<(), Unavailable>> {
    tree::make_directory(cache, 0o755)?;
    for name in ["debs", "dev", "private", "root"] {
        tree::make_directory(&cache.join(name), 0o755)?;
    }
    let headers = match apt::fetch(release, cache, &cache.join("debs"))? {
        Ok(headers) => headers,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    tree::unpack(&headers, &cache.join("dev"))?;
    tree::make_root(&cache.join("debs"), &cache.join("root"))?;
    Ok(Ok(()))
}
