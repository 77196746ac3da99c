//! Arguments of `dovecast doctor`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// Dovecot's configuration file, if not the default one; a path inside of `--root`
    #[arg(long, value_name = "FILE")]
    pub(crate) dovecot_config: Option<PathBuf>,
    /// Dovecot's root directory, if it runs in a chroot
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) root: Option<PathBuf>,
}
