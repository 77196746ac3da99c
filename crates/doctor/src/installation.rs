//! Where the Dovecot is that is looked at, and how its own tools are run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use dovecast_options::Spelling;

use crate::Target;

/// A Dovecot that is installed here, or below a root directory.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    root: Option<PathBuf>,
    config: Option<PathBuf>,
    /// As `dovecot --version` prints it.
    pub(crate) version: String,
}

impl Installation {
    pub(crate) fn find(target: &Target) -> Result<Self> {
        let mut installation = Self {
            root: target.root.clone(),
            config: target.config.clone(),
            version: String::new(),
        };
        let output = installation.run("dovecot", &["--version"])?;
        if !output.status.success() {
            bail!(
                "`dovecot --version` failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .clone_into(&mut installation.version);
        Ok(installation)
    }

    pub(crate) fn is_2_4(&self) -> bool {
        !self.version.starts_with("2.3.")
    }

    /// A path as Dovecot sees it, as this process sees it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path.trim_start_matches('/')),
            None => PathBuf::from(path),
        }
    }

    /// What `doveconf -n` prints.
    pub(crate) fn doveconf(&self) -> Result<Output> {
        let config = self.config.as_deref().map(Path::to_string_lossy);
        let mut arguments = vec!["-n"];
        if let Some(config) = &config {
            arguments.extend(["-c", config]);
        }
        self.run("doveconf", &arguments)
    }

    /// One setting with its default.
    pub(crate) fn setting(&self, name: &str) -> Result<String> {
        let config = self.config.as_deref().map(Path::to_string_lossy);
        let mut arguments = vec!["-h"];
        if let Some(config) = &config {
            arguments.extend(["-c", config]);
        }
        arguments.push(name);
        let output = self.run("doveconf", &arguments)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// How the configuration spells our options.
    pub(crate) fn spelling(&self) -> Spelling {
        if self.is_2_4() {
            Spelling::V2_4
        } else {
            Spelling::V2_3
        }
    }

    /// The user id of a user, who is named or numbered; `None`: there is no such user.
    pub(crate) fn user_id(&self, user: &str) -> Option<u32> {
        if let Ok(uid) = user.parse() {
            return Some(uid);
        }
        let output = self.run("id", &["-u", "--", user]).ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = match &self.root {
            Some(root) => {
                let mut chroot = Command::new("chroot");
                chroot.arg(root).arg(program);
                chroot
            }
            None => Command::new(program),
        };
        command.args(arguments);
        command
            .output()
            .with_context(|| format!("cannot run `{program}`: is Dovecot installed?"))
    }
}
