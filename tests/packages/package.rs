//! The packages under test, as `packaging/` builds them, each once.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use dovecast_testkit::{Unavailable, clock, debian, server, workspace};

use crate::root::{Release, said};

/// Names the profile of a package; by default the server is what all other tests run, too.
const PROFILE: &str = "PACKAGE_PROFILE";

/// Which package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Package {
    /// The plugin with librdkafka.
    Plugin,
    /// The plugin for hosts with a relay.
    RelayOnly,
    /// The server, the same for every release.
    Server,
}

impl Package {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plugin => "dovecot-push-notification-kafka",
            Self::RelayOnly => "dovecot-push-notification-kafka-relay",
            Self::Server => "dovecast",
        }
    }

    fn command(self) -> Command {
        let script = |name: &str| Command::new(workspace::root().join(name));
        match self {
            Self::Plugin => script("packaging/build-deb"),
            Self::RelayOnly => {
                let mut command = script("packaging/build-deb");
                command.arg("--relay-only");
                command
            }
            Self::Server => {
                let mut command = script("packaging/build-deb-server");
                // That of the plugin is small, and Dovecot loads it.
                if std::env::var_os(PROFILE).is_none() {
                    command.env(PROFILE, "dev");
                }
                command
            }
        }
    }

    const fn slot(self, release: Release) -> usize {
        match self {
            Self::Plugin => release as usize,
            Self::RelayOnly => 2 + release as usize,
            Self::Server => 4,
        }
    }
}

/// A package for a release's Dovecot, built once.
pub(crate) fn package(package: Package, release: Release) -> Result<Result<PathBuf, Unavailable>> {
    static BUILT: [OnceLock<PathBuf>; 5] = [const { OnceLock::new() }; 5];
    let slot = &BUILT[package.slot(release)];
    if let Some(path) = slot.get() {
        return Ok(Ok(path.clone()));
    }
    Ok(build(package, release)?.map(|path| slot.get_or_init(|| path).clone()))
}

fn build(package: Package, release: Release) -> Result<Result<PathBuf, Unavailable>> {
    let is_packed_as_built = std::env::var(PROFILE).map_or(true, |profile| profile == "dev");
    if package == Package::Server && is_packed_as_built {
        // What is packed.
        server::build(false)?;
    }
    let mut build = package.command();
    if release == Release::Trixie && package != Package::Server {
        match debian::Unpacked::get(&debian::TRIXIE)? {
            Ok(unpacked) => build.env("DOVECOT_SYSROOT", unpacked.dev_sysroot()),
            Err(unavailable) => return Ok(Err(unavailable)),
        };
    }
    let printed = run(&mut build)?;
    let path = printed.lines().last().unwrap_or_default();
    Ok(Ok(workspace::root().join(path)))
}

/// The plugin's package for a Dovecot that has no Debian of its own among [`Release`]; gives what
/// it depends on.
pub(crate) fn dependencies_for(
    release: &'static debian::Release,
) -> Result<Result<String, Unavailable>> {
    let unpacked = match debian::Unpacked::get(release)? {
        Ok(unpacked) => unpacked,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    let directory = tempfile::tempdir()?;
    let mut build = Package::Plugin.command();
    build.arg(directory.path());
    build.env("DOVECOT_SYSROOT", unpacked.dev_sysroot());
    let package = run(&mut build)?;
    let package = package.lines().last().unwrap_or_default();
    let mut field = Command::new("dpkg-deb");
    field.args(["--field", package, "Depends"]);
    Ok(Ok(run(&mut field)?))
}

/// Runs what has to succeed; what it printed.
fn run(command: &mut Command) -> Result<String> {
    let output = workspace::without_package(clock::true_time(command))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", said(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
