//! Arguments of `dovecast accounts`. Without a subcommand it lists.

use clap::{Args, Subcommand};

use super::JsonArguments;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AccountsArguments {
    #[command(flatten)]
    pub(crate) list: JsonArguments,
    #[command(subcommand)]
    pub(crate) act: Option<AccountsAct>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccountsAct {
    /// List the accounts with the numbers of their endpoints, tokens and users
    List(JsonArguments),
    /// Show an account with its endpoints and tokens
    Show(AccountArguments),
    /// Close an account: its tokens, endpoints and filters go, and nobody acts for it any more
    Close(AccountArguments),
    /// Open an account again that was closed; what it had is gone
    Reopen(AccountArguments),
}

#[derive(Debug, Args)]
pub(crate) struct AccountArguments {
    /// Number of the account
    pub(crate) number: String,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}
