//! Keys of services, from the file that the service gives out, or from where the operator keeps
//! secrets otherwise.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// The key of a service, or its file. [`fmt::Debug`] shows nothing of a key.
#[derive(Clone)]
pub enum ServiceKey {
    /// Path of the file that holds the key.
    File(PathBuf),
    /// The key itself.
    Text {
        /// Where it was read, as errors name it.
        place: String,
        /// What stood there.
        text: Zeroizing<String>,
    },
}

impl ServiceKey {
    /// A key that was read at a place of the operator's.
    pub fn text(place: impl fmt::Display, text: String) -> Self {
        Self::Text {
            place: place.to_string(),
            text: Zeroizing::new(text),
        }
    }

    /// Reads the key, of which a file has at most `max_bytes`; the text says why it cannot be read.
    pub(super) fn read(&self, max_bytes: u64) -> Result<Zeroizing<String>, String> {
        let path = match self {
            Self::Text { text, .. } => return Ok(text.clone()),
            Self::File(path) => path,
        };
        let unread = |error: std::io::Error| format!("names {self}: {error}");
        let found = std::fs::metadata(path).map_err(unread)?;
        if found.len() > max_bytes {
            return Err(unread(ErrorKind::FileTooLarge.into()));
        }
        let text = std::fs::read_to_string(path).map_err(unread)?;
        Ok(Zeroizing::new(text))
    }
}

/// The place, in backticks.
impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "`{}`", path.display()),
            Self::Text { place, .. } => write!(f, "`{place}`"),
        }
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceKey({self})")
    }
}

impl From<PathBuf> for ServiceKey {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}
