//! Runs the programs of one Dovecot: the master, doveadm, dovecot-lda.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::Installation;
use super::layout::Layout;

/// One of Dovecot's programs with the configuration and environment of one Dovecot.
pub(super) fn command(
    installation: Installation,
    layout: &Layout,
    environment: &[(String, String)],
    program: &str,
) -> Command {
    let mut command = installation.command(program, layout);
    command.arg("-c").arg(layout.inside().config());
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Starts the master; what it says before it has a log goes to [`Layout::stderr`].
pub(super) fn master(
    installation: Installation,
    layout: &Layout,
    environment: &[(String, String)],
) -> Result<Child> {
    let stderr = layout.stderr();
    let output =
        File::create(&stderr).with_context(|| format!("cannot write `{}`", stderr.display()))?;
    let second = output
        .try_clone()
        .context("cannot duplicate a descriptor")?;
    command(installation, layout, environment, "dovecot")
        .arg("-F")
        .stdin(Stdio::null())
        .stdout(second)
        .stderr(output)
        .spawn()
        .context("cannot run dovecot")
}
