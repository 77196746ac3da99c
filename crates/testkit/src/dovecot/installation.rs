//! What differs from one Dovecot to another: where it is, how its programs are run, how its configuration is written.
//!
//! A further version is a further variant here and a module beside `config_2_3` and `config_2_4`; nothing else knows
//! versions. One in a chroot has a private root for every Dovecot, so that each has the plugins it wants.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::layout::Layout;
use super::settings::Settings;
use super::{config_2_3, config_2_4};
use crate::trixie::Trixie;
use crate::{Unavailable, process};

/// The mail plugins of an installed Dovecot.
const INSTALLED_MODULES: &str = "/usr/lib/dovecot/modules";

/// A Dovecot that tests can start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Installation {
    /// Dovecot 2.3 of this machine, from Debian's packages.
    #[default]
    System23,
    /// Dovecot 2.4 of Debian 13, in a chroot of its own, where the private directory is `/t`.
    ///
    /// Paths that a test gives to Dovecot or hears from it are those inside: see [`super::Dovecot::inside`] and
    /// [`super::Builder::file`]. Each LMTP connection has a process of its own, which ends with it. LMTP takes recipients
    /// in UTF-8. An empty userdb field is empty, where 2.3 makes `yes` of it.
    Trixie24(Trixie),
}

impl Installation {
    /// Dovecot 2.4, fetched if it must be; see [`Trixie::get`].
    pub fn trixie24() -> Result<Result<Installation, Unavailable>> {
        Ok(Trixie::get()?.map(Installation::Trixie24))
    }

    /// The first two numbers of its version.
    pub fn version(self) -> &'static str {
        match self {
            Self::System23 => "2.3",
            Self::Trixie24(_) => "2.4",
        }
    }

    /// An error that says what is missing, unless this Dovecot can be started here.
    pub fn check(self) -> Result<()> {
        match self {
            Self::System23 => check_installed(),
            Self::Trixie24(_) => Ok(()),
        }
    }

    /// Where private directories are made; short, see [`Layout`].
    pub(super) fn temp_parent(self) -> PathBuf {
        match self {
            Self::System23 => PathBuf::from("/tmp"),
            Self::Trixie24(trixie) => trixie.private_roots(),
        }
    }

    /// Where Dovecot's files are in the private directory `temp`.
    pub(super) fn layout(self, temp: &Path) -> Layout {
        match self {
            Self::System23 => Layout::new(temp),
            Self::Trixie24(_) => Layout::in_chroot(temp),
        }
    }

    /// Makes what has to be there before the files of [`Self::render`]: the root, the directory of the mail plugins.
    pub(super) fn lay_out(self, layout: &Layout) -> Result<()> {
        match self {
            Self::System23 => link_modules(Path::new(INSTALLED_MODULES), layout.modules()),
            Self::Trixie24(trixie) => {
                trixie.copy_root(layout.chroot())?;
                std::fs::create_dir(layout.root())
                    .with_context(|| format!("cannot create `{}`", layout.root().display()))
            }
        }
    }

    /// Whether this Dovecot has to be told of a plugin's settings.
    pub(super) fn has_settings_modules(self) -> bool {
        matches!(self, Self::Trixie24(_))
    }

    /// One of Dovecot's programs, `dovecot`, `doveadm` or `dovecot-lda`, see [`process::detached`].
    pub(super) fn command(self, program: &str, layout: &Layout) -> Command {
        let path = match program {
            "dovecot-lda" => "/usr/lib/dovecot/dovecot-lda",
            "doveadm" => "/usr/bin/doveadm",
            _ => "/usr/sbin/dovecot",
        };
        match self {
            Self::System23 => process::detached(path),
            Self::Trixie24(_) => {
                let mut command = process::detached("/usr/sbin/chroot");
                command.arg(layout.chroot()).arg(path);
                command
            }
        }
    }

    /// The files of the configuration and their contents.
    pub(super) fn render(
        self,
        settings: &Settings,
        layout: &Layout,
        address: Ipv4Addr,
    ) -> Result<Vec<(PathBuf, String)>> {
        let inside = layout.inside();
        let (config, users) = match self {
            Self::System23 => (
                config_2_3::dovecot_conf(settings, &inside, address)?,
                config_2_3::users(settings, &inside)?,
            ),
            Self::Trixie24(_) => (
                config_2_4::dovecot_conf(settings, &inside, address)?,
                config_2_4::users(settings, &inside)?,
            ),
        };
        Ok(vec![(layout.config(), config), (layout.users(), users)])
    }
}

fn check_installed() -> Result<()> {
    let hint = "install dovecot-core dovecot-imapd dovecot-lmtpd of Debian 12";
    let output = Command::new("/usr/sbin/dovecot").arg("--version").output();
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

/// Makes a `mail_plugin_dir` that a plugin can be added to without touching the installed one.
fn link_modules(installed: &Path, private: &Path) -> Result<()> {
    std::fs::create_dir(private)
        .with_context(|| format!("cannot create `{}`", private.display()))?;
    for entry in std::fs::read_dir(installed)
        .with_context(|| format!("cannot list `{}`", installed.display()))?
    {
        let entry = entry.with_context(|| format!("cannot list `{}`", installed.display()))?;
        std::os::unix::fs::symlink(entry.path(), private.join(entry.file_name()))
            .with_context(|| format!("cannot link `{}`", entry.path().display()))?;
    }
    Ok(())
}
