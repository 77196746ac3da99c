//! Arguments of `dovecast import-ox`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ImportOxArguments {
    /// Files of properties, such as `mail-push.properties`; of a property that is in several the
    /// last counts; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) files: Vec<PathBuf>,
    /// The IMAP server, which other files of Open-Xchange name: `imaps://HOST:993`
    #[arg(long, value_name = "URL")]
    pub(crate) imap: Option<String>,
    /// The master user of the IMAP server, whom `passwordSource = global` needs here
    #[arg(long, value_name = "NAME")]
    pub(crate) master_user: Option<String>,
}
