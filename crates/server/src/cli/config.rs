//! `dovecast config`.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory};

use super::{Arguments, Command};

#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    /// Check this file, and say what is wrong with it
    #[arg(long, value_name = "FILE")]
    pub(crate) check: Option<PathBuf>,
}

impl Arguments {
    /// Refuses options that the command does not look at.
    pub(crate) fn checked(self) -> Result<Self, clap::Error> {
        let Command::Config(config) = &self.command else {
            return Ok(self);
        };
        if self.place.config.is_none() || config.check.is_some() {
            return Ok(self);
        }
        let text = "`dovecast config` prints the default configuration; a file is checked with `dovecast config --check FILE`";
        Err(Self::command().error(ErrorKind::ArgumentConflict, text))
    }
}
