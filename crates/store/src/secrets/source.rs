//! Where keys come from: a file, an environment variable, or a credential of systemd.
//!
//! A file is made at the first start, for its owner alone, and written anew as a whole: under
//! another name first, synced, then renamed, so that a crash leaves the old file or the new one.
//! The other two are somebody else's, and are only read.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use super::error::SecretsError;
use super::keyring::Keyring;

/// Nobody but the server reads keys.
const FILE_MODE: u32 = 0o600;
/// Rights that a file of keys may not give: a group may read it, and nobody else do anything.
const REFUSED_MODE: u32 = 0o027;
/// Most bytes of a source: a hundred keys have a tenth of it.
const MAX_BYTES: u64 = 64 * 1024;
/// Where systemd says that the credentials of a unit are.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Where the keys of secrets are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// Nowhere: nothing can be sealed.
    #[default]
    Nowhere,
    /// In a file, which is made if it is not there.
    File(PathBuf),
    /// In an environment variable.
    Environment(String),
    /// In a credential of systemd (`LoadCredential=`, `LoadCredentialEncrypted=`).
    Credential(String),
}

/// A text that names no place of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no place of keys: expected `file:PATH`, `env:VARIABLE` or `credential:NAME`")]
pub struct KeySourceError;

/// What of a file changes when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FromStr for KeySource {
    type Err = KeySourceError;

    fn from_str(text: &str) -> Result<Self, KeySourceError> {
        let (kind, name) = text.split_once(':').ok_or(KeySourceError)?;
        let is_name = !name.is_empty() && !name.contains(['\0', '=']);
        match kind {
            "file" if !name.is_empty() && !name.contains('\0') => Ok(Self::File(name.into())),
            "env" if is_name => Ok(Self::Environment(name.to_owned())),
            "credential" if is_name && !name.contains('/') && !name.starts_with('.') => {
                Ok(Self::Credential(name.to_owned()))
            }
            _ => Err(KeySourceError),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("nowhere"),
            Self::File(path) => write!(f, "`{}`", path.display()),
            Self::Environment(name) => write!(f, "the environment variable `{name}`"),
            Self::Credential(name) => write!(f, "the credential `{name}`"),
        }
    }
}

impl KeySource {
    /// Whether the server itself puts keys here.
    pub(super) fn is_written(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// The keys; `None`: a file that is not there yet.
    pub(crate) fn load(&self) -> Result<Option<Keyring>, SecretsError> {
        let place = self.to_string();
        let failed = |source| SecretsError::Read {
            place: place.clone(),
            source,
        };
        let text = match self {
            Self::Nowhere => return Err(SecretsError::NoSource),
            Self::File(path) => match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => {
                    let file = file.map_err(failed)?;
                    let mode = file.metadata().map_err(failed)?.permissions().mode();
                    if mode & REFUSED_MODE != 0 {
                        return Err(SecretsError::Exposed { place });
                    }
                    read(file).map_err(failed)?
                }
            },
            Self::Environment(name) => {
                let value = std::env::var(name).map_err(io::Error::other);
                Zeroizing::new(value.map_err(failed)?)
            }
            Self::Credential(name) => {
                let directory = std::env::var(CREDENTIALS).map_err(io::Error::other);
                let path = Path::new(&directory.map_err(failed)?).join(name);
                File::open(path).and_then(read).map_err(failed)?
            }
        };
        Keyring::parse(&text, &place).map(Some)
    }

    /// The keys of a source in which there were none. Where another process was faster, its are.
    pub(crate) fn make(&self) -> Result<Keyring, SecretsError> {
        let Self::File(path) = self else {
            let place = self.to_string();
            return self.load()?.ok_or(SecretsError::Empty { place });
        };
        let place = self.to_string();
        let failed = |source| SecretsError::Write {
            place: place.clone(),
            source,
        };
        let ring = Keyring::generate(&place)?;
        let beside = write_beside(path, &ring.text(), FILE_MODE).map_err(failed)?;
        let linked = fs::hard_link(&beside, path);
        fs::remove_file(&beside).map_err(failed)?;
        match linked {
            Ok(()) => {
                sync_directory(path).map_err(failed)?;
                Ok(ring)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.load()?.ok_or(SecretsError::Empty { place })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes a file anew with these keys; other sources are somebody else's.
    pub(crate) fn replace(&self, ring: &Keyring) -> Result<(), SecretsError> {
        let failed = |source| SecretsError::Write {
            place: self.to_string(),
            source,
        };
        let Self::File(path) = self else {
            return Err(failed(io::ErrorKind::ReadOnlyFilesystem.into()));
        };
        let replace = || {
            // A link stays one.
            let path = path.canonicalize()?;
            let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
            let beside = write_beside(&path, &ring.text(), mode)?;
            fs::rename(beside, &path)?;
            sync_directory(&path)
        };
        replace().map_err(failed)
    }

    /// What changes when the file is written; `None`: there is none to look at.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let Self::File(path) = self else {
            return None;
        };
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

fn read(file: File) -> io::Result<Zeroizing<String>> {
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

/// Writes and syncs a file of another name beside the one that is meant.
fn write_beside(path: &Path, text: &str, mode: u32) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(FILE_MODE);
    let mut file = options.open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    Ok(beside)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
