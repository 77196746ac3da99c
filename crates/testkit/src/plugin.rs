//! The plugin under test, built by cargo from this workspace.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, ensure};

/// File name of the plugin as cargo builds it.
const BUILT_NAME: &str = "libpush_notification_kafka_plugin.so";

/// How the plugin is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As operators get it, but with cargo's dev profile.
    Dev,
    /// As operators get it.
    Release,
    /// Dev, with the option `fault=KIND` that panics in the callback of that kind.
    FaultInjection,
}

/// Builds the plugin, once per test process, and returns the path of a copy that later builds leave alone.
pub fn shared_object(build: Build) -> Result<PathBuf> {
    static BUILT: [OnceLock<PathBuf>; 3] = [const { OnceLock::new() }; 3];
    // All kinds are built into the same file before it is copied.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = &BUILT[build as usize];
    if let Some(path) = slot.get() {
        return Ok(path.clone());
    }
    let path = compile(build)?;
    Ok(slot.get_or_init(|| path).clone())
}

/// The workspace's root directory.
pub fn workspace_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Where cargo puts what it builds.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace_root().join("target"), PathBuf::from)
}

/// Tests of an ordinary user run through sudo; what cargo builds has to stay that user's.
fn as_the_user_behind_sudo(cargo: &mut Command) {
    let id = |name: &str| std::env::var(name).ok().and_then(|id| id.parse().ok());
    if let (Some(uid), Some(gid)) = (id("SUDO_UID"), id("SUDO_GID")) {
        cargo.uid(uid).gid(gid);
    }
}

fn compile(build: Build) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "dovecast-dovecot-plugin"]);
    cargo.current_dir(workspace_root());
    // Set by cargo for this test's own package; the other package must not see them as its own.
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_"))
    {
        cargo.env_remove(name);
    }
    let profile = match build {
        Build::Dev => "debug",
        Build::Release => {
            cargo.arg("--release");
            "release"
        }
        Build::FaultInjection => {
            cargo.args(["--features", "fault-injection"]);
            "debug"
        }
    };
    // Another test process may be building another kind into the same file.
    let lock_path = target_dir().join("testkit.lock");
    let lock = File::create(&lock_path)
        .with_context(|| format!("cannot create `{}`", lock_path.display()))?;
    lock.lock()
        .with_context(|| format!("cannot lock `{}`", lock_path.display()))?;
    as_the_user_behind_sudo(&mut cargo);
    let output = cargo.output().context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "building the plugin ({build:?}) failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let artifact = target_dir().join(profile).join(BUILT_NAME);
    let directory = target_dir()
        .join("testkit")
        .join(format!("{build:?}-{}", std::process::id()));
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let copy = directory.join(BUILT_NAME);
    std::fs::copy(&artifact, &copy)
        .with_context(|| format!("cannot copy {} to {}", artifact.display(), copy.display()))?;
    Ok(copy)
}
