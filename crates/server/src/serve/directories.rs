//! The directories of the server, with the rights that mail processes need and no more.
//!
//! One that is there already keeps its rights: the operator's wish.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

use crate::config::{Config, Role};

/// Mail processes go through it to the socket and the spill files, and see nothing else.
const DATA_DIR_MODE: u32 = 0o711;
const LOG_DIR_MODE: u32 = 0o700;
/// Every mail process may make a file, none may see or remove another's; the files get the group of
/// the directory, which is how the server may read them.
const SPILL_DIR_MODE: u32 = 0o3733;

/// Makes what is missing.
pub(super) fn make(config: &Config) -> Result<()> {
    make_one(&config.data_dir, DATA_DIR_MODE)?;
    make_one(&config.log_dir(), LOG_DIR_MODE)?;
    if config.has(Role::Relay) {
        make_one(&config.spill_dir(), SPILL_DIR_MODE)?;
    }
    Ok(())
}

fn make_one(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    // What leads there is as open as the data directory, whatever the umask.
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        make_one(parent, DATA_DIR_MODE)?;
    }
    let context = || format!("cannot make the directory `{}`", path.display());
    match DirBuilder::new().mode(0o700).create(path) {
        // Not by the builder: the umask takes rights away there.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)).with_context(context),
        // Another server was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error).with_context(context),
    }
}
