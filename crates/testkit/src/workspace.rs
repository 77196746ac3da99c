//! The workspace of the tests: where it lies, and cargo in it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clock;

/// The workspace's root directory.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Tests of an ordinary user run through sudo; what cargo builds has to stay that user's.
fn as_the_user_behind_sudo(cargo: &mut Command) {
    let id = |name: &str| std::env::var(name).ok().and_then(|id| id.parse().ok());
    if let (Some(uid), Some(gid)) = (id("SUDO_UID"), id("SUDO_GID")) {
        cargo.uid(uid).gid(gid);
    }
}

/// Cargo in this workspace, as somebody else than a test would run it.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments).current_dir(root());
    without_package(&mut cargo);
    as_the_user_behind_sudo(&mut cargo);
    clock::true_time(&mut cargo);
    cargo
}

/// Has a command that builds something not hear of the package whose test is run. Build scripts
/// that see another package's variables run again, and all that depends on them is built anew: in
/// each test process, while the others' tests wait or find another binary.
pub fn without_package(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if is_of_a_package(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

/// Whether cargo sets this variable for the package whose test it runs.
fn is_of_a_package(name: &str) -> bool {
    const OF_A_PACKAGE: [&str; 6] = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_CRATE_NAME",
        "CARGO_BIN_",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
    ];
    name == "OUT_DIR" || OF_A_PACKAGE.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn cargo_does_not_hear_of_the_package_under_test() {
        let cargo = cargo(&["--version"]);
        let removed: Vec<&OsStr> = cargo
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name)
            .collect();
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"] {
            assert!(std::env::var_os(name).is_some(), "{name} is not set");
            assert!(removed.contains(&OsStr::new(name)), "{name} is passed on");
        }
        assert!(!is_of_a_package("CARGO_TARGET_DIR"));
        assert!(!is_of_a_package("CARGO_HOME"));
        assert!(!is_of_a_package(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER"
        ));
    }
}
