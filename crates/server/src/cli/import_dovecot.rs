//! Arguments of `dovecast import-dovecot`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ImportDovecotArguments {
    /// What `doveconf -n` has printed, or `doveconf -nP`, which shows passwords; `-` is standard
    /// input
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
}
