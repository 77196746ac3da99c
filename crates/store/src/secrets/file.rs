//! The file of keys: read with its rights checked, and written anew as a whole under a lock.
//!
//! Nodes may share the file. Whoever changes it holds the lock from reading it to renaming the new
//! one over it, so no key that another node has added in between is lost. The lock is on a file of
//! its own beside it (`flock(2)`), because the file itself is replaced. The new file is written
//! under a random name first and synced, so that a crash leaves the old file or the new one; what
//! a crash leaves besides is removed by the next who holds the lock.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

/// Mode of a new file: nobody but the server reads keys.
const FILE_MODE: u32 = 0o600;
/// Rights that a file of keys may not give: a group may read it, and nobody else do anything.
const REFUSED_MODE: u32 = 0o027;
/// Most bytes of a source: a hundred keys have a tenth of it.
const MAX_BYTES: u64 = 64 * 1024;
/// How long another process may hold the lock: it writes one small file meanwhile.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the lock is tried.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// End of the name of the lock, behind that of the file of keys.
const LOCK_SUFFIX: &str = ".lock";
/// End of the names under which new files are written.
const NEW_SUFFIX: &str = ".new";

/// What of a file changes when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// The stamp of a file; `None`: there is none to look at.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// Opens a file of keys; `None`: it is not there.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// Whether others than its owner and its group may read a file, or others than its owner write it.
pub(super) fn is_exposed(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.permissions().mode() & REFUSED_MODE != 0)
}

pub(super) fn read(file: File) -> io::Result<Zeroizing<String>> {
    let length = file.metadata()?.len();
    if length > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // All of it at once: what a text leaves behind when it grows is not overwritten.
    let room = usize::try_from(length).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Removes what a process that was killed has left beside the file; where there is nothing,
/// nothing is written, not even a lock.
pub(super) fn tidy(path: &Path) -> io::Result<()> {
    if leftovers(path)?.is_empty() {
        return Ok(());
    }
    Locked::take(path).map(drop)
}

/// A file that nobody else changes until this is dropped.
pub(super) struct Locked {
    path: PathBuf,
    _lock: File,
}

impl Locked {
    pub(super) fn take(path: &Path) -> io::Result<Self> {
        // A link stays one.
        let path = match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            path => path?,
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = options
            .mode(FILE_MODE)
            .open(beside(&path, LOCK_SUFFIX.as_ref()))?;
        let until = Instant::now() + LOCK_TIMEOUT;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    thread::sleep(LOCK_RETRY_INTERVAL);
                }
                Err(TryLockError::WouldBlock) => {
                    let said = "another process holds the lock beside it";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, said));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        for leftover in leftovers(&path)? {
            fs::remove_file(leftover)?;
        }
        Ok(Self { path, _lock: lock })
    }

    /// Makes the file; where somebody has put one there who heeds no lock, that one stays.
    pub(super) fn make(&self, text: &str) -> io::Result<()> {
        let new = New::write(&self.path, text, None)?;
        match fs::hard_link(&new.0, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => {
                linked?;
                sync_directory(&self.path)
            }
        }
    }

    /// Writes the file anew, with the rights, the owner and the group that it has.
    pub(super) fn replace(&self, text: &str) -> io::Result<()> {
        let before = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            metadata => Some(metadata?),
        };
        let new = New::write(&self.path, text, before.as_ref())?;
        fs::rename(&new.0, &self.path)?;
        sync_directory(&self.path)
    }
}

/// A new file under another name; removed when it is dropped, unless it was renamed.
struct New(PathBuf);

impl New {
    fn write(path: &Path, text: &str, like: Option<&Metadata>) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let suffix = format!(".{:016x}{NEW_SUFFIX}", u64::from_ne_bytes(random));
        let name = beside(path, suffix.as_ref());
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        let mut file = options.open(&name)?;
        let new = Self(name);
        file.write_all(text.as_bytes())?;
        if let Some(like) = like {
            let new_file = file.metadata()?;
            if (new_file.uid(), new_file.gid()) != (like.uid(), like.gid()) {
                fchown(&file, Some(like.uid()), Some(like.gid()))?;
            }
            let mode = like.permissions().mode() & 0o777;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        file.sync_all()?;
        Ok(new)
    }
}

impl Drop for New {
    fn drop(&mut self) {
        // Not there where it was renamed; else whoever holds the lock next removes it.
        let _ = fs::remove_file(&self.0);
    }
}

fn beside(path: &Path, suffix: &OsStr) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// New files beside the file, which nobody writes any more once one holds the lock.
fn leftovers(path: &Path) -> io::Result<Vec<PathBuf>> {
    let prefix = beside(path, ".".as_ref());
    let prefix = prefix.file_name().unwrap_or_default().as_encoded_bytes();
    let is_leftover = |name: &OsStr| {
        let random = name.as_encoded_bytes().strip_prefix(prefix);
        let random = random.and_then(|rest| rest.strip_suffix(NEW_SUFFIX.as_bytes()));
        random.is_some_and(|random| !random.is_empty() && random.iter().all(u8::is_ascii_hexdigit))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(parent(path))? {
        let entry = entry?;
        if is_leftover(&entry.file_name()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}
