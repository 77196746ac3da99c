//! The server in this directory, which nobody has named: whether it may be believed.
//!
//! Whoever may write to a directory can put a `dovecast-data` there, with a socket of theirs: what
//! root then sends goes to them, and root is shown what they like. With tokens of theirs in it,
//! they have a server of root's. So both have to belong to root or to whoever asks. A path that is
//! named on the command line is the caller's own decision.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::config::Config;

/// Fails unless the data directory of this configuration, and its control socket if there is one,
/// are root's or the caller's own.
pub(super) fn check_here(config: &Config) -> Result<()> {
    let socket = config.control_socket();
    check_directory(config)?;
    match socket.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        found => check(&socket, found),
    }
}

/// Fails unless the data directory is: for a server that begins, whose socket is not there yet.
pub(super) fn check_directory(config: &Config) -> Result<()> {
    let directory = &config.data_dir;
    // The link itself, too: whoever has made it says where it leads.
    check(directory, directory.symlink_metadata())?;
    check(directory, directory.metadata())
}

fn check(path: &Path, found: io::Result<Metadata>) -> Result<()> {
    let shown = path.display();
    let found = found.with_context(|| format!("cannot look at `{shown}`"))?;
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != 0 && found.uid() != own {
        bail!(
            "`{shown}` in this directory belongs to the user id {}, and not to you or root: name the server that you mean with --data-dir or --config",
            found.uid()
        );
    }
    Ok(())
}
