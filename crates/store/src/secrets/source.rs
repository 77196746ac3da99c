//! Where keys come from: a file, an environment variable, or a credential of systemd.
//!
//! A file (`file.rs`) is made at the first start, for its owner alone. The other two
//! are somebody else's, and are only read.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::{Zeroize, Zeroizing};

use super::error::SecretsError;
use super::file::{self, Locked, Stamp};
use super::keyring::Keyring;

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
            Self::File(path) => {
                let Some(file) = file::open(path).map_err(failed)? else {
                    return Ok(None);
                };
                if file::is_exposed(&file).map_err(failed)? {
                    return Err(SecretsError::Exposed { place });
                }
                file::read(file).map_err(failed)?
            }
            Self::Environment(name) => variable(name).map_err(failed)?,
            Self::Credential(name) => {
                let directory = std::env::var_os(CREDENTIALS).ok_or_else(not_set);
                let path = Path::new(&directory.map_err(failed)?).join(name);
                File::open(path).and_then(file::read).map_err(failed)?
            }
        };
        Keyring::parse(&text, &place).map(Some)
    }

    /// The keys of a source in which there were none. Where another process was faster, its are.
    pub(crate) fn make(&self) -> Result<Keyring, SecretsError> {
        let place = self.to_string();
        if let Self::File(path) = self {
            let locked = self.lock(path)?;
            if self.load()?.is_none() {
                let ring = Keyring::generate(&place)?;
                let made = locked.make(&ring.text());
                made.map_err(|source| self.not_written(source))?;
            }
        }
        // As it is there, whoever has put it there.
        self.load()?.ok_or(SecretsError::Empty { place })
    }

    /// Changes the keys of a file, with no other process at it; other sources are somebody else's.
    /// Gives the keys that are there then. A file without a key is never written.
    pub(crate) fn update(
        &self,
        change: impl FnOnce(&mut Keyring) -> Result<(), SecretsError>,
    ) -> Result<Keyring, SecretsError> {
        let Self::File(path) = self else {
            return Err(self.not_written(io::ErrorKind::ReadOnlyFilesystem.into()));
        };
        let place = self.to_string();
        let locked = self.lock(path)?;
        let before = self.load()?.unwrap_or_else(|| Keyring::empty(&place));
        let mut ring = before.clone();
        change(&mut ring)?;
        if ring.is_empty() {
            return Err(SecretsError::Empty { place });
        }
        if !ring.ids().eq(before.ids()) {
            let replaced = locked.replace(&ring.text());
            replaced.map_err(|source| self.not_written(source))?;
        }
        Ok(ring)
    }

    /// Removes what a process that was killed has left beside a file.
    pub(super) fn tidy(&self) -> Result<(), SecretsError> {
        let Self::File(path) = self else {
            return Ok(());
        };
        file::tidy(path).map_err(|source| self.not_written(source))
    }

    fn lock(&self, path: &Path) -> Result<Locked, SecretsError> {
        Locked::take(path).map_err(|source| self.not_written(source))
    }

    pub(super) fn not_written(&self, source: io::Error) -> SecretsError {
        SecretsError::Write {
            place: self.to_string(),
            source,
        }
    }

    /// What changes when the file is written; `None`: there is none to look at.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::File(path) => Stamp::of(path),
            _ => None,
        }
    }
}

fn not_set() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the variable is not set")
}

/// The value of an environment variable. Errors of the standard library show a value that is not
/// UTF-8; here it is keys.
fn variable(name: &str) -> io::Result<Zeroizing<String>> {
    let value = std::env::var_os(name).ok_or_else(not_set)?;
    match String::from_utf8(value.into_encoded_bytes()) {
        Ok(value) => Ok(Zeroizing::new(value)),
        Err(error) => {
            error.into_bytes().zeroize();
            let said = "the value of the variable is not UTF-8";
            Err(io::Error::new(io::ErrorKind::InvalidData, said))
        }
    }
}
