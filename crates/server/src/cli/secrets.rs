//! Arguments of `dovecast secrets`.

use clap::{Args, Subcommand};

use super::JsonArguments;

#[derive(Debug, Args)]
pub(crate) struct SecretsArguments {
    #[command(subcommand)]
    pub(crate) subject: SecretsSubject,
}

/// What is done with the keys of secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretsSubject {
    /// List the keys by their ids, and how much is sealed with each
    List(JsonArguments),
    /// Seal everything with a new key, and retire the old one
    Rotate(JsonArguments),
}
