//! The plugin under test, built by cargo from this workspace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::dovecot::{Installation, Series};
use crate::process;
use crate::workspace::{cargo, target_dir};

/// File name of the plugin as cargo builds it.
const PLUGIN: &str = "libpush_notification_kafka_plugin.so";
/// File name of the settings module, which the build for Dovecot 2.4 puts beside the plugin.
const SETTINGS: &str = "libpush_notification_kafka_settings.so";

/// How the plugin is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As operators get it, but with cargo's dev profile.
    Dev,
    /// As operators get it.
    Release,
    /// As operators get it who use no Kafka in mail processes: without librdkafka.
    ReleaseRelayOnly,
    /// Dev, with the userdb field `dovecast_fault=KIND` that panics in the callback of that kind.
    FaultInjection,
}

/// What Dovecot loads: copies that later builds leave alone.
#[derive(Clone, Debug)]
pub struct Modules {
    /// The plugin itself; see [`Builder::plugin`](crate::dovecot::Builder::plugin).
    pub plugin: PathBuf,
    /// What tells Dovecot 2.4 the plugin's settings, of the same build; Dovecot 2.3 has nothing
    /// like it.
    pub settings: Option<PathBuf>,
}

/// Builds the plugin for this Dovecot, once per test process.
pub fn modules(on: Installation, build: Build) -> Result<Modules> {
    // Everything is built into the same files before it is copied.
    static BUILT: Mutex<Vec<(Installation, Build, Modules)>> = Mutex::new(Vec::new());
    let mut known = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((.., modules)) = known.iter().find(|entry| (entry.0, entry.1) == (on, build)) {
        return Ok(modules.clone());
    }
    let modules = compile(on, build)?;
    known.push((on, build, modules.clone()));
    Ok(modules)
}

/// The plugin for the Dovecot installed on this machine; see [`modules`].
pub fn shared_object(build: Build) -> Result<PathBuf> {
    Ok(modules(Installation::default(), build)?.plugin)
}

/// `cargo build` of the plugin, for the headers of this Dovecot.
fn cargo_build(on: Installation, build: Build) -> Command {
    let mut cargo = cargo(&["build", "--quiet", "--package", "dovecast-dovecot-plugin"]);
    match build {
        Build::Dev => &mut cargo,
        Build::Release => cargo.arg("--release"),
        Build::ReleaseRelayOnly => cargo.args(["--release", "--no-default-features"]),
        Build::FaultInjection => cargo.args(["--features", "fault-injection"]),
    };
    if let Installation::Unpacked(unpacked) = on {
        cargo.env("DOVECOT_SYSROOT", unpacked.dev_sysroot());
        cargo.env_remove("DOVECOT_CONFIG");
    }
    cargo
}

fn compile(on: Installation, build: Build) -> Result<Modules> {
    // Another test process may be building another kind into the same files.
    let lock_path = target_dir().join("testkit.lock");
    let lock = File::create(&lock_path)
        .with_context(|| format!("cannot create `{}`", lock_path.display()))?;
    lock.lock()
        .with_context(|| format!("cannot lock `{}`", lock_path.display()))?;
    let output = cargo_build(on, build)
        .output()
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "building the plugin ({build:?}, Dovecot {}) failed: {}",
        on.version(),
        String::from_utf8_lossy(&output.stderr)
    );
    let profile = match build {
        Build::Release | Build::ReleaseRelayOnly => "release",
        Build::Dev | Build::FaultInjection => "debug",
    };
    let artifacts = target_dir().join(profile);
    let copies = target_dir().join("testkit");
    remove_left_behind(&copies);
    let directory = copies.join(format!("{build:?}-{}-{}", on.version(), std::process::id()));
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let plugin = copy(&artifacts.join(PLUGIN), &directory)?;
    check_version(&plugin, on)?;
    let settings = match on.series() {
        Series::V2_3 => None,
        Series::V2_4 => Some(copy(&artifacts.join(SETTINGS), &directory)?),
    };
    Ok(Modules { plugin, settings })
}

fn copy(artifact: &Path, directory: &Path) -> Result<PathBuf> {
    let name = artifact.file_name().context("a file has a name")?;
    let copy = directory.join(name);
    fs::copy(artifact, &copy)
        .with_context(|| format!("cannot copy {} to {}", artifact.display(), copy.display()))?;
    Ok(copy)
}

/// A cargo that somebody else ran may have built for the other version before the file was copied.
fn check_version(plugin: &Path, on: Installation) -> Result<()> {
    let abi = on.abi();
    let bytes = fs::read(plugin).with_context(|| format!("cannot read `{}`", plugin.display()))?;
    ensure!(
        bytes
            .windows(abi.len())
            .any(|window| window == abi.as_bytes()),
        "`{}` was built for another Dovecot than {}: something else builds in this workspace",
        plugin.display(),
        on.version()
    );
    Ok(())
}

/// Removes the copies of test processes that are gone: 20 MB each. That it may fail matters to
/// nobody.
fn remove_left_behind(copies: &Path) {
    for entry in fs::read_dir(copies).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.rsplit('-').next().and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| !process::is_running(pid)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
