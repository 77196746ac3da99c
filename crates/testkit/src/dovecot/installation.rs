//! What differs from one Dovecot to another: where it is, how its programs are run, how its configuration is written.
//!
//! A further version is a further variant here and a module beside `config_2_3`; nothing else knows versions. For one
//! in a chroot, `temp_parent` lies below the chroot, `command` goes through chroot(8), and `inside` takes the chroot
//! off a path.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::builder::Settings;
use super::config_2_3;
use super::layout::Layout;

/// A Dovecot that tests can start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Installation {
    /// Dovecot 2.3 of this machine, from Debian's packages.
    #[default]
    System23,
}

impl Installation {
    /// An error that says what is missing, unless this Dovecot can be started here.
    pub fn check(self) -> Result<()> {
        let Self::System23 = self;
        let hint = "install dovecot-core dovecot-imapd dovecot-lmtpd of Debian 12";
        let output = self.command("dovecot").arg("--version").output();
        let output = output.with_context(|| format!("no Dovecot on this machine: {hint}"))?;
        let version = String::from_utf8_lossy(&output.stdout);
        ensure!(
            version.starts_with("2.3."),
            "Dovecot 2.3 is wanted, `{}` is installed: {hint}",
            version.trim()
        );
        for program in ["imap", "lmtp"] {
            ensure!(
                Path::new("/usr/lib/dovecot").join(program).exists(),
                "Dovecot has no `{program}`: {hint}"
            );
        }
        Ok(())
    }

    /// Where private directories are made; short, see [`Layout`].
    pub(super) fn temp_parent(self) -> &'static Path {
        let Self::System23 = self;
        Path::new("/tmp")
    }

    /// The path that Dovecot's processes know a file by.
    pub(super) fn inside(self, path: &Path) -> PathBuf {
        let Self::System23 = self;
        path.to_owned()
    }

    /// The directory of the installed mail plugins.
    pub(super) fn modules(self) -> PathBuf {
        let Self::System23 = self;
        PathBuf::from("/usr/lib/dovecot/modules")
    }

    /// One of Dovecot's programs, `dovecot`, `doveadm` or `dovecot-lda`, with as many descriptors as this user may have.
    pub(super) fn command(self, program: &str) -> Command {
        let Self::System23 = self;
        let path = match program {
            "dovecot-lda" => "/usr/lib/dovecot/dovecot-lda",
            "doveadm" => "/usr/bin/doveadm",
            _ => "/usr/sbin/dovecot",
        };
        let mut command = Command::new("sh");
        command.args([
            "-c",
            r#"ulimit -n "$(ulimit -H -n)" && exec "$0" "$@""#,
            path,
        ]);
        command
    }

    /// The files of the configuration and their contents.
    pub(super) fn render(
        self,
        settings: &Settings,
        layout: &Layout,
        address: Ipv4Addr,
    ) -> Result<Vec<(PathBuf, String)>> {
        let Self::System23 = self;
        let inside = Layout::new(&self.inside(layout.root()));
        Ok(vec![
            (
                layout.config(),
                config_2_3::dovecot_conf(settings, &inside, address)?,
            ),
            (layout.users(), config_2_3::users(settings, &inside)?),
        ])
    }
}
