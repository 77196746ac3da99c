//! Paths of directories and sockets.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

/// The longest path of a unix socket, see unix(7).
const MAX_SOCKET_BYTES: usize = 107;

/// Refuses a path that is too long for a socket; `setting` names another place for it.
pub(crate) fn check_socket(path: &Path, setting: &str) -> anyhow::Result<()> {
    let length = path.as_os_str().len();
    anyhow::ensure!(
        length <= MAX_SOCKET_BYTES,
        "the path of the socket `{}` is {length} bytes long, {MAX_SOCKET_BYTES} is the most: set {setting}",
        path.display()
    );
    Ok(())
}

/// A path that is not empty.
pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() || text.contains('\0') {
        return Err(de::Error::custom(format!(
            "`{}` is not a path",
            text.escape_default()
        )));
    }
    Ok(text.into())
}

/// As [`path`].
pub(super) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    path(deserializer).map(Some)
}

/// A path where a socket can be.
pub(super) fn socket<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    let path = path(deserializer)?;
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_BYTES {
        return Err(de::Error::custom(format!(
            "`{}` has {length} bytes, expected at most {MAX_SOCKET_BYTES} for the path of a socket",
            path.display()
        )));
    }
    Ok(Some(path))
}
