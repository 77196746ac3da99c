//! What differs from one Dovecot to another: where it is, how its programs are run, how its
//! configuration is written.
//!
//! A further series is a further variant here and a module beside `config_2_3` and `config_2_4`; a
//! further Dovecot of a series is a row in `debian.rs`. One in a chroot has a private root for
//! every Dovecot, so that each has the plugins it wants.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::layout::Layout;
use super::settings::Settings;
use super::{config_2_3, config_2_4};
use crate::debian::{self, Unpacked};
use crate::{Unavailable, process};

/// The mail plugins of an installed Dovecot.
const INSTALLED_MODULES: &str = "/usr/lib/dovecot/modules";

/// What Dovecots have in common: the headers, the configuration, the names of settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Series {
    /// Dovecot 2.3.
    V2_3,
    /// Dovecot 2.4.
    ///
    /// Each LMTP connection has a process of its own, which ends with it. LMTP takes recipients in
    /// UTF-8. An empty userdb field is empty, where 2.3 makes `yes` of it.
    V2_4,
}

impl Series {
    /// As in the name of the ABI.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V2_3 => "2.3",
            Self::V2_4 => "2.4",
        }
    }
}

/// A Dovecot that tests can start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Installation {
    /// Dovecot 2.3 of this machine, from Debian's packages.
    #[default]
    System23,
    /// Another one, in a chroot of its own, where the private directory is `/t`.
    ///
    /// Paths that a test gives to Dovecot or hears from it are those inside: see
    /// [`super::Dovecot::inside`] and [`super::Builder::file`].
    Unpacked(Unpacked),
}

impl Installation {
    /// A Dovecot of another Debian, fetched if it must be; see [`Unpacked::get`].
    pub fn unpacked(release: &'static debian::Release) -> Result<Result<Self, Unavailable>> {
        Ok(Unpacked::get(release)?.map(Self::Unpacked))
    }

    /// What its version has in common with others.
    pub fn series(self) -> Series {
        match self {
            Self::System23 => Series::V2_3,
            Self::Unpacked(unpacked) => unpacked.release().series(),
        }
    }

    /// Version of this Dovecot, as far as it matters.
    pub fn version(self) -> &'static str {
        match self {
            Self::System23 => "2.3.19",
            Self::Unpacked(unpacked) => unpacked.release().dovecot,
        }
    }

    /// The ABI that plugins are built for.
    pub fn abi(self) -> &'static str {
        match self {
            Self::System23 => "2.3.ABIv19",
            Self::Unpacked(unpacked) => unpacked.release().abi,
        }
    }

    /// An error that says what is missing, unless this Dovecot can be started here.
    pub fn check(self) -> Result<()> {
        match self {
            Self::System23 => check_installed(),
            Self::Unpacked(_) => Ok(()),
        }
    }

    /// Where private directories are made; short, see [`Layout`].
    pub(super) fn temp_parent(self) -> PathBuf {
        match self {
            Self::System23 => PathBuf::from("/tmp"),
            Self::Unpacked(unpacked) => unpacked.private_roots(),
        }
    }

    /// Where Dovecot's files are in the private directory `temp`.
    pub(super) fn layout(self, temp: &Path) -> Layout {
        match self {
            Self::System23 => Layout::new(temp),
            Self::Unpacked(_) => Layout::in_chroot(temp),
        }
    }

    /// Makes what has to be there before the files of [`Self::render`]: the root, the directory of
    /// the mail plugins.
    pub(super) fn lay_out(self, layout: &Layout) -> Result<()> {
        match self {
            Self::System23 => link_modules(Path::new(INSTALLED_MODULES), layout.modules()),
            Self::Unpacked(unpacked) => {
                unpacked.copy_root(layout.chroot())?;
                std::fs::create_dir(layout.root())
                    .with_context(|| format!("cannot create `{}`", layout.root().display()))
            }
        }
    }

    /// Whether this Dovecot has to be told of a plugin's settings.
    pub(super) fn has_settings_modules(self) -> bool {
        self.series() == Series::V2_4
    }

    /// One of Dovecot's programs, `dovecot`, `doveadm`, `doveconf` or `dovecot-lda`, see
    /// [`process::detached`].
    pub(super) fn command(self, program: &str, layout: &Layout) -> Command {
        let path = match program {
            "dovecot-lda" => "/usr/lib/dovecot/dovecot-lda",
            "doveadm" => "/usr/bin/doveadm",
            "doveconf" => "/usr/bin/doveconf",
            _ => "/usr/sbin/dovecot",
        };
        match self {
            Self::System23 => process::detached(path),
            Self::Unpacked(_) => {
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
        let (config, users) = match self.series() {
            Series::V2_3 => (
                config_2_3::dovecot_conf(settings, &inside, address)?,
                config_2_3::users(settings, &inside)?,
            ),
            Series::V2_4 => (
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
